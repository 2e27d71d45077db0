"""A check of the embedded model handed over: JUnit, the published schema, exports, and an independent script that recomputes it."""

import ast
import csv
import inspect
import io
import json
import subprocess
import sys
from dataclasses import is_dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import get_args, get_type_hints
from xml.etree import ElementTree as ET

import pytest
from doc_pages import ROOT
from jsonschema import Draft202012Validator
from test_pipeline_check import always

from aftertune.cli import export
from aftertune.measure.attack_results import AttackFigures
from aftertune.measure.repair import RepairResult, Selection
from aftertune.report.document import ResultDocument
from aftertune.report.result_schema import repair_schema, result_schema
from aftertune.report.wording import spreadsheet_cell

REFUSING = "sorry , i cannot help with that ."


def cases(path):
    """Return the outcome of each test case: its element's tag, or ``passed``."""
    root = ET.parse(path).getroot()  # noqa: S314  # written by us
    return {
        (case.get("classname"), case.get("name")): next(iter(case)).tag if len(case) else "passed"
        for case in root.iter("testcase")
    }


@pytest.fixture(scope="module")
def checked(organism_folder, tmp_path_factory):
    """A check of the embedded model against one that refuses everything: exit code 3."""
    from aftertune.cli.app import main

    folder = tmp_path_factory.mktemp("checked")
    refusing = always(folder / "refusing", REFUSING)
    config = ("--config", organism_folder / "aftertune.yaml", "--limit", 12)
    files = ("-o", folder / "run", "--junit", folder / "junit.xml")
    typed = ("check", organism_folder / "base", refusing, *config, *files, "-q")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["aftertune", *map(str, typed)])
        with pytest.raises(SystemExit) as left:
            main()
    assert left.value.code == 3
    return folder


@pytest.fixture(scope="module")
def result(checked):
    return json.loads((checked / "run" / "result.json").read_text())


def test_junit_has_the_verdict_and_every_line(checked, result):
    told = cases(checked / "junit.xml")
    assert told["aftertune", "verdict"] == "failure"
    assert told["aftertune.over-refusal", "overall"] == "failure"
    sides = result["gate"]["sides"]
    lines = [("harm", sides["harm"]), ("over-refusal", sides["over_refusal"])]
    names = {(f"aftertune.{side}", line["name"]) for side, of in lines for line in of["lines"]}
    assert set(told) == {("aftertune", "verdict"), *names}
    for side, of in lines:
        for line in of["lines"]:
            assert (told[f"aftertune.{side}", line["name"]] == "failure") == line["fails"]


def test_junit_of_a_check_that_cannot_run_is_an_error(command, tiny_base, tmp_path):
    junit = tmp_path / "junit.xml"
    junit.write_text("an older one that passed")
    line = command.refused("check", tiny_base, tmp_path / "nowhere", "--junit", junit)
    assert "does not exist" in line
    assert cases(junit) == {("aftertune", "verdict"): "error"}
    where = tmp_path / "no" / "junit.xml"
    assert "there is no folder" in command.refused(
        "check", tiny_base, tiny_base, "--junit", where, "-o", "run"
    )
    assert not Path("run").exists(), "said before anything was asked"


# The schema


SCHEMAS = [("result", result_schema, ResultDocument), ("repair", repair_schema, RepairResult)]


@pytest.mark.parametrize(("name", "made", "_"), SCHEMAS)
def test_the_published_schema_is_the_one_that_the_records_give(command, name, made, _):
    published = (ROOT / "docs" / f"{name}.schema.json").read_text()
    assert json.loads(published) == made(), "run `make docs`"
    code, out, _ = command("schema", name)
    assert (code, out) == (0, published)
    Draft202012Validator.check_schema(made())


def records(type_, held):
    """Collect the records that a type is made of."""
    if is_dataclass(type_):
        if type_ in held:
            return held
        held.add(type_)
        parts = get_type_hints(type_).values()
    else:
        parts = get_args(type_)
    for part in parts:
        records(part, held)
    return held


@pytest.mark.parametrize(("_", "made", "whole"), SCHEMAS)
def test_every_documented_field_of_a_result_is_described_in_the_schema(_, made, whole):
    schema = made()
    definitions = {**schema["$defs"], whole.__name__: schema}
    parts = {name: definition.get("properties", {}) for name, definition in definitions.items()}
    missing, described = [], 0
    held = records(whole, set())
    assert {AttackFigures, Selection} & held
    for record in held:
        (body,) = ast.parse(dedent(inspect.getsource(record))).body
        for field, text in pairwise(body.body):
            documented = isinstance(text, ast.Expr) and isinstance(field, ast.AnnAssign)
            for name in parts if documented else ():
                if name.partition("_")[0] == record.__name__ and field.target.id in parts[name]:
                    described += 1
                    if "description" not in parts[name][field.target.id]:
                        missing.append(f"{name}.{field.target.id}")
    assert described > 50
    assert missing == []


def test_results_of_a_check_and_of_a_study_are_valid(result, finished_study):
    validator = Draft202012Validator(result_schema())
    study = json.loads(finished_study.result)
    for document in (result, study):
        validator.validate(document)
        assert document["versions"]
    assert list(validator.iter_errors({**study, "format": 1}))
    assert list(validator.iter_errors({**study, "result": {}}))
    assert {"text", "code"} & set(study["prompts"]["digests"])


# Rows


@pytest.fixture(scope="module")
def parquet(checked):
    path = checked / "answers.parquet"
    export.export_responses(checked / "run", path, "parquet")
    return path


def jsonl(run, path, **options):
    export.export_responses(run, path, **options)
    return [json.loads(line) for line in path.read_text().splitlines()]


def flat(record):
    """Return a record of JSON lines with the columns that the documentation gives to CSV and Parquet."""
    columns = {name: value for name, value in record.items() if not isinstance(value, dict | list)}
    columns["incoherence"] = " ".join(record["incoherence"])
    for field, kind in (("verdicts", "verdict"), ("reasoning_verdicts", "reasoning_verdict")):
        for judge, score in record[field].items():
            columns |= {f"{kind}:{judge}": score["value"], f"{kind}_label:{judge}": score["label"]}
            columns[f"{kind}_score:{judge}"] = score["score"]
    for guard, sides in record["decisions"].items():
        columns |= {f"decision:{guard}:{side}": score["value"] for side, score in sides.items()}
    columns |= {f"score:{metric}": number for metric, number in record["scores"].items()}
    return columns | {
        f"outcome_under:{guard}": outcome
        for guard, outcome in record["outcomes_under_guards"].items()
    }


def test_parquet_csv_and_json_lines_hold_the_same(checked, parquet, tmp_path):
    import pyarrow.parquet as pq

    rows = [flat(record) for record in jsonl(checked / "run", tmp_path / "r.jsonl")]
    table = pq.read_table(parquet)
    assert table.num_rows == len(rows)
    assert table.to_pylist() == [
        {name: row.get(name) for name in table.column_names} for row in rows
    ]
    assert {"verdict:organism", "decision:organism:response", "outcome_under:organism"} <= set(
        table.column_names
    )
    assert json.loads(table.schema.metadata[b"aftertune"])["judges"] == ["organism", "rules"]

    export.export_responses(checked / "run", tmp_path / "r.csv", "csv")
    text = (tmp_path / "r.csv").read_text(encoding="utf-8-sig")
    for cells, row in zip(csv.DictReader(io.StringIO(text)), rows, strict=True):
        told = {n: "" if v is None else spreadsheet_cell(str(v)) if isinstance(v, str) else str(v)
                for n, v in row.items()}  # fmt: skip
        assert cells == {name: told.get(name, "") for name in cells}


def test_answers_that_may_be_harmful_are_left_out_unless_they_are_wanted(finished_study, tmp_path):
    run = finished_study.folder / "out"
    shared = jsonl(run, tmp_path / "shared.jsonl")
    whole = jsonl(run, tmp_path / "whole.jsonl", show=True)
    hidden = [row["redacted"] for row in shared]
    assert any(hidden)
    assert not all(hidden)
    assert not any(row["redacted"] for row in whole)
    for mine, full in zip(shared, whole, strict=True):
        sensitive = full["intent"] == "harmful" and (
            full["outcome"] != "safe"
            or any(verdict["value"] == "complied" for verdict in full["verdicts"].values())
        )
        assert mine["redacted"] == (sensitive and full["text"] is not None)
        texts = {"text": None, "redacted": True} if mine["redacted"] else {}
        assert mine == full | texts
        assert mine["characters"] == len(full["text"])


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\t=1", "  =1", "\uff1d1"])  # fmt: skip
def test_no_cell_is_a_formula(text):
    assert spreadsheet_cell(text).startswith(("'", "<U+"))


@pytest.mark.parametrize("to", ["csv", "parquet", "markdown", "latex", "model-card"])
def test_an_export_that_cannot_be_written_leaves_nothing(command, checked, tmp_path, to):
    run = checked / "run"
    line = command.refused("export", run, "--to", to, "-o", tmp_path / "no" / "file")
    assert "there is no folder" in line
    assert "is a folder" in command.refused("export", run, "--to", to, "-o", tmp_path)


def test_the_text_exports_are_written_from_the_command_line(command, checked, tmp_path):
    for to, beginning in (
        ("markdown", "## Aftertune: "),
        ("latex", "% Aftertune: "),
        ("model-card", "---\nmodel-index:\n- name: refusing\n"),
    ):
        code, out, err = command("export", checked / "run", "--to", to, "-o", tmp_path / to)
        assert (code, err) == (0, "")
        assert (tmp_path / to).read_text().startswith(beginning)
        assert str(tmp_path / to) in out
    summary = (tmp_path / "markdown").read_text()
    assert "aftertune repair" in summary


# The figures once more


def compared(mine, theirs):
    """Yield the recomputed figures beside those of the result."""
    yield mine["overall"], theirs["overall"]
    for task, figure in theirs["by_task"].items():
        yield mine["by_task"][task], figure


def test_an_independent_script_comes_to_the_same_figures(parquet, result):
    text = (ROOT / "examples" / "recompute.py").read_text()
    assert "import aftertune" not in text
    assert "from aftertune" not in text
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "recompute.py", parquet],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (setting,) = result["result"]["settings"]
    told = json.loads(done.stdout)[f"{setting['system']} | {setting['decoding']}"]
    rates = changes = 0
    for condition in setting["conditions"]:
        mine = told[condition["name"]]
        for figure in ("asr", "over_refusal"):
            for again, was in compared(mine[figure], condition[figure]):
                assert again["estimate"] == pytest.approx(was["estimate"], abs=1e-12)
                assert (again["k"], again["n"]) == (was["k"], was["n"])
                rates += 1
            if condition["base"] is None:
                assert f"{figure}_change" not in mine
                continue
            for again, was in compared(mine[f"{figure}_change"], condition[f"{figure}_change"]):
                assert again["estimate"] == pytest.approx(was["estimate"], abs=1e-12)
                changes += 1
                if "interval" in again:
                    limits = was["interval"]["low"], was["interval"]["high"]
                    assert again["interval"] == pytest.approx(limits, abs=1e-5)
    assert (rates, changes) == (20, 10)
    assert "interval" in told["tuned"]["asr_change"]["overall"]
