import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from typed_results import as_gate, as_study

from aftertune.errors import AftertuneError, InputError
from aftertune.report.document import (
    FORMAT,
    LabelCounts,
    PromptCounts,
    ResultDocument,
    notes_of,
    read_document,
    to_plain,
    write_document,
    write_json,
)
from aftertune.report.finding import finding


def test_the_same_result_gives_the_same_bytes_whatever_its_order(tmp_path):
    write_json(tmp_path / "a.json", {"format": 1, "b": [1, 2], "a": "é\ud800"})
    write_json(tmp_path / "b.json", {"a": "é\ud800", "b": [1, 2], "format": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text())["a"] == "é\ud800"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_a_result_without_a_format_or_with_nan_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="format"):
        write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"format": 1, "a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_and_a_folder_as_a_file_are_told_in_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for path, word in (
        (tmp_path / "no" / "a.json", "no folder"),
        (tmp_path / "file" / "a.json", "no folder"),
    ):
        with pytest.raises(InputError, match=word):
            write_json(path, {"format": 1})
    with pytest.raises(InputError, match="is a folder"):
        write_json(tmp_path / "folder", {"format": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs the device that is always full (Linux)"
)
def test_a_full_disk_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    (tmp_path / f".a.json.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(AftertuneError, match="disk is full"):
        write_json(path, {"format": 1})
    assert path.read_text() == "old"
    assert [left.name for left in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission"):
        write_json(tmp_path / "a.json", {"format": 1})


@pytest.fixture
def document(result, gate):
    study = as_study(result)
    return ResultDocument(
        format=FORMAT,
        study="s",
        models=(),
        prompts=PromptCounts(
            count=9,
            sets={"a": {"harmful": 9}},
            dropped={"a": {"duplicate": 2}},
            overlap={"x.jsonl": 1, "y.jsonl": 0},
        ),
        notes=("a note",),
        result=study,
        gate=as_gate(gate),
        finding=finding(study),
        labels=None,
        scorers={"accuracy": "1"},
    )


def test_a_document_comes_back_from_its_file(tmp_path, document):
    path = tmp_path / "result.json"
    write_document(path, document)
    again = read_document(path)
    assert to_plain(again) == to_plain(document)
    assert finding(again.result) == document.finding


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (("result", "settings", 0, "conditions", 2, "asr", "overall", "k"), "9", r"result\.settings\[0\]\.conditions\[2\]\.asr\.overall\.k: .* valid integer, not '9'"),
        (("result", "settings", 0, "conditions"), None, r"result\.settings\[0\]\.conditions: .* array, not None"),
        (("gate", "verdict"), "MAYBE", r"gate\.verdict: .* 'PASS', 'FAIL', .*, not 'MAYBE'"),
        (("gate", "scope"), "the moon", r"gate\.scope: .*, not 'the moon'"),
        (("finding",), "text", "finding: .* array, not 'text'"),
        (("format",), 1, "was written by another version"),
    ],
)  # fmt: skip
def test_a_damaged_document_is_told_in_one_line(tmp_path, document, place, value, problem):
    path = tmp_path / "result.json"
    write_document(path, document)
    content = json.loads(path.read_text())
    *steps, last = place
    inner = content
    for step in steps:
        inner = inner[step]
    inner[last] = value
    path.write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=rf"result\.json: {problem}.*run the study again"
    ) as caught:
        read_document(path)
    assert "\n" not in str(caught.value)


def test_no_result_is_no_finished_run(tmp_path):
    with pytest.raises(InputError, match="no finished run here"):
        read_document(tmp_path / "result.json")


def test_notes(document):
    assert notes_of(document) == [
        "a: 2 prompts left out (duplicate)",
        "1 evaluation prompts occur in x.jsonl",
        "no evaluation prompts occur in y.jsonl",
        "a note",
    ]
    assert "no evaluation prompts occur in y.jsonl" not in notes_of(document, warnings_only=True)


def test_labels_of_other_responses_are_a_note(document):
    labels = LabelCounts(
        drawn=9, labelled=9, annotators=("anna",), seed=0, version="v", applies=False
    )
    stale = notes_of(replace(document, labels=labels))[-1]
    assert "nothing is corrected" in stale
    assert notes_of(replace(document, labels=replace(labels, applies=True)))[-1] == "a note"
