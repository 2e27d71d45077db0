import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from synthetic_study import job, key, prompt, response

from aftertune.errors import StoreError, StoreLocked, StoreVersion
from aftertune.store import Store
from aftertune.store.schema import SCHEMA, explained
from aftertune.store.store import WriteLock, _held_locks, refuse_network

WRITER = """
    import sys
    from pathlib import Path
    from synthetic_study import job, key, prompt, response
    from aftertune.core.records import Score, VerdictValue
    from aftertune.store import Scored, Store

    number = int(sys.argv[2])
    with Store.open(Path(sys.argv[1])) as store:
        print("open", flush=True)
        reader = store.add_scorer("judge", "rules", "1")
        while True:
            asked = [prompt(number + offset) for offset in range(20)]
            if number % 100 == 0:
                store.plan("s", [job("base", each) for each in asked])
            store.append("generate", [(key(number + offset), response("x" * 500)) for offset in range(20)])
            store.add_scores(reader, [Scored(prompt=asked[0], key=key(number), score=Score(value=VerdictValue.REFUSED))])
            number += 20
            print(number, flush=True)
"""


def start_writer(path: Path, number: int = 0) -> subprocess.Popen:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1] / "support")
        + os.pathsep
        + os.environ.get("PYTHONPATH", ""),
    }
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(number)]
    writer = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "open\n"
    return writer


def killed(writer: subprocess.Popen) -> int:
    """Kill the writer and return the last number that it was told to be on disk."""
    writer.kill()
    lines = writer.stdout.read().split("\n")[:-1]
    writer.wait()
    writer.stdout.close()
    return int(lines[-1]) if lines else 0


def test_what_was_acknowledged_survives_kill_9_at_any_moment(tmp_path):
    path, acknowledged = tmp_path / "store.db", 0
    for seconds in (0.05, 0.31, 0.17, 0.4, 0.11):
        writer = start_writer(path, acknowledged)
        time.sleep(seconds)
        acknowledged = killed(writer) or acknowledged
        with Store.open(path) as store:
            assert store.missing(key(number) for number in range(acknowledged)) == []
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        if acknowledged:
            assert connection.execute("SELECT count(*) FROM job").fetchone() == (20,)
            assert (
                connection.execute("SELECT count(*) FROM reading").fetchone()[0]
                >= acknowledged // 20
            )
        connection.close()
    assert acknowledged > 0


def test_a_second_writer_is_told_who_writes_and_readers_go_on(tmp_path):
    path = tmp_path / "store.db"
    writer = start_writer(path)
    try:
        with pytest.raises(StoreLocked, match=f"process {writer.pid}.*reading is possible"):
            Store.open(path)
        writer.stdout.readline()
        with Store.open(path, write=False) as reader:
            assert reader.call(key(0)) == response("x" * 500)
    finally:
        killed(writer)
    with Store.open(path) as store:
        assert store.call(key(0)) == response("x" * 500)


def test_one_process_cannot_write_twice_either(store):
    with pytest.raises(StoreLocked):
        Store.open(store.path)
    store.append("generate", [(key(1), response("still works"))])


@contextmanager
def forked():
    """A child that has run what is registered for a fork, and sleeps."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"!")
        time.sleep(20)
        os._exit(0)
    try:
        assert os.read(reading, 1) == b"!"
        yield
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork:DeprecationWarning"
)  # forking is what is tested
def test_a_forked_child_does_not_keep_the_lock_of_a_parent_that_dies(tmp_path):
    lock = WriteLock(tmp_path / "store.db")
    with forked():
        os.close(lock._descriptor)  # what the system does with a process that is killed: no release
        _held_locks.discard(lock._descriptor)
        WriteLock(tmp_path / "store.db").release()


def test_a_copy_of_the_lock_in_another_process_does_not_outlive_its_release(tmp_path):
    lock = WriteLock(tmp_path / "store.db")
    copy = os.dup(lock._descriptor)  # what a fork makes, in the moment before the child closes it
    try:
        lock.release()
        WriteLock(tmp_path / "store.db").release()
    finally:
        os.close(copy)


def test_a_reader_sees_each_commit_of_a_writer(store):
    with Store.open(store.path, write=False) as reader:
        for number in range(5):
            store.append("generate", [(key(number), response("x"))])
            assert reader.missing([key(number)]) == []


@pytest.mark.parametrize(
    ("number", "advice"), [(SCHEMA + 1, "newer Aftertune"), (0, "the Aftertune that wrote it")]
)
@pytest.mark.parametrize("write", [True, False])
def test_another_schema_is_refused_and_left_alone(tmp_path, number, advice, write):
    path = tmp_path / "store.db"
    Store.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {number}")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreVersion, match=advice):
        Store.open(path, write=write)
    assert path.read_bytes() == before
    with Store.open(tmp_path / "mine.db") as mine, pytest.raises(StoreVersion):
        mine.merge(path)


def test_the_schema_and_its_history_are_in_the_file(store):
    rows = dict(sqlite3.connect(store.path).execute("SELECT name, value FROM meta").fetchall())
    assert rows["schema"] == str(SCHEMA)
    assert rows["history"].startswith("1: ")


def test_what_is_no_store_is_refused(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database, " * 100)
    with pytest.raises(StoreError, match="is not an Aftertune store"):
        Store.open(text)
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(StoreError, match="some other program"):
        Store.open(foreign)
    with pytest.raises(StoreError, match="there is no store"):
        Store.open(tmp_path / "gone.db", write=False)
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match="is empty"):
        Store.open(tmp_path / "empty.db", write=False)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be opened.*check the path"):
        Store.open(tmp_path / "file" / "store.db")


def test_a_full_disk_is_said_and_loses_nothing_that_was_committed(store):
    store.append("generate", [(key(0), response("kept"))])
    pages = store._write(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    store._writer.outside(
        lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 20}")
    )
    with pytest.raises(StoreError, match="disk is full; free some space and run again"):
        store.append(
            "generate", ((key(number), response("x" * 4000)) for number in range(1, 100_000))
        )
    with pytest.raises(StoreError, match="disk is full"):
        store.append("generate", [])
    assert store.call(key(0)).text == "kept"
    store.close()
    with Store.open(store.path) as again:
        assert again.call(key(0)).text == "kept"
        again.append("generate", [(key(1), response("room again"))])


def test_a_disk_without_room_for_the_shared_index_is_full_too(tmp_path):
    """SQLite calls that an I/O error; seen on a full tmpfs."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = "SQLITE_IOERR_SHMSIZE"
    assert "the disk is full" in str(explained(error, tmp_path))


def test_a_failed_transaction_is_undone_and_the_store_goes_on(store):
    def work(connection):
        connection.execute("INSERT INTO study (name) VALUES ('half')")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store._write(work)
    assert store.studies() == []
    store.plan("whole", [job("base", prompt(1))])
    assert store.studies() == ["whole"]


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/me/runs", None),
        ("/net/share/runs", "nfs4"),
        ("/net/share disk/x", "fuse.sshfs"),
        ("/net", None),
    ],
)
def test_network_file_systems_are_refused(tmp_path, folder, kind):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/a / ext4 rw 0 0\nserver:/x /net/share nfs4 rw 0 0\nhost: /net/share\\040disk fuse.sshfs rw 0 0\n"
    )
    if kind is None:
        refuse_network(Path(folder) / "store.db", mounts)
        return
    with pytest.raises(StoreError, match=f"network file system \\({kind}\\).*local disk"):
        refuse_network(Path(folder) / "store.db", mounts)


def test_without_a_mount_table_nothing_is_refused(tmp_path):
    refuse_network(tmp_path / "store.db", tmp_path / "gone")
