"""Studies, results and stores that differ from valid ones: one line or a result, no traceback, no hang, a documented code.

A small part of the numbers runs with the suite; all of them carry the marker ``slow``.
"""

import json
import shutil
import sqlite3

import pytest
import yaml
from commands import Commands
from fuzz_files import STUDY
from rich.console import Console

from aftertune.labels.draw import DrawRequest, draw_sample, keep_sample
from aftertune.measure.consistency import consistency
from aftertune.report.document import CHECKSUM, read_document
from aftertune.report.terminal import present
from aftertune.result import conditions_of, open_finished, renewed_result, write_report
from aftertune.study import cells_of, declared, expand_models, load_study
from aftertune.study.config import Study
from fuzz import Mutator, ended

CODES = {1, 5}
"""Exit codes of errors that are reported on purpose."""


def part(count, share=0.02):
    """Return the numbers of the cases: the first of them with the suite, the others under the marker ``slow``."""
    quick = range(int(count * share))
    rest = range(int(count * share), count)
    return pytest.mark.parametrize(
        "numbers", [quick, pytest.param(rest, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
    )


def judged(call, name):
    error = ended(call, name)
    assert error is None or error.exit_code in CODES, f"{name}: exit code {error.exit_code}"
    return error


# Studies


def expanded(path):
    study = load_study(path)
    models = expand_models(
        study,
        lambda reference: {"weights": reference},
        folder=path.parent / "models",
        template_sha256=lambda base: f"template of {base}",
        bundled_sha256=lambda _: "",
    )
    conditions_of(models, declared(study))
    return [cells_of(study, model.name) for model in models]


def test_the_valid_study_is_valid_and_has_every_key(study_folder):
    (study_folder / "study.yaml").write_text(STUDY)
    assert len(expanded(study_folder / "study.yaml")) > 20
    assert yaml.safe_load(STUDY).keys() == set(Study.model_fields)


@part(2000)
def test_studies(study_folder, numbers):
    refused = 0
    for number in numbers:
        path = study_folder / "study.yaml"
        mutator = Mutator(number)
        if number % 2:
            text = json.dumps(mutator.value(yaml.safe_load(STUDY)))
            path.write_bytes(text.encode(errors="surrogatepass"))
        else:
            path.write_bytes(mutator.file(STUDY.encode(), "yaml"))
        refused += judged(lambda: expanded(path), f"study {number}") is not None  # noqa: B023 - called at once
    assert refused > len(numbers) / 4


# A finished run


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def read_all(folder):
    """Do what `report`, `consistency` and `label export` do."""
    with open_finished(folder) as opened:
        document = renewed_result(opened)
        write_report(folder / "report.html", opened.store, opened.plan, document)
        consistency(opened.table(), opened.plan)
        with (folder / "screen.txt").open("w") as stream:
            present(document, Console(file=stream, width=100), full=True)
    with open_finished(folder, write=True) as opened:
        request = DrawRequest(n=10, seed=0, benign=4)
        _, sample = draw_sample(opened.store, opened.study, opened.table(), opened.plan, request)
        keep_sample(opened.store, opened.study, sample)


def test_the_whole_run_is_read(run):
    read_all(run)


@part(500)
def test_edited_results(run, numbers):
    valid = json.loads((run / "result.json").read_text())
    changed = 0
    for number in numbers:
        mutated = Mutator(number).value(valid)
        if mutated == valid:
            continue
        changed += 1
        (run / "result.json").write_text(json.dumps(mutated))
        assert judged(lambda: read_all(run), f"result {number}") is not None, f"result {number}"
    assert changed > len(numbers) / 2


@pytest.mark.parametrize("change", ["a number", "a sentence", "the checksum", "no checksum"])
def test_a_figure_that_was_changed_by_hand_is_refused(run, change):
    path = run / "result.json"
    content = json.loads(path.read_text())
    setting = content["result"]["settings"][0]
    match change:
        case "a number":
            setting["conditions"][1]["asr"]["overall"]["estimate"] = 0.01
        case "a sentence":
            content["finding"][0] = "All is well."
        case "the checksum":
            content[CHECKSUM] = "0" * 64
        case "no checksum":
            del content[CHECKSUM]
    path.write_text(json.dumps(content))
    error = ended(lambda: read_document(path), change)
    assert "was changed after it was written" in str(error)
    assert "run the study again" in str(error)


def test_a_result_of_another_store_is_refused(run):
    with sqlite3.connect(run / "store.sqlite") as connection:
        connection.execute(
            "UPDATE reading SET value = 0 WHERE reader IN (SELECT id FROM reader WHERE name = 'rules')"
        )
    connection.close()
    error = ended(lambda: read_all(run), "another store")
    assert "column verdict:rules differs" in str(error)


def flipped(data, number):
    """Return bytes of which one in about two thousand, or fewer, has another value; or that are damaged in another way."""
    mutator = Mutator(number)
    if number % 5 == 0:
        return mutator.data(data)
    damaged = bytearray(data)
    for _ in range(mutator.random.randint(1, max(1, len(data) // 2048))):
        damaged[mutator.random.randrange(len(data))] ^= mutator.random.randint(1, 255)
    return bytes(damaged)


@part(500)
def test_stores_with_flipped_bytes(run, finished, numbers):
    data = (finished / "store.sqlite").read_bytes()
    refused = 0
    for number in numbers:
        for file in run.glob("store.sqlite-*"):
            file.unlink()
        (run / "store.sqlite").write_bytes(flipped(data, number))
        refused += judged(lambda: read_all(run), f"store {number}") is not None
    assert refused > len(numbers) / 2


def test_a_damaged_statement_of_several_lines_is_one_line(run):
    path = run / "store.sqlite"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"PRIMARY KEY", b"PRIM`RY KEY", 1))
    error = ended(lambda: read_all(run), "statement")
    assert "is damaged" in str(error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "options"), [("report", ()), ("consistency", ()), ("label export", ("-o", "l.csv"))]
)
def test_the_commands_end_with_the_documented_codes(
    run, finished, verb, options, monkeypatch, capfd
):
    monkeypatch.chdir(run.parent)
    command = Commands(monkeypatch, capfd)
    data, result = ((finished / name).read_bytes() for name in ("store.sqlite", "result.json"))
    for number in range(7):
        (run / "store.sqlite").write_bytes(flipped(data, number) if number % 2 else data)
        (run / "result.json").write_bytes(
            result if number % 2 else Mutator(number).file(result, "json")
        )
        code, _, err = command(*verb.split(), run, *options)
        assert code in {0, *CODES}, (number, err)
        assert err.count("\n") == (code != 0), (number, err)
