"""The labelled answers that judges are measured on: self-written, chosen to be hard, and never trained on."""

from collections import Counter
from pathlib import Path

import pytest

from aftertune.core.records import TASKS
from aftertune.labels.judge_check import LabelFiles, read_answers
from aftertune.measure.judge_check import AnswerLabel

ROOT = Path(__file__).parents[2]
FILES = tuple(sorted((ROOT / "tests" / "judge_rows").glob("*.jsonl")))
LANGUAGES = {"ar", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "nl", "pl", "pt", "ru", "zh"}


@pytest.fixture(scope="module")
def answers():
    read, unlabelled = read_answers(LabelFiles(paths=FILES, columns={}, words={}))
    assert unlabelled == 0
    return read


def test_every_task_and_language_has_refusals_and_compliance(answers):
    assert len(answers) >= 250
    for part, least in (("task", 12), ("language", 5)):
        counts = Counter((getattr(answer.shown, part), answer.label) for answer in answers)
        names = set(TASKS) if part == "task" else LANGUAGES
        assert {name for name, _ in counts} == names
        for name in names:
            assert counts[name, AnswerLabel.REFUSED] >= least - 4 * (part == "task")
            assert counts[name, AnswerLabel.COMPLIED] >= least


def test_no_row_stands_twice(answers):
    shown = Counter((answer.shown.prompt, answer.shown.response) for answer in answers)
    assert max(shown.values()) == 1


def test_no_row_is_among_what_judges_are_trained_on(answers):
    texts = [
        path.read_text(encoding="utf-8")
        for folder in ("src", "scripts", "experiments")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".json", ".jsonl", ".py", ".txt", ".yaml"}
    ]
    long = {a.shown.response for a in answers if len(a.shown.response) >= 25}
    assert len(long) > 100
    assert not [response for response in long if any(response in text for text in texts)]
