"""Labelled answers and the JSON of a check, broken in every way: read, or refused in one line."""

import json
from importlib import resources
from pathlib import Path

import pytest

from aftertune.core.protocols import Tools, no_model
from aftertune.labels.judge_check import LabelFiles, figures_of, read_answers
from aftertune.score.refusal import refusal_rules
from fuzz import Mutator, ended

ROWS = [
    {"prompt": f"Q{n}", "response": "No.", "label": label, "intent": "harmful"}
    for n, label in enumerate(("refused", "complied", "partial"))
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TABLE = "prompt,response,label,intent\n" + "".join(f'"{r["prompt"]}",No.,{r["label"]},harmful\n' for r in ROWS)  # fmt: skip
VALID = {"jsonl": LINES, "csv": TABLE, "json": json.dumps(ROWS)}


@pytest.mark.parametrize("kind", [*VALID, "bytes"])
def test_broken_labelled_answers(tmp_path, kind):
    path = tmp_path / f"answers.{'csv' if kind == 'bytes' else kind}"
    outcomes = set()
    for number in range(150):
        path.write_bytes(Mutator(number).file(VALID.get(kind, TABLE).encode(), kind))
        files = LabelFiles(paths=(path,), columns={}, words={}, by="prompt")
        error = ended(lambda files=files: read_answers(files), f"{kind} {number}")
        outcomes.add(error is None)
        assert error is None or "\n" not in str(error)
    assert outcomes == {True, False}


def test_a_broken_check(tmp_path):
    judge = refusal_rules(Tools(open_model=no_model, folder=Path()))
    valid = (resources.files("aftertune.labels") / "checked" / "rules.json").read_bytes()
    path, outcomes = tmp_path / "check.json", set()
    for number in range(300):
        path.write_bytes(Mutator(number).file(valid, "json" if number % 2 else "bytes"))
        error = ended(lambda: figures_of(judge, str(path)), f"check {number}")
        outcomes.add(error is None)
    assert outcomes == {True, False}
