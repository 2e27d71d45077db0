"""The dataset card: what the hub reads of it, and that its numbers are those of the mixture."""

import pytest

from aftertune.data.card import GATE_FIELDS, Mixture, Source, card, size_category


def mixture(**changes):
    keys = {
        "file": "mixed.jsonl",
        "sha256": "ab" * 32,
        "format": "alpaca",
        "seed": 3,
        "counts": {"yours": 700, "safety": 150, "replay": 150},
        "tasks": {"safety": {"code": 75, "te|xt": 75}, "replay": {"code": 150}},
        "sources": [
            Source(name="train.jsonl", role="yours", rows=700, sha256="cd" * 32, licence="MIT")
        ],
        "templates": {"code": ["s-code-json"]},
        "posed": ['100% of rows: "Q: " {question} ""'],
        "notes": ["two rows are odd"],
    }
    return Mixture(**{**keys, **changes})


def test_the_hub_reads_the_card():
    from huggingface_hub import DatasetCard

    read = DatasetCard(card(mixture()))
    assert (read.data.license, read.data.size_categories) == ("other", ["1K<n<10K"])
    assert read.data.task_categories == ["text-generation"]
    assert "refusals" in read.data.tags
    assert read.data.to_dict()["extra_gated_fields"] == dict(GATE_FIELDS)
    assert "to make models safer" in read.data.to_dict()["extra_gated_prompt"]
    assert read.data.to_dict()["configs"][0]["data_files"] == [
        {"split": "train", "path": "mixed.jsonl"}
    ]


def test_the_card_says_what_is_in_the_file():
    text = card(mixture())
    for said in (
        "| 700 | 70.0 % | the fine-tuning set, unaltered |",
        "| 150 | 15.0 % | harmful requests, declined |",
        r"| te\|xt | 75 | 0 |",
        "| train.jsonl | yours | 700 | MIT | `cdcdcdcdcdcdcdcd` |",
        "- code: s-code-json",
        '- `100% of rows: "Q: " {question} ""`',
        "- two rows are odd",
        "with seed 3",
    ):
        assert said in text
    assert "may learn to refuse whatever looks unlike" in card(
        mixture(counts={"yours": 9, "safety": 1, "replay": 0})
    )
    assert "written by one author" not in card(mixture(templates={}))


@pytest.mark.parametrize(
    ("rows", "category"),
    [(1, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (1_428_572, "1M<n<10M"), (10**8, "n>100M")],
)
def test_sizes_have_the_words_of_the_hub(rows, category):
    assert size_category(rows) == category
