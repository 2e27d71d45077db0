import json
import os
from pathlib import Path

import pytest

from aftertune.errors import AftertuneError, InputError
from aftertune.report.document import write_json


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
