"""Files appear whole or not at all."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aftertune.core.files import (
    explained,
    full_disk,
    real,
    whole_folder,
    write_whole,
    write_whole_bytes,
)
from aftertune.errors import InputError

WRITERS = pytest.mark.parametrize(
    "write",
    [
        lambda path, text: write_whole(path, [text]),
        lambda path, text: write_whole_bytes(path, text.encode()),
    ],
    ids=["text", "bytes"],
)


def test_a_text_that_breaks_off_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.txt"
    write_whole(path, ["old\n"])

    def breaks_off():
        yield "new\n"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(path, breaks_off())
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


@WRITERS
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path, write):
    (tmp_path / "there").mkdir()
    link = tmp_path / "rows.txt"
    link.symlink_to(tmp_path / "there" / "rows.txt")
    for text in ("first", "second"):
        write(link, text)
        assert link.is_symlink()
        assert (tmp_path / "there" / "rows.txt").read_text() == text


@WRITERS
def test_a_pipe_is_written_to_and_not_replaced(tmp_path, write):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write(pipe, "through")
    reader.join(10)
    assert read == ["through"]
    assert pipe.is_fifo()


@WRITERS
def test_what_stands_in_the_way_is_one_line(tmp_path, write):
    for path, said in ((tmp_path, "is a folder"), (tmp_path / "no" / "rows.txt", "no folder")):
        with pytest.raises(InputError, match=said):
            write(path, "x")


def test_a_read_only_file_system_reads_like_missing_permission(tmp_path):
    assert "no permission" in str(
        explained(tmp_path / "a", OSError(errno.EROFS, "Read-only file system"))
    )


def test_what_killed_writers_left_is_swept_up_and_nothing_else(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale, alive = tmp_path / f".a.txt.{dead.pid}.tmp", tmp_path / f".a.txt.{os.getppid()}.tmp"
    other = tmp_path / f".b.txt.{dead.pid}.tmp"
    for left in (stale, alive, other):
        left.write_text("half")
    write_whole(tmp_path / "a.txt", ["whole"])
    assert [left.exists() for left in (stale, alive, other)] == [False, True, True]


def test_links_in_a_circle_stay_as_they_are(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert real(tmp_path / "loop").name == "loop"
    (tmp_path / "link").symlink_to("a")
    assert real(tmp_path / "link") == real(tmp_path / "a")


def test_a_folder_appears_whole_once_and_the_first_one_stays(tmp_path):
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "made") as draft:
        draft.joinpath("no", "folder").touch()
    assert list(tmp_path.iterdir()) == []
    with whole_folder(tmp_path / "made") as slow:
        (slow / "slow").touch()
        shutil.copytree(slow, tmp_path / "made")  # another process was faster
        (tmp_path / "made" / "fast").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert (tmp_path / "made" / "fast").exists()


def by_python():
    Path("/dev/full").write_text("text")


def by_tokenizers():
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save("/dev/full")  # noqa: S106 - no password


def by_a_wrapper():
    try:
        by_python()
    except OSError as error:
        raise RuntimeError("saving failed") from error


def by_nothing_of_the_kind():
    try:
        Path("/dev/null/nothing").read_text()
    except OSError:
        raise KeyError("os error 28") from None


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs the device that is always full (Linux)"
)
@pytest.mark.parametrize(
    ("write", "is_full"),
    [
        (by_python, True),
        (by_tokenizers, True),
        (by_a_wrapper, True),
        (by_nothing_of_the_kind, False),
    ],
)
def test_a_full_disk_is_known_behind_the_errors_of_every_library(write, is_full):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - tokenizers raises the bare class
        write()
    assert (full_disk(caught.value) is not None) is is_full
