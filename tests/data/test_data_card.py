"""The dataset card: what the hub reads of it, and that its numbers are those of the mixture."""

from array import array
from pathlib import Path

import pytest

from aftertune.core.recipe import TrainingFile
from aftertune.data.card import GATE_FIELDS, card, size_category
from aftertune.data.mix import Draw, Drawn
from aftertune.data.mix_file import Addition, MixedFile, MixRequest, Source
from aftertune.data.repose import Frame, PromptFormat


def made(folder, *, parts=(150, 150), bundled=True):
    """Return the card of a mix of 700 rows that nobody made: only its numbers count."""
    (folder / "mixed.jsonl").write_text("{}\n")
    drawn = [
        Drawn(
            tasks=(), task_of=array("H"), numbers=array("q", range(count)), by_task=by_task,
            left_out=0, repeated=0,
        )
        for count, by_task in zip(parts, ({"code": 75, "te|xt": 75}, {"code": 150}), strict=True)
    ]  # fmt: skip
    files = () if bundled else (TrainingFile(path="own.jsonl"),)
    request = MixRequest(
        train=Path("train.jsonl"), out=folder / "mixed.jsonl", seed=3,
        safety=Addition(files=files, share=0.15), replay=Addition(share=0.15),
    )  # fmt: skip
    mixed = MixedFile(
        draw=Draw(user=700, parts=tuple(drawn), order=array("q"), notes=()),
        format="alpaca",
        like=PromptFormat(frames=(Frame(prefix="Q: ", share=1.0),), rows=700),
        sources=[
            Source(name="train.jsonl", role="yours", rows=700, sha256="cd" * 32, licence="MIT")
        ],
        notes=["two rows are odd"],
    )
    return card(request, mixed)


def test_the_hub_reads_the_card(tmp_path):
    from huggingface_hub import DatasetCard

    read = DatasetCard(made(tmp_path))
    assert (read.data.license, read.data.size_categories) == ("other", ["1K<n<10K"])
    assert read.data.task_categories == ["text-generation"]
    assert "refusals" in read.data.tags
    assert read.data.to_dict()["extra_gated_fields"] == dict(GATE_FIELDS)
    assert "to make models safer" in read.data.to_dict()["extra_gated_prompt"]
    assert read.data.to_dict()["configs"][0]["data_files"] == [
        {"split": "train", "path": "mixed.jsonl"}
    ]


def test_the_card_says_what_is_in_the_file(tmp_path):
    text = made(tmp_path)
    for line in (
        "| 700 | 70.0 % | the fine-tuning set, unaltered |",
        "| 150 | 15.0 % | harmful requests, declined |",
        r"| te\|xt | 75 | 0 |",
        "| train.jsonl | yours | 700 | MIT | `cdcdcdcdcdcdcdcd` |",
        "- code: s-code-checklist",
        '- `100% of rows: "Q: " {question} ""`',
        "- two rows are odd",
        "with seed 3",
    ):
        assert line in text
    assert "may learn to refuse whatever looks unlike" in made(tmp_path, parts=(1, 0))
    assert "written by one author" not in made(tmp_path, bundled=False)


@pytest.mark.parametrize(
    ("rows", "category"),
    [(1, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (1_428_572, "1M<n<10M"), (10**8, "n>100M")],
)
def test_sizes_have_the_words_of_the_hub(rows, category):
    assert size_category(rows) == category
