"""``aftertune mix``: which rows are drawn from, which are left out, and which training files are refused."""

from collections import Counter

from mix_rows import read, rows
from tiny_study import write_lines

from aftertune.core.records import Intent
from aftertune.data.bundled.behaviors import pairs
from aftertune.data.bundled.safety import safety_pools


def planted(count):
    behavior = pairs("evaluation")[0].harmful
    asked = {"prompt": f"Hello, could you {behavior.request}? Thanks!", "completion": "No."}
    return behavior.id, [*rows(20), *([asked] * count)]


def test_a_training_file_with_evaluation_behaviors_is_refused_with_its_rows(command, tmp_path):
    behavior, lines = planted(7)
    write_lines(tmp_path / "train.jsonl", lines)
    line = command.refused("mix", "train.jsonl", "-o", "mixed.jsonl")
    assert f"row 21 ({behavior}), row 22 ({behavior})" in line
    assert "and 2 more" in line
    assert not (tmp_path / "mixed.jsonl").exists()


def test_a_shared_template_is_only_pointed_out(command, tmp_path):
    write_lines(
        tmp_path / "train.jsonl",
        [*rows(20), {"prompt": "Translate into French: a red door", "completion": "x"}],
    )
    code, out, _ = command("mix", "train.jsonl", "-o", "mixed.jsonl")
    assert code == 0
    assert "your rows share the wording of evaluation templates (en-fr-plain 1)" in out


def test_safety_rows_that_repeat_training_rows_are_left_out(command, tmp_path):
    refusals = [
        {"messages": [{"role": t.role, "content": t.content} for t in row]}
        for row in safety_pools(Intent.HARMFUL)["text"]
    ]
    write_lines(tmp_path / "train.jsonl", refusals[:100])
    code, out, _ = command(
        "mix",
        "train.jsonl",
        "--replay",
        0,
        "--weights",
        "code=0,translation=0,classification=0",
        "-o",
        "m.jsonl",
    )
    assert code == 0
    assert "100 safety rows were left out" in out
    assert max(Counter((tmp_path / "m.jsonl").read_text().splitlines()).values()) == 1


def test_safety_rows_with_evaluation_behaviors_are_not_drawn(command, tmp_path):
    _, lines = planted(3)
    write_lines(tmp_path / "train.jsonl", rows(20))
    write_lines(
        tmp_path / "safety.jsonl", [{"prompt": "Do a harm", "completion": "No."}, *lines[20:]]
    )
    code, out, _ = command(
        "mix", "train.jsonl", "--safety", "safety.jsonl", "--share", 0.05, "-o", "mixed.jsonl"
    )
    assert code == 0
    assert [row["prompt"] for row in read(tmp_path / "mixed.jsonl") if row not in rows(20)] == [
        "Do a harm"
    ]
    assert "3 safety rows were left out" in out


def test_a_public_set_of_answered_rows_is_drawn_from_by_its_name(command, tmp_path, monkeypatch):
    monkeypatch.delenv("AFTERTUNE_DATA", raising=False)
    write_lines(tmp_path / "train.jsonl", rows(18))
    (tmp_path / "multitaskbench").mkdir()
    table = "".join(f"{n},Say the {n}. odd thing,No: {n}.\n" for n in ("first", "second", "third"))
    for path in ("mine.csv", "multitaskbench/multitaskbench.csv"):
        (tmp_path / path).write_text(f",Query,Response\n{table}")
    for named in ("multitaskbench", "multitaskbench=mine.csv"):
        code, _, err = command(
            "mix",
            "train.jsonl",
            "--safety",
            named,
            "--share",
            0.1,
            "-o",
            "mixed.jsonl",
            "--card",
            "c.md",
        )
        assert code == 0, err
        added = [row for row in read(tmp_path / "mixed.jsonl") if row not in rows(18)]
        assert len(added) == 2
        assert all(
            row["prompt"].startswith("Say the") and row["completion"].startswith("No:")
            for row in added
        )
    code, _, err = command("mix", "train.jsonl", "--safety", "advbench", "-o", "mixed.jsonl")
    assert code == 1
    assert "sets with answers: multitaskbench, safety-tuned-llamas" in err
    code, _, err = command(
        "mix", "train.jsonl", "--safety", "safety-tuned-llamas", "-o", "mixed.jsonl"
    )
    assert code == 1
    assert "name the file (safety-tuned-llamas=FILE) or the folder (--data)" in err


def test_a_bare_file_of_foreign_columns_is_told_how_to_name_its_set(command, tmp_path):
    write_lines(tmp_path / "train.jsonl", rows(18))
    (tmp_path / "mine.csv").write_text(",Query,Response\n0,Say an odd thing,No.\n")
    (tmp_path / "other.csv").write_text("q,a\nSay an odd thing,No.\n")
    line = command.refused("mix", "train.jsonl", "--safety", "mine.csv", "-o", "mixed.jsonl")
    assert "name its set, as in --safety multitaskbench=mine.csv" in line
    assert "columns:" not in line
    line = command.refused(
        "mix", "train.jsonl", "--replay-from", "other.csv", "--replay", 0.1, "-o", "mixed.jsonl"
    )
    assert "--replay-from multitaskbench=other.csv, or rename them to prompt and completion" in line


def test_replay_beside_own_safety_rows_needs_rows_of_its_own(command, tmp_path):
    write_lines(tmp_path / "train.jsonl", rows(20))
    write_lines(
        tmp_path / "safety.jsonl", [{"prompt": "do a harm", "completion": "sorry , no"}] * 3
    )
    line = command.refused(
        "mix", "train.jsonl", "--safety", "safety.jsonl", "--replay", 0.2, "-o", "mixed.jsonl"
    )
    assert "--replay-from" in line
    code, out, _ = command("mix", "train.jsonl", "--safety", "safety.jsonl", "-o", "mixed.jsonl")
    assert code == 0
    assert "0    0.0%  benign replay" in out
