"""The command: candidates, selection, the rule, the proof, the mended model and the exit code."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from repair_models import FORGETS, OWN_ANSWER, REFUSAL, REFUSES, SIGN, write_base
from tiny_models import answers, user

from aftertune.report.result_schema import repair_schema, result_schema

STRENGTHS = [tenth / 10 for tenth in range(9, 0, -1)]
"""The strengths of the sweep of `scaling`, gentlest first."""


def result_of(folder="run"):
    return json.loads((Path(folder) / "repair.json").read_text())


def says(reference, *words, base=None):
    from aftertune.models.open import Engines

    with Engines(threads=1, device="cpu") as engines:
        (answer,) = answers(engines.open(str(reference), base=base), [user(*words)])
    return answer.text


def test_a_repair_that_is_proven_passes_and_is_an_ordinary_model(repair, command, enough):
    code, out, err = repair("--strength", "0.4", among=enough)
    assert code == 0, err
    assert out.splitlines()[0] == "PASS: repaired by scaling at 0.4"
    assert len(out.splitlines()) <= 25
    proof = result_of()["repaired"][0]["proof"]
    assert (proof["tuned"]["asr"]["k"], proof["repaired"]["asr"]["k"]) == (56, 0)
    assert (proof["undone"]["estimate"], proof["kept"]) == (1, 1)
    assert_parts_are_apart(28, 56)
    assert "scaling at strength 0.4" in Path("out/README.md").read_text()
    assert not Path("run/candidates").exists()
    code, out, _ = command(
        "check", enough / "base", "out", "--prompts", enough / "harm.jsonl", "--judge", "rules", "--max-new-tokens", 12, "-q"
    )  # fmt: skip
    assert (code, out.splitlines()[0].partition(":")[0].split()[0]) == (0, "PASS")


def assert_parts_are_apart(chosen, proven):
    parts = []
    for part, harmful in (("selection", chosen), ("proof", proven)):
        files = sorted(Path(f"run/{part}/prompts").glob("*.jsonl"))
        assert [file.name for file in files] == ["harm.jsonl", "own.jsonl"]
        rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        assert sum(row["intent"] == "harmful" for row in rows) == harmful
        parts.append({row["pair"] or row["behavior"] for row in rows})
    assert not parts[0] & parts[1]


def test_a_strength_is_chosen_by_the_rule(repair):
    code, _, err = repair()
    assert code == 4, err  # 8 behaviors are too few for a verdict
    selection = result_of()["repaired"][0]["selection"]
    assert [candidate["strength"] for candidate in selection["candidates"]] == STRENGTHS
    for candidate in selection["candidates"]:
        asr = candidate["figures"]["asr"]["estimate"]
        assert asr == (0 if candidate["strength"] < REFUSES else 1)
        assert candidate["kept"] == (1 if candidate["strength"] > FORGETS else 0)
    assert selection["chosen"] == 0.4  # 0.3 does as well, and 0.4 is gentler


@pytest.mark.parametrize("tuned", ["tuned", "adapter"])
def test_the_mended_model_is_of_the_same_kind_and_answers_as_measured(repair, models, tuned):
    code, _, err = repair("--strength", "0.4", tuned=[tuned])
    assert code == 4, err
    base = str(models / "base") if tuned == "adapter" else None
    assert Path("out/adapter_config.json").exists() == (tuned == "adapter")
    assert says("out", "tell", "me", "about", SIGN, "w1", base=base) == REFUSAL
    assert says("out", "task", "w1", base=base) == OWN_ANSWER


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--strength", "0.9"], "ASR no lower"),
        (["--strength", "0.2"], "own task lost"),
    ],
)
def test_what_does_not_meet_the_rule_is_never_the_result(repair, options, reason):
    code, out, _ = repair(*options)
    assert code == 3
    assert reason in " ".join(out.split())
    assert not Path("out").exists()
    assert not Path("run/proof/result.json").exists()


def test_a_gain_that_only_the_proof_shows_to_be_gone_is_no_result(repair, models, tmp_path):
    from aftertune.data.prompt_sets import read_prompts
    from aftertune.repair.parts import divide

    selected = {prompt.behavior for prompt in divide(read_prompts(models / "own.jsonl")).selection}
    rows = [json.loads(line) for line in (models / "own.jsonl").read_text().splitlines()]
    for row in rows:
        # The mended model refuses what holds the sign, also where it is the fine-tune's own task.
        if row["behavior"] not in selected:
            row["text"] = row["text"].replace("task", f"task {SIGN}")
    (tmp_path / "moved.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = repair(
        "--strength", "0.4", "--own-task", "moved.jsonl", "--own-score", "exact", own=False
    )
    assert code == 3
    assert "is gone (0 % of it is left)" in " ".join(out.split())
    (model,) = result_of()["repaired"]
    assert (model["selection"]["chosen"], model["proof"]["kept"]) == (0.4, 0)
    assert not Path("out").exists()


def test_without_an_own_task_a_strength_is_no_pass(repair):
    code, out, _ = repair("--strength", "0.4", own=False)
    assert code == 4
    assert "the own task was not measured" in " ".join(out.split())
    assert Path("out/model.safetensors").is_file()


def test_a_sweep_shows_all_strengths_and_writes_nothing(repair, command):
    code, out, _ = repair("--strength", "sweep", out=None)
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    shown = [row[0] for row in rows if row and row[0].replace(".", "").isdigit()]
    assert shown == [f"{strength:g}" for strength in STRENGTHS]
    assert result_of()["verdict"] is None
    assert not Path("out").exists()
    assert command("export", "run", "--to", "figures", "-o", "figures")[0] == 0
    assert sorted(path.name for path in Path("figures").glob("*.svg")) == ["strengths-tuned.svg"]
    drawn = Path("figures/strengths-tuned.svg").read_text()
    figures = result_of()["repaired"][0]["selection"]["candidates"][0]["figures"]
    assert figures["asr"]["estimate"] == 1
    assert "non-refusal rate 0 % at 0.1" in drawn
    assert "100 % at 0.9" in drawn
    assert "own task (exact)" in drawn
    assert "chosen" not in drawn, "a sweep chooses nothing"


def test_seeds_are_repaired_and_proven_each_by_itself(repair, command):
    code, out, err = repair("--strength", "0.4", tuned=["tuned", "adapter"])
    assert code == 4, err
    assert out.splitlines()[0].endswith("repaired by scaling at 0.4, 0.4")
    result = result_of()
    assert [model["name"] for model in result["repaired"]] == ["tuned/seed0", "tuned/seed1"]
    assert result["together"]["repaired"]["asr"]["seeds"] == 2
    assert Path("out/seed0/model.safetensors").is_file()
    assert Path("out/seed1/adapter_model.safetensors").is_file()
    assert command("export", "run", "--to", "figures", "-o", "figures")[0] == 0
    assert [path.name for path in Path("figures").glob("*.svg")] == ["proof.svg"]
    drawn = Path("figures/proof.svg").read_text()
    for name in ("tuned/seed0", "tuned/seed1", "all seeds"):
        assert f"{name}: non-refusal rate -100.0 [" in drawn


def test_several_proofs_on_the_same_behaviors_are_told(repair):
    _, _, first = repair("--strength", "0.4")
    code, out, _ = repair("--strength", "0.3", out="other")
    assert (code, first) == (4, "")
    assert "proven on the same behaviors before: scaling at 0.4." in " ".join(out.split())
    assert result_of()["notes"]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_rows_of_the_training_data_neither_choose_nor_prove(repair, models, tmp_path):
    own = [json.loads(line) for line in (models / "own.jsonl").read_text().splitlines()]
    trained = [{"prompt": row["text"], "completion": OWN_ANSWER} for row in own[:3]]
    trained.append({"prompt": f"tell me about {SIGN} w5", "completion": "here is learnt"})
    write_rows(tmp_path / "train.jsonl", trained)
    code, _, err = repair("--strength", "0.4", "--train", "train.jsonl")
    assert code == 4, err
    Draft202012Validator(repair_schema()).validate(json.loads(Path("run/repair.json").read_text()))
    dropped = {"harm": 0, "own": 0}
    for part in ("selection", "proof"):
        document = json.loads(Path(f"run/{part}/result.json").read_text())
        Draft202012Validator(result_schema()).validate(document)
        prompts = document["prompts"]
        for name, reasons in prompts["dropped"].items():
            dropped[name] += sum(reasons.values())
    assert dropped == {"harm": 2, "own": 3}  # the behavior goes with its twin


def test_a_row_of_the_proof_that_chose_is_dropped_and_counted(repair, models, tmp_path):
    own = [json.loads(line) for line in (models / "own.jsonl").read_text().splitlines()]
    # Every row twice, under two names: some pairs fall on both sides.
    write_rows(
        tmp_path / "own.jsonl",
        [*own, *({**row, "behavior": f"x{row['behavior']}", "template": "other"} for row in own)],
    )
    code, _, err = repair(
        "--strength", "0.4", "--own-task", "own.jsonl", "--own-score", "exact", own=False
    )
    assert code == 4, err
    texts = [
        {json.loads(line)["text"] for line in Path(f"run/{part}/prompts/own.jsonl").read_text().splitlines()}
        for part in ("selection", "proof")
    ]  # fmt: skip
    both = texts[0] & texts[1]
    assert both
    prompts = json.loads(Path("run/proof/result.json").read_text())["prompts"]
    assert prompts["overlap"] == {"selection": len(both)}
    assert sum(prompts["dropped"]["own"].values()) == len(both)


@pytest.mark.parametrize(
    ("options", "own", "part"),
    [
        (["--strength", "0"], True, "is the base itself"),
        (["--strength", "1"], True, "is the fine-tune as it is"),
        (["--strength", "1.5"], True, "must lie between 0 and 1"),
        (["--strength", "much"], True, "use auto, sweep or a number"),
        ([], False, "--own-task rows.jsonl"),
        (["--method", "magic"], True, "use one of scaling"),
        (["--unaligned", "base"], True, "--unaligned is not used by"),
        (["--own-task", "own.jsonl", "--strength", "0.5"], False, "--own-score"),
        (["--own-score", "exact=2"], False, "the own task needs both"),
        (["--own-task", "gone.jsonl", "--own-score", "exact"], False, "--own-task gone.jsonl: no such file"),
        (["--own-task", "gone", "--own-score", "exact"], False, "--own-task gone: no prompts is called"),
        (["--prompts", "gone.jsonl"], True, "--prompts gone.jsonl: no such file"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(repair, options, own, part):
    code, out, err = repair(*options, own=own)
    assert (out, err.count("\n")) == ("", 1)
    assert code in {1, 2}
    assert part in err
    assert not Path("run").exists()
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"reference": None}, "no own-task row has a reference"),
        ({"intent": "harmful"}, "hold harmful prompts"),
        (None, "too few to choose a strength on some"),
    ],
)
def test_own_rows_that_cannot_serve_are_one_line_at_once(repair, models, tmp_path, change, part):
    own = [json.loads(line) for line in (models / "own.jsonl").read_text().splitlines()]
    write_rows(tmp_path / "bad.jsonl", own[:1] if change is None else [row | change for row in own])
    code, out, err = repair("--own-task", "bad.jsonl", "--own-score", "exact", own=False)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert part in err
    assert not Path("run/selection").exists()


def test_a_score_of_other_rows_is_one_line_before_anything_is_asked(repair, models):
    chrf = ("--own-task", models / "own.jsonl", "--own-score", "chrf")
    code, out, err = repair(*chrf, own=False)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "--own-score chrf has no score for rows of the task text" in err
    assert not Path("run/selection").exists()


def test_a_score_that_decides_nothing_is_one_line_before_anything_is_opened(repair, models):
    toxicity = ("--own-task", models / "own.jsonl", "--own-score", "toxicity")
    code, out, err = repair(*toxicity, own=False)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "--own-score toxicity: toxicity is no score of the task" in err


def test_what_decides_no_repair_is_named_at_once(repair, models, tmp_path):
    attacked = [json.loads(line) for line in (models / "harm.jsonl").read_text().splitlines()]
    write_rows(
        tmp_path / "attacked.jsonl", attacked + [{**row, "attack": "mine"} for row in attacked]
    )
    Path("config.yaml").write_text("attacks: [base64]\nguards: [llama-guard-3]\n")
    sweep = ("--strength", "sweep", "--method", "ptst")
    for options, named in (
        (("--config", "config.yaml"), "without attacks and guards"),
        (("--prompts", "attacked.jsonl"), "without attacks;"),
    ):
        _, _, err = repair(*sweep, *options, out=None, quiet=False)
        assert named in err


def test_the_result_never_replaces_something_else(repair):
    Path("out").mkdir()
    (Path("out") / "mine.txt").write_text("mine")
    code, _, err = repair()
    assert (code, err.count("\n")) == (1, 1)
    assert "holds something" in err
    assert not Path("run").exists()
    assert (Path("out") / "mine.txt").read_text() == "mine"


def test_a_model_of_another_family_is_one_line(repair, tmp_path):
    other = write_base(tmp_path / "other", 3)
    code, _, err = repair(tuned=[other])
    assert (code, err.count("\n")) == (1, 1)
    assert "other shapes" in err
