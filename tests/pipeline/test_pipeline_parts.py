"""Four processes share a study, one is killed and started again; their merged stores give the result of the straight run."""

import signal
import time
from collections import Counter

import pytest
from tiny_study import calls_of, environment, finish, kill, start, stored_keys

from aftertune.core.recipe import StudyModel
from aftertune.core.records import Intent, Prompt
from aftertune.errors import InputError
from aftertune.execute.parts import Part

PARTS = 4
WORK = ("train", "generate", "judge", "guard")


def run_parts(folder, cache, log):
    """Run all parts at once; the second is killed after its first answers and run again.

    Return the keys that the killed part had committed, and how the parts ended.
    """
    env = environment(cache, log=log)
    slow = environment(cache, log=log, pace=0.1)
    words = [
        ("run", "study.yaml", "--out", "out", "--part", f"{n}/{PARTS}") for n in range(1, PARTS + 1)
    ]
    processes = [
        start(*part, env=slow if number == 1 else env, cwd=folder)
        for number, part in enumerate(words)
    ]
    store = folder / "out" / "parts" / f"2-of-{PARTS}" / "store.sqlite"
    while processes[1].poll() is None and not stored_keys(store):
        time.sleep(0.05)
    kill(processes[1], signal.SIGKILL)
    finish(processes[1])
    committed = stored_keys(store)
    processes[1] = start(*words[1], env=env, cwd=folder)
    return committed, [finish(process) for process in processes]


def test_parts_give_the_result_of_one_run(tiny_folder, tiny_cache, finished_study):
    log = tiny_folder / "calls.log"
    committed, ends = run_parts(tiny_folder, tiny_cache, log)
    for code, out, err in ends:
        assert code == 0, err
        assert "aftertune store merge out/store.sqlite" in out
    env = environment(tiny_cache, log=log)
    stores = sorted((tiny_folder / "out" / "parts").glob("*/store.sqlite"))
    assert len(stores) == PARTS
    asked = calls_of(log, *WORK)
    trained, answers = (Counter(calls_of(log, kind)) for kind in ("train", "generate"))
    assert set(trained.values()) == {1}  # no part does the work of another one
    assert {key for key, times in answers.items() if times > 1}.isdisjoint(committed)
    assert (
        sum(answers.values()) - len(answers) < 20
    )  # those that waited for their commit when it was killed
    merge = ("store", "merge", "out/store.sqlite", *map(str, stores))
    for _ in range(2):  # merging twice does no harm
        code, out, err = finish(start(*merge, env=env, cwd=tiny_folder))
        assert code == 0, err
    code, _, err = finish(start("run", "study.yaml", "--out", "out", env=env, cwd=tiny_folder))
    assert code == 0, err
    assert (tiny_folder / "out" / "result.json").read_bytes() == finished_study.result
    assert calls_of(log, *WORK) == asked


def behavior(number, intent):
    name = f"b{number}"
    return Prompt(
        behavior=name if intent is Intent.HARMFUL else f"{name}-twin",
        template="t", task="text", intent=intent, text=f"{name} {intent}", set="s", pair=name,
    )  # fmt: skip


@pytest.mark.parametrize("of", [1, 3, 8])
def test_every_prompt_belongs_to_one_part_and_a_twin_to_that_of_its_behavior(of):
    parts = [Part(number, of) for number in range(1, of + 1)]
    prompts = [
        behavior(number, intent)
        for number in range(200)
        for intent in (Intent.HARMFUL, Intent.BENIGN)
    ]
    shares = [part.behaviors(prompts) for part in parts]
    assert set().union(*shares) == {("s", f"b{number}") for number in range(200)}
    sizes = [len(share) for share in shares]
    assert sum(sizes) == 200
    assert max(sizes) - min(sizes) <= 1
    assert parts[-1].behaviors(reversed(prompts)) == shares[-1]


def test_models_that_are_there_are_trained_by_nobody():
    model = StudyModel(name="base", condition="base", reference="base")
    assert Part(1, 2).trains([model]) == set()


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "a/b", "1/99999", "-1/4"])
def test_no_part_is_said(text):
    with pytest.raises(InputError, match="--part"):
        Part.parse(text)


def test_a_merge_with_what_is_no_store_makes_none(command, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing of a store\n")
    assert "is not an Aftertune store" in command.refused(
        "store", "merge", "all.sqlite", "notes.txt"
    )
    assert not list(tmp_path.glob("all.sqlite*"))
