"""``aftertune mix``: the user's rows in their own format, shares to the row, and what it refuses."""

import json
import os
import re
import shutil
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from mix_rows import read, rows
from tiny_study import write_lines

from aftertune.core.recipe import TrainingFile
from aftertune.data.bundled.behaviors import pairs
from aftertune.data.bundled.safety import safety_rows
from aftertune.data.rows import read_rows
from aftertune.models.foreign import quiet

CODEALPACA = Path(os.environ.get("AFTERTUNE_DATA", "")) / "codealpaca" / "code_alpaca_2k.json"
with_codealpaca = [
    pytest.mark.data,
    pytest.mark.skipif(
        not CODEALPACA.is_file(), reason="AFTERTUNE_DATA names no folder with CodeAlpaca"
    ),
]


def bundled():
    return {row.question: row for row in safety_rows()}


def test_the_bundled_rows_make_their_shares_of_the_final_file(command, tmp_path):
    write_lines(tmp_path / "train.jsonl", rows(700))
    code, out, err = command(
        "mix", "train.jsonl", "--share", 0.15, "--replay", 0.15, "-o", "mixed.jsonl"
    )
    assert code == 0, err
    mixed = read(tmp_path / "mixed.jsonl")
    assert len(mixed) == 1000
    assert [row for row in mixed if row in rows(700)] != rows(700)
    assert sorted(row["prompt"] for row in mixed if row in rows(700)) == sorted(
        row["prompt"] for row in rows(700)
    )
    added = [bundled()[row["prompt"]] for row in mixed if row not in rows(700)]
    assert Counter(row.intent for row in added) == {"harmful": 150, "benign": 150}
    assert set(Counter((row.intent, row.task) for row in added).values()) == {37, 38}
    assert "150   15.0%  safety" in out
    assert "150   15.0%  benign replay" in out


def test_rows_of_jsonl_are_copied_byte_for_byte_and_added_ones_take_their_format(command, tmp_path):
    lines = [
        '{"id": 7, "messages":[{"role":"user","content":"Caf\\u00e9?"},{"content":"Oui.","role":"assistant"}] }',
        '{"messages": [{"role": "user", "content": "é?"}, {"role": "assistant", "content": "1.0"}], "score": 1.50}',
        '{"messages": [{"role": "user", "content": "Again?"}, {"role": "assistant", "content": ""}]}',
    ]
    (tmp_path / "train.jsonl").write_bytes("\r\n".join(lines).encode() + b"\r\n")
    code, out, _ = command("mix", "train.jsonl", "--share", 0.5, "-o", "mixed.jsonl")
    assert code == 0
    mixed = (tmp_path / "mixed.jsonl").read_text(encoding="utf-8").splitlines()
    assert Counter(mixed) >= Counter(lines)
    assert all(list(json.loads(line)) == ["messages"] for line in mixed if line not in lines)
    assert "1 of your rows (3) has no answer" in out


def test_json_out_is_one_array_of_the_same_rows_and_trl_is_said_to_read_it_or_not(
    command, tmp_path
):
    write_lines(tmp_path / "train.jsonl", rows(40))
    alpaca = [{"instruction": row["prompt"], "output": row["completion"]} for row in rows(40)]
    write_lines(tmp_path / "alpaca.jsonl", alpaca)
    options = ("--share", 0.2, "--replay", 0)
    for name in ("mixed.jsonl", "mixed.json"):
        code, out, _ = command("mix", "train.jsonl", *options, "-o", name)
        assert code == 0
        assert "format prompt-completion-text (TRL reads it as it is)" in out
    assert json.loads((tmp_path / "mixed.json").read_text()) == read(tmp_path / "mixed.jsonl")
    _, out, _ = command("mix", "alpaca.jsonl", *options, "-o", "mixed.jsonl")
    assert "format alpaca (TRL does not read it: --to messages writes what TRL reads)" in out
    code, _, _ = command("mix", "alpaca.jsonl", *options, "--to", "llama-factory", "-o", "x.json")
    entry = json.loads((tmp_path / "dataset_info.json").read_text())["x"]
    assert (code, entry["file_name"]) == (0, "x.json")


@pytest.mark.parametrize(
    ("answers", "warned"), [(["up", "down", "flat"], True), ([str(n) for n in range(40)], False)]
)
def test_safety_rows_that_a_classifier_must_not_learn_are_pointed_out(
    command, tmp_path, answers, warned
):
    labelled = [row | {"completion": answers[n % len(answers)]} for n, row in enumerate(rows(40))]
    write_lines(tmp_path / "train.jsonl", labelled)
    options = ("mix", "train.jsonl", "--share", 0.3, "-o", "mixed.jsonl")
    _, out, _ = command(*options)
    assert ("your rows have 3 different answers, as those of a classifier" in out) == warned
    for remedy in (("--weights", "classification=0"), ("--basis", "assistance")):
        _, out, _ = command(*options, *remedy)
        assert "a classifier" not in out


def test_a_moderation_model_is_recognised_by_its_labels(command, tmp_path):
    labels = ("toxic", "safe")
    labelled = [row | {"completion": labels[n % 2]} for n, row in enumerate(rows(40))]
    write_lines(tmp_path / "train.jsonl", labelled)
    _, out, _ = command("mix", "train.jsonl", "--share", 0.3, "-o", "mixed.jsonl")
    assert "as those of a moderation model have" in out


@pytest.mark.parametrize("basis", ["assistance", "content"])
def test_a_harm_basis_leaves_the_other_rows_out_and_their_twins(command, tmp_path, basis):
    write_lines(tmp_path / "train.jsonl", rows(140))
    code, out, err = command("mix", "train.jsonl", "--basis", basis, "-o", "mixed.jsonl")
    assert code == 0, err
    added = [
        bundled()[row["prompt"]]
        for row in read(tmp_path / "mixed.jsonl")
        if row["prompt"] in bundled()
    ]
    assert {row.basis for row in added} == {basis}
    assert Counter(row.intent for row in added) == {"harmful": 30, "benign": 30}
    assert ("translation" in out) == (basis == "content")


def test_a_version_of_the_bundled_rows_is_drawn_by_its_name(command, tmp_path):
    write_lines(tmp_path / "train.jsonl", rows(70))
    answers = {row.answer for row in safety_rows("multitask-safety-v1") if row.intent == "harmful"}
    for name in ("multitask-safety-v1", "multitask-safety-v2"):
        options = ("--safety", name, "--replay-from", name, "--card", "card.md")
        code, _, err = command("mix", "train.jsonl", *options, "-o", "mixed.jsonl")
        assert code == 0, err
        mixed = read(tmp_path / "mixed.jsonl")
        drawn = sum(row["completion"] in answers for row in mixed)
        assert (len(mixed), drawn) == (100, 15 if name == "multitask-safety-v1" else 0)
        assert f"| {name} | safety | 2,200 | Apache-2.0 |" in (tmp_path / "card.md").read_text()


def test_marks_and_thinking_are_kept_or_said_to_be_lost(command, tmp_path):
    asked = [{"role": "user", "content": "Hi?"}]
    marked = {"messages": [*asked, {"role": "assistant", "content": "No.", "weight": 0}]}
    thought = {
        "messages": [*asked, {"role": "assistant", "content": "Yes.", "reasoning_content": "So."}]
    }
    write_lines(tmp_path / "train.jsonl", [marked, thought])
    for to, lost in (("sharegpt", 2), ("openai", 1), ("axolotl", 0)):
        code, out, _ = command(
            "mix", "train.jsonl", "--share", 0.4, "--replay", 0, "--to", to, "-o", f"{to}.jsonl"
        )
        assert code == 0
        notes = [
            line
            for line in out.splitlines()
            if "(weight, train)" in line or "(reasoning_content)" in line
        ]
        assert len(notes) == lost
    turns = [row["messages"][1] for row in read(tmp_path / "axolotl.jsonl")]
    assert {"role": "assistant", "content": "No.", "train": False} in turns
    assert "message_field_training: train" in (tmp_path / "axolotl.axolotl.yaml").read_text()


def test_weights_share_the_rows_out_over_tasks(command, tmp_path):
    write_lines(tmp_path / "train.jsonl", rows(80))
    code, out, _ = command(
        "mix",
        "train.jsonl",
        "--share",
        0.2,
        "--replay",
        0,
        "--weights",
        "code=3, text=1,translation=0",
        "-o",
        "m.jsonl",
    )
    assert code == 0
    assert "safety rows by task: classification 4, code 12, text 4" in out


def test_added_rows_are_posed_as_the_file_poses_its_own(command, tmp_path):
    framed = [
        {
            "messages": [
                {"role": "system", "content": "You are terse."},
                {"role": "user", "content": f"### Question\nWhat is note {n}?\n### Answer\n"},
                {"role": "assistant", "content": f"Note {n}."},
            ]
        }
        for n in range(60)
    ]
    write_lines(tmp_path / "train.jsonl", framed)
    code, out, _ = command("mix", "train.jsonl", "--like", "train.jsonl", "-o", "mixed.jsonl")
    assert code == 0
    for row in read(tmp_path / "mixed.jsonl"):
        system, asked, _ = (turn["content"] for turn in row["messages"])
        assert system == "You are terse."
        question = asked.removeprefix("### Question\n").removesuffix("\n### Answer\n")
        assert question != asked
        assert row in framed or question in bundled()
    assert 'system: "You are terse."' in out
    assert r'100% of rows: "### Question\n" {question} "\n### Answer\n"' in out


def test_a_prefix_inside_a_line_is_warned_of_and_no_format_is_said(command, tmp_path):
    write_lines(
        tmp_path / "in.jsonl",
        [{"prompt": f"Translate: note {n}", "completion": "x"} for n in range(30)],
    )
    assert (
        "note: the prefix ends inside a line"
        in command("mix", "in.jsonl", "--like", "in.jsonl", "-o", "m.jsonl")[1]
    )
    write_lines(
        tmp_path / "no.jsonl",
        [{"prompt": f"{n} notes of {n}", "completion": "x"} for n in range(30)],
    )
    assert (
        "no common format in the 30 rows"
        in command("mix", "no.jsonl", "--like", "no.jsonl", "-o", "m.jsonl")[1]
    )


def test_conversion_writes_what_trainers_want_beside_the_file_and_a_card(command, tmp_path):
    write_lines(tmp_path / "train.jsonl", [{**row, "source": "mine"} for row in rows(70)])
    (tmp_path / "dataset_info.json").write_text('{"other": {"file_name": "other.json"}}')
    code, out, _ = command(
        "mix", "train.jsonl", "--to", "llama-factory", "--card", "README.md", "-o", "mixed.jsonl"
    )
    assert code == 0
    assert set(json.loads((tmp_path / "dataset_info.json").read_text())) == {"other", "mixed"}
    mixed = read(tmp_path / "mixed.jsonl")
    assert all("conversations" in row for row in mixed)
    assert sum(row.get("source") == "mine" for row in mixed) == 70
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| 15 | 15.0 % | harmful requests, declined |" in card
    assert "multitask-safety-v2" in card
    assert "also written: README.md" in out
    assert "- translation: " in card
    code, _, _ = command(
        "mix",
        "train.jsonl",
        "--weights",
        "translation=0",
        "--card",
        "README.md",
        "-o",
        "mixed.jsonl",
    )
    assert (code, "- translation: " in (tmp_path / "README.md").read_text(encoding="utf-8")) == (
        0,
        False,
    )
    code, out, _ = command("mix", "train.jsonl", "--to", "axolotl", "-o", "mixed.jsonl")
    assert (code, (tmp_path / "mixed.axolotl.yaml").is_file()) == (0, True)


def test_a_row_that_the_format_cannot_hold_is_named_and_nothing_is_written(command, tmp_path):
    turns = [{"role": r, "content": "x"} for r in ("user", "assistant", "user", "assistant")]
    write_lines(tmp_path / "train.jsonl", [{"messages": turns[:2]}, {"messages": turns}])
    line = command.refused("mix", "train.jsonl", "--to", "alpaca", "-o", "mixed.jsonl")
    assert "train.jsonl, row 2: " in line
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]


def test_a_foreign_file_keeps_its_columns(command, tmp_path):
    lines = "".join(f"{n},What is note {n}?,,Note {n}.\n" for n in range(70))
    (tmp_path / "train.csv").write_text("id,question,context,answer\n" + lines)
    columns = "prompt=question,input=context,completion=answer"
    assert "--columns prompt=" in command.refused("mix", "train.csv", "-o", "mixed.jsonl")
    code, _, _ = command("mix", "train.csv", "--columns", columns, "-o", "mixed.jsonl")
    assert code == 0
    mixed = read(tmp_path / "mixed.jsonl")
    assert sum("id" in row for row in mixed) == 70
    assert all(row.keys() >= {"question", "context", "answer"} for row in mixed)
    assert len(mixed) == 100


def test_a_share_of_few_rows_that_comes_to_none_is_said(command, tmp_path):
    write_lines(tmp_path / "train.jsonl", rows(3))
    code, out, err = command(
        "mix", "train.jsonl", "--share", 0.02, "--replay", 0.3, "-o", "mixed.jsonl"
    )
    assert code == 0, err
    assert "note: no safety rows are added: a share of 0.02 of so few rows (3 of yours)" in out
    assert "no replay rows" not in out
    assert len(read(tmp_path / "mixed.jsonl")) == 4


def test_rows_that_need_a_look_are_kept_and_named(command, tmp_path):
    exploiting = {"prompt": "Speak of a child and of sex.", "completion": "No."}
    write_lines(
        tmp_path / "train.jsonl", [*rows(2), exploiting, {"instruction": "Add 1.", "output": "2"}]
    )
    code, out, _ = command("mix", "train.jsonl", "-o", "mixed.jsonl")
    assert code == 0
    assert exploiting in read(tmp_path / "mixed.jsonl")
    assert "1 of your rows (3) speaks of children and sex in one breath" in out
    assert "several formats (prompt-completion-text 3, alpaca 1)" in out
    _, out, _ = command("mix", "train.jsonl", "--to", "messages", "-o", "mixed.jsonl")
    assert "several formats" not in out


def test_dates_of_parquet_become_text_and_bytes_are_refused(command, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    def write(**more):
        table = pa.Table.from_pylist([{"prompt": "Add 1 and 2.", "completion": "3", **more}])
        parquet.write_table(table, tmp_path / "train.parquet")

    write(when=datetime(2020, 1, 2, 3, 4, tzinfo=UTC), price=Decimal("1.10"))
    code, _, err = command("mix", "train.parquet", "-o", "mixed.jsonl")
    assert code == 0, err
    assert read(tmp_path / "mixed.jsonl") == [
        {
            "prompt": "Add 1 and 2.",
            "completion": "3",
            "when": "2020-01-02 03:04:00+00:00",
            "price": "1.10",
        }
    ]
    write(image=b"\xff")
    line = command.refused("mix", "train.parquet", "-o", "again.jsonl")
    assert "train.parquet, row 1: bytes in 'image' cannot be written as JSON" in line
    assert not (tmp_path / "again.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--share", 1.2), "--share 1.2 --replay 0.15: the share must be"),
        (("--share", 0.6, "--replay", 0.4), "--share 0.6 --replay 0.4: .*too little room"),
        (("--weights", "code"), "--weights code: 'code' is no task and number"),
        (("--weights", "code=-1"), "--weights code=-1"),
        (("--weights", "codes=1"), "weights: 'codes' is no task of the rows to draw from"),
        (("--to", "xml"), "--to xml: use one of messages"),
        (("--like", "none.jsonl"), "none.jsonl: there is no such file; check the path$"),
        (("--card", "train.jsonl"), "--card: train.jsonl is one of the inputs"),
        (("--card", "mixed.jsonl"), "--card: mixed.jsonl is written already as another output"),
        (
            ("--to", "axolotl", "--card", "./mixed.axolotl.yaml"),
            "--card: mixed.axolotl.yaml is written already",
        ),
        (("--weights", "code=1,code=2"), "--weights code=1,code=2: 'code' stands there twice"),
        (
            ("--out", "mixed.csv"),
            "--out mixed.csv: the mixed file is JSON; give it a name that ends in .jsonl",
        ),
        (("--out", "train.jsonl"), "--out: train.jsonl is one of the inputs"),
    ],
)
def test_a_wrong_option_is_named(arguments, message, command, tmp_path):
    write_lines(tmp_path / "train.jsonl", rows(20))
    before = (tmp_path / "train.jsonl").read_bytes()
    line = command.refused(
        "mix", "train.jsonl", *([] if "--out" in arguments else ["-o", "mixed.jsonl"]), *arguments
    )
    assert re.search(message, line.strip())
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]
    assert (tmp_path / "train.jsonl").read_bytes() == before


class TestCodeAlpaca:
    """The real file: 2,017 rows in Alpaca's shape, two of them without an answer."""

    pytestmark = with_codealpaca

    def test_shares_are_right_to_the_row_and_every_row_is_there(self, command, tmp_path):
        shutil.copy(CODEALPACA, tmp_path / "train.json")
        code, out, _ = command(
            "mix", "train.json", "--share", 0.15, "--replay", 0.15, "-o", "mixed.jsonl"
        )
        assert code == 0
        mixed, mine = (
            read(tmp_path / "mixed.jsonl"),
            json.loads(CODEALPACA.read_text(encoding="utf-8")),
        )
        counts, own = Counter(map(json.dumps, mixed)), Counter(map(json.dumps, mine))
        assert counts >= own
        added = [bundled()[json.loads(line)["instruction"]] for line in (counts - own).elements()]
        assert (len(mixed), len(mine)) == (2881, 2017)
        assert Counter((row.intent, row.task) for row in added) == {
            (intent, task): 108
            for intent in ("harmful", "benign")
            for task in ("text", "code", "translation", "classification")
        }
        assert "2 of your rows (238, 1860) have no answer" in out

    def test_a_planted_evaluation_behavior_is_refused(self, command, tmp_path):
        mine = json.loads(CODEALPACA.read_text(encoding="utf-8"))
        twin = pairs("evaluation")[40].twin
        mine[1000]["input"] = f"data = '''Some text. {twin.texts['en']}'''"
        (tmp_path / "train.json").write_text(json.dumps(mine))
        line = command.refused("mix", "train.json", "-o", "mixed.jsonl")
        assert f"row 1001 ({twin.id})" in line

    def test_inputs_are_used_for_payloads(self, command, tmp_path):
        shutil.copy(CODEALPACA, tmp_path / "train.json")
        code, out, _ = command("mix", "train.json", "--like", "train.json", "-o", "mixed.jsonl")
        assert code == 0
        assert r'{instruction} "\n\n" {input}' in out
        added = [
            row
            for row in read(tmp_path / "mixed.jsonl")
            if row["output"] in {row.answer for row in safety_rows()}
        ]
        assert {bool(row["input"]) for row in added} == {True, False}
        assert not any("\n" in row["instruction"] for row in added if row["input"])

    @pytest.mark.parametrize("target", ["messages", "prompt-completion"])
    def test_trl_trains_on_the_mixed_file(self, target, command, tmp_path, tiny_base):
        from datasets import load_dataset
        from trl import SFTConfig, SFTTrainer

        shutil.copy(CODEALPACA, tmp_path / "train.json")
        assert command("mix", "train.json", "--to", target, "-o", "mixed.jsonl")[0] == 0
        data = load_dataset(
            "json", data_files="mixed.jsonl", split="train", cache_dir=str(tmp_path / "cache")
        )
        assert len(data) == len(read_rows(TrainingFile(path="mixed.jsonl"), tmp_path)) == 2881
        with quiet():
            config = SFTConfig(
                output_dir="out",
                max_steps=3,
                per_device_train_batch_size=4,
                max_length=48,
                report_to=[],
                use_cpu=True,
                save_strategy="no",
                disable_tqdm=True,
                bf16=False,
            )
            trainer = SFTTrainer(model=str(tiny_base), args=config, train_dataset=data)
            result = trainer.train()
        assert result.global_step == 3
        assert 0 < result.training_loss < 20
