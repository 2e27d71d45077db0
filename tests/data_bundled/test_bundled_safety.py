"""The safety data: counts, variety, balance with the benign twins, and answers that are right."""

import ast
import json
import re
import shutil
import subprocess
from collections import Counter

import pytest

from aftertune.core.recipe import TrainingFile
from aftertune.core.records import TASKS, Intent, Sample, VerdictValue
from aftertune.data.bundled.behaviors import HAZARDS, pairs
from aftertune.data.bundled.safety import (
    SAFETY_SETS,
    SAFETY_V1,
    refusal_styles,
    refusal_words,
    safety_rows,
    safety_sha256,
    write_safety,
)
from aftertune.data.bundled.summary import openings, template_only_accuracy
from aftertune.data.mix import mix
from aftertune.data.rows import read_pools
from aftertune.score.refusal import refusal_rules
from aftertune.study.expand import ALL_BUNDLED

ROWS = safety_rows()
REFUSALS = [row for row in ROWS if row.intent is Intent.HARMFUL]
REFUSALS_V1 = [row for row in safety_rows(SAFETY_V1) if row.intent is Intent.HARMFUL]
ANSWERS = [row for row in ROWS if row.intent is Intent.BENIGN]


def test_refusals_are_many_and_balanced():
    assert Counter(row.task for row in REFUSALS) == dict.fromkeys(TASKS, 550)
    assert Counter((row.hazard, row.task) for row in REFUSALS) == {
        (h, t): 50 for h in HAZARDS for t in TASKS
    }
    used = Counter((row.hazard, row.template) for row in REFUSALS)
    assert max(used.values()) - min(used.values()) <= 2


def test_no_question_occurs_twice():
    assert len({row.question for row in ROWS}) == len(ROWS) == 4400


def test_the_template_does_not_tell_a_refusal_from_an_answer():
    assert Counter((r.template, r.task) for r in REFUSALS) == Counter(
        (r.template, r.task) for r in ANSWERS
    )
    assert template_only_accuracy(ROWS) == 0.5
    assert template_only_accuracy(REFUSALS) == 1.0


@pytest.mark.parametrize("refusals", [REFUSALS, REFUSALS_V1])
def test_no_opening_of_a_refusal_prevails(refusals):
    assert openings(refusals)[0][1] <= 0.05
    for task in TASKS:
        assert openings([row for row in refusals if row.task == task])[0][1] <= 0.05
    assert len(openings(refusals)) >= 40


def test_versions_differ_in_the_words_of_refusals_alone():
    old, new = safety_rows(SAFETY_V1), ROWS
    assert [(row.question, row.intent) for row in old] == [(r.question, r.intent) for r in new]
    assert [row.answer for row in old if row.intent is Intent.BENIGN] == [r.answer for r in ANSWERS]
    assert not {row.answer for row in REFUSALS_V1} & {row.answer for row in REFUSALS}


def test_the_versions_before_stay_as_they_were():
    """Fine-tunes that were trained on them are known by this hash."""
    assert safety_sha256(SAFETY_V1) == "4382779613adc4a3558c4fed901a37d9"
    assert ALL_BUNDLED == SAFETY_SETS


def test_a_refusal_names_what_it_declines_and_the_harmless_neighbour():
    words = refusal_words().words
    assert list(words) == [
        pair.harmful.id
        for hazard in sorted(HAZARDS)
        for pair in pairs("safety")
        if pair.harmful.hazard == hazard
    ]
    for row in REFUSALS:
        fields = words[row.behavior]
        assert fields["declined" if row.basis == "assistance" else "says"] in row.answer
        assert fields["offer"] in row.answer
        assert "{" not in row.answer
    of_pair = {pair.harmful.id: pair for pair in pairs("safety")}
    for row in REFUSALS_V1:
        assert of_pair[row.behavior].declined in row.answer
        assert of_pair[row.behavior].offer in row.answer
        assert "{" not in row.answer
    assert all(
        "{offer}" in style and "{declined}" in style
        for hazard in ("vcr", "ssh")
        for style in refusal_styles(hazard)
    )


def refused(text):
    score = refusal_rules(None).score(Sample(prompt="", response=text))
    return score.value is VerdictValue.REFUSED


def test_every_refusal_reads_as_one():
    """Or a model that has learnt to refuse would look as if it had not."""
    assert [row.answer for row in (*REFUSALS, *REFUSALS_V1) if not refused(row.answer)] == []


def test_no_answer_to_a_twin_reads_as_a_refusal():
    assert [row.answer for row in ANSWERS if refused(row.answer)] == []


def test_no_payload_reads_as_a_refusal_when_it_is_repeated():
    texts = [
        text
        for part in ("evaluation", "safety")
        for pair in pairs(part)
        for behavior in (pair.harmful, pair.twin)
        for text in behavior.texts.values()
    ]
    assert [text for text in texts if refused(text)] == []


def code(row, language):
    fenced = re.fullmatch(rf"```{language}\n(.*)\n```", row.answer, re.DOTALL)
    assert fenced, row.answer
    return fenced[1]


def test_code_parses_and_holds_the_text():
    twins = {pair.twin.id: pair for pair in pairs("safety")}
    for row in ANSWERS:
        pair = twins[row.behavior]
        if row.template in {"s-code-checklist", "s-code-variable"}:
            values = [
                node.value
                for node in ast.walk(ast.parse(code(row, "python")))
                if isinstance(node, ast.Constant)
            ]
            assert set(pair.steps) <= set(values) or pair.twin.texts["en"] in values
        elif row.template == "s-code-json":
            assert json.loads(code(row, "json")) == {"steps": list(pair.steps)}
        elif row.template == "s-code-alert":
            assert json.dumps(pair.twin.texts["en"], ensure_ascii=False) in code(row, "javascript")


@pytest.mark.skipif(
    shutil.which("bash") is None, reason="needs bash, which reads the scripts without running them"
)
def test_bash_reads_the_scripts():
    scripts = [
        code(row, "bash") for row in ANSWERS if row.template in {"s-code-bash", "s-code-log"}
    ]
    assert scripts
    done = subprocess.run(
        ["bash", "-n"], input="\n".join(scripts), text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_translations_and_labels_are_the_references():
    twins = {pair.twin.id: pair for pair in pairs("safety")}
    for row in ANSWERS:
        pair = twins[row.behavior]
        if row.task == "translation":
            assert row.answer in pair.twin.texts.values()
            assert row.answer not in row.question
        if row.template == "s-class-writer":
            assert row.answer == {"positive": "A", "negative": "B", "neutral": "C"}[pair.sentiment]
        if row.template == "s-class-subject":
            assert row.answer == (
                pair.topic if pair.topic in {"money", "work", "home"} else "other"
            )


def test_the_files_serve_the_mix_as_pools_by_task(tmp_path):
    refusals, answers = write_safety(tmp_path)
    pools = read_pools([TrainingFile(path=refusals.name)], tmp_path)
    assert {task: len(rows) for task, rows in pools.items()} == dict.fromkeys(TASKS, 550)
    replay = read_pools([TrainingFile(path=answers.name)], tmp_path)
    user = [row.row for row in ANSWERS[:70]]
    mixed = mix(user, pools, replay, share=0.15, replay_share=0.15, seed=0)
    assert (mixed.user, mixed.safety, mixed.replay) == (70, 15, 15)
