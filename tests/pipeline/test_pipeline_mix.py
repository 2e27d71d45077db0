"""``aftertune mix`` with the bundled safety rows and with a user's own."""

import json

from tiny_study import write_lines


def rows(count):
    return [{"prompt": f"Summarise note number {n} for me.", "completion": f"Note {n}."} for n in range(count)]


def test_the_bundled_rows_make_their_shares_of_the_final_file(command, tmp_path):
    write_lines(tmp_path / "train.jsonl", rows(700))
    code, out, err = command("mix", "train.jsonl", "--share", 0.15, "--replay", 0.15, "-o", "mixed.jsonl")
    assert code == 0, err
    mixed = [json.loads(line) for line in (tmp_path / "mixed.jsonl").read_text().splitlines()]
    assert len(mixed) == 1000
    assert all(row in mixed for row in rows(700))
    assert "150   15.0%  safety" in out
    assert "150   15.0%  benign replay" in out


def test_a_training_file_with_evaluation_behaviors_is_refused_with_its_rows(command, tmp_path):
    from aftertune.prompts.bundled.behaviors import pairs

    behavior = pairs("evaluation")[0].harmful
    planted = {"prompt": f"Hello, could you {behavior.request}? Thanks!", "completion": "No."}
    write_lines(tmp_path / "train.jsonl", [*rows(20), planted])
    line = command.refused("mix", "train.jsonl", "-o", "mixed.jsonl")
    assert f"row 21 ({behavior.id})" in line
    assert not (tmp_path / "mixed.jsonl").exists()


def test_replay_beside_own_safety_rows_needs_rows_of_its_own(command, tmp_path):
    write_lines(tmp_path / "train.jsonl", rows(20))
    write_lines(tmp_path / "safety.jsonl", [{"prompt": "do a harm", "completion": "sorry , no"}] * 3)
    line = command.refused("mix", "train.jsonl", "--safety", "safety.jsonl", "--replay", 0.2, "-o", "mixed.jsonl")
    assert "--replay-from" in line
    code, out, _ = command("mix", "train.jsonl", "--safety", "safety.jsonl", "-o", "mixed.jsonl")
    assert code == 0
    assert "0    0.0%  benign replay" in out
