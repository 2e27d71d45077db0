"""The command line, end to end, on a small real study: the same bytes, and no call that the store has already."""

import json

from tiny_study import (
    calls_of,
    environment,
    finish,
    lines_of,
    prompt,
    prompts,
    start,
    stored_keys,
    study,
    write_lines,
    write_study,
)

MODELS = 5
TEMPERATURES = 2


def run(folder, cache, *arguments):
    log = folder / "calls.log"
    before = len(lines_of(log))
    env = environment(cache, log=log)
    code, out, err = finish(
        start("run", "study.yaml", "--out", "out", *arguments, env=env, cwd=folder)
    )
    assert code == 0, err
    return out, lines_of(log)[before:]


def made(lines, kind):
    return [key for _, found, key in lines if found == kind]


def test_a_study_runs_through_every_stage(finished_study):
    told = json.loads(finished_study.result)
    assert [model["name"] for model in told["models"]] == [
        "base", "help/seed1", "help/seed2", "help+safety/seed1", "help+safety/seed2",
    ]  # fmt: skip
    assert len({model["identity"]["weights"] for model in told["models"]}) == MODELS
    assert all(model["probe"]["largest_change"] > 0 for model in told["models"][1:])
    assert told["prompts"]["count"] == len(prompts())
    asked = calls_of(finished_study.log, "generate")
    assert len(asked) == len(set(asked)) == len(prompts()) * MODELS * TEMPERATURES
    everything = set(calls_of(finished_study.log, "generate", "judge", "guard"))
    assert everything == stored_keys(finished_study.folder / "out" / "store.sqlite")
    assert "help+safety" in finished_study.printed
    assert "report.html" in finished_study.printed


def test_rules_that_decide_give_a_non_refusal_rate(finished_study):
    assert json.loads(finished_study.result)["result"]["name_rate"] == "non-refusal rate"


def test_two_runs_in_fresh_folders_give_the_same_bytes(finished_study, tiny_folder, tmp_path):
    run(tiny_folder, tmp_path / "another cache")
    assert (tiny_folder / "out" / "result.json").read_bytes() == finished_study.result


def test_a_finished_study_does_no_model_work_and_prints_the_same(
    finished_study, copied, tiny_cache
):
    (copied / "out" / "result.json").unlink()
    printed, lines = run(copied, tiny_cache, "--json", "again.json")
    assert {kind for _, kind, _ in lines} == {"write", "written"}
    assert printed == finished_study.printed
    assert (copied / "out" / "result.json").read_bytes() == finished_study.result
    assert (copied / "again.json").read_bytes() == finished_study.result


def test_a_judge_and_a_prompt_cost_what_is_new(copied, tiny_cache):
    """A judge with a call of its own reads everything; then one more prompt is asked of every model, and nothing else."""
    store = copied / "out" / "store.sqlite"
    before = stored_keys(store)
    (trained,) = (copied / "out" / "models").glob("help-seed1-*")
    options = {"model": str(trained.relative_to(copied))}
    second = {"name": "second", "use": "spine_plugins:likelihood", "options": options}
    judges = [*study()["judges"], second]
    write_study(copied, judges=judges)
    _, lines = run(copied, tiny_cache)
    assert not made(lines, "generate")
    assert not made(lines, "guard")
    assert not made(lines, "train")
    assert len(made(lines, "judge")) > 100
    assert not before & set(made(lines, "judge"))

    before = stored_keys(store)
    write_lines(
        copied / "questions.jsonl", [*prompts(), prompt(9, "send", "knife", "text", "harmful")]
    )
    _, lines = run(copied, tiny_cache)
    assert len(made(lines, "generate")) == MODELS * TEMPERATURES
    assert not made(lines, "train")
    asked = [key for kind in ("generate", "judge", "guard") for key in made(lines, kind)]
    assert len(asked) == len(set(asked))
    assert not before & set(asked)


def test_a_guard_that_fails_is_undecided_and_asked_again(copied, tiny_cache):
    words = {
        "name": "words",
        "use": "spine_plugins:words",
        "options": {"block": ["card", "book"], "down": "down"},
    }
    write_study(copied, guards=[words])
    (copied / "down").touch()
    _, lines = run(copied, tiny_cache)
    failed = json.loads((copied / "out" / "result.json").read_text())
    sent = set(made(lines, "guard"))
    (copied / "down").unlink()
    _, lines = run(copied, tiny_cache)
    mended = json.loads((copied / "out" / "result.json").read_text())
    again = set(made(lines, "guard"))
    assert again
    assert again < sent, "the side that was answered is not asked again"
    assert not made(lines, "generate")
    assert undecided_behind(failed) > 0 == undecided_behind(mended)
    assert any("guard words:response" in note and "run again" in note for note in failed["notes"])
    assert not mended["notes"]


def undecided_behind(told):
    return sum(
        condition["guards"]["words"]["asr"]["overall"]["undecided"]
        for setting in told["result"]["settings"]
        for condition in setting["conditions"]
    )
