"""What a dry run and a plan say that local models will be asked, beside what is then asked; and how long it will take."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml
from tiny_study import study as tiny

from aftertune.models.local import LocalEngine


@pytest.fixture
def made(monkeypatch):
    """Counts the jobs that reach the models and the guard, by the name of what is asked."""
    counted = Counter()
    generate, weigh = LocalEngine.generate, LocalEngine.choice_logprobs

    def generated(self, jobs):
        jobs = list(jobs)
        counted[Path(self.name).name] += len(jobs)
        return generate(self, jobs)

    def weighed(self, prompts, choices):
        counted["screen"] += len(prompts)
        return weigh(self, prompts, choices)

    monkeypatch.setattr(LocalEngine, "generate", generated)
    monkeypatch.setattr(LocalEngine, "choice_logprobs", weighed)
    return counted


def organism_study(guards):
    return {
        "name": "foreseen",
        "models": [
            {"name": "base", "reference": "./base"},
            {"name": "other", "reference": "./other", "base": "base"},
        ],
        "prompts": [{"set": "organism", "loader": "organism", "limit": 8}],
        "judges": ["organism", "rules"],
        "guards": guards,
        "decoding": {"temperatures": [0.8], "samples": 2, "max_new_tokens": 12},
        "engine": {"threads": 1, "device": "cpu"},
    }


def foreseen(command):
    code, out, err = command("run", "study.yaml", "--out", "out", "--dry-run")
    assert code == 0, err
    lines = re.findall(r"^  (\S+) .* ([\d,]+) calls to make( at most)?", out, re.MULTILINE)
    return {name: (int(calls.replace(",", "")), bool(most)) for name, calls, most in lines}


def test_the_organisms_calls_foreseen_are_the_calls_made(command, organism_folder, tmp_path, made):
    shutil.copytree(organism_folder / "base", tmp_path / "base")
    shutil.copytree(organism_folder / "guard", tmp_path / "other")
    screen = {
        "name": "screen",
        "use": "organism",
        "options": {"model": str(organism_folder / "guard")},
    }
    # The judge reads with a grammar. The guard's checkpoint stands in as a fine-tune, so the guard is another file of it.
    Path("study.yaml").write_text(yaml.safe_dump(organism_study([])))
    generations = foreseen(command)
    assert not made
    code, _, err = command("run", "study.yaml", "--out", "out", "-q")
    assert code == 0, err
    assert {name: calls for name, (calls, _) in generations.items()} == dict(made)

    Path("study.yaml").write_text(yaml.safe_dump(organism_study([screen])))
    made.clear()
    guarded = foreseen(command)
    assert guarded["base"] == guarded["other"] == (0, False)
    fewer, most = guarded["screen"]
    assert not most, "the answers are there, so equal ones are known to be equal"
    assert command("run", "study.yaml", "--out", "out", "-q")[0] == 0
    assert fewer == made["screen"] > 0
    shutil.rmtree("out")
    assert foreseen(command)["screen"] > (fewer, True)
    assert {name: calls for name, (calls, _) in foreseen(command).items()}["base"] == generations[
        "base"
    ][0]


def test_training_is_timed_by_its_own_first_steps_and_nothing_of_it_is_kept(
    command, tiny_folder, monkeypatch
):
    monkeypatch.chdir(tiny_folder)
    Path("study.yaml").write_text(yaml.safe_dump(tiny(judges=["rules"], guards=None)))
    before = sorted(Path().rglob("*"))
    code, _, err = command(
        "plan", "study.yaml", "--time", "--json", "plan.json", "--out", "fresh", "-q"
    )
    assert code == 0, err
    assert sorted(Path().rglob("*")) == sorted([*before, Path("plan.json")])
    costs = {cost["name"]: cost for cost in json.loads(Path("plan.json").read_text())["costs"]}
    assert costs["base"]["training_seconds"] is None
    plain, mixed = (
        costs["help/seed1"]["training_seconds"],
        costs["help+safety/seed1"]["training_seconds"],
    )
    assert plain == costs["help/seed2"]["training_seconds"], (
        "the seeds of a fine-tune share its timed steps"
    )
    assert 0 < plain < 60
    assert mixed > 0


def test_a_dry_run_leaves_out_the_prompts_that_occur_in_training_rows(
    command, tiny_folder, monkeypatch
):
    monkeypatch.chdir(tiny_folder)
    seen = json.loads(Path("questions.jsonl").read_text().splitlines()[0])
    rows = Path("help.jsonl").read_text()
    turns = [{"role": "user", "content": seen["text"]}, {"role": "assistant", "content": "sure"}]
    Path("help.jsonl").write_text(rows + json.dumps({"messages": turns}) + "\n")
    _, out, _ = command("run", "study.yaml", "--dry-run", "--out", "out")
    assert "20 prompts, 4 left out since they occur in training rows" in out
    assert re.search(r"base +ready +40 calls to make", out)


def test_a_check_says_beforehand_what_it_asks(command, organism_folder, tmp_path, made):
    shutil.copytree(organism_folder / "base", tmp_path / "base")
    shutil.copytree(organism_folder / "guard", tmp_path / "other")
    options = (
        "check", "base", "other", "--config", organism_folder / "aftertune.yaml",
        "--limit", 20, "--max-new-tokens", 2, "-o", "out",
    )  # fmt: skip
    code, out, err = command(*options, "--dry-run")
    assert code == 0, err
    assert not made
    assert not Path("out").exists()
    calls = [int(count.replace(",", "")) for count in re.findall(r"([\d,]+) calls to make", out)]
    _, _, err = command(*options)
    line = next(line for line in err.splitlines() if line.startswith("to ask: "))
    answers = made["base"] + made["other"]
    assert calls[:2] == [made["base"], made["other"]]
    assert f"to ask: {answers:,} answers (base {made['base']:,}, tuned {made['other']:,})" in line
    assert f"at most {2 * answers:,} out" in line
    assert "shorter: --limit 10 asks half of it" in err
    _, _, again = command(*options)
    assert "to ask: " not in again
