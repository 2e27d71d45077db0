import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_study import job, key, prompt, response

from aftertune.core.records import LabelValue, Score, VerdictValue
from aftertune.errors import AftertuneError, InputError, StoreError, StoreLocked, StoreVersion
from aftertune.store import Scored, Store
from aftertune.store.recover import recover

PAGE = 4096
COUNT = 600
JOBS = [job("base", prompt(number)) for number in range(COUNT)]
TEXTS = [
    f"answer {number} " + "x" * (9_000 if number % 100 == 0 else number % 90)
    for number in range(COUNT)
]
"""Every hundredth does not fit on a page."""
OLD = Path(__file__).parents[1] / "golden" / "study-v1" / "store.sqlite"


def filled(path):
    with Store.open(path) as store:
        store.plan("s", JOBS)
        store.append(
            "generate",
            [(each.key, response(text)) for each, text in zip(JOBS, TEXTS, strict=True)],
        )
        judge = store.add_scorer("judge", "rules", "1")
        person = store.add_scorer("person", "anna", "1")
        for scorer, value, jobs in (
            (judge, VerdictValue.REFUSED, JOBS),
            (person, LabelValue.COMPLIED, JOBS[:50]),
        ):
            store.add_scores(
                scorer,
                [
                    Scored(prompt=each.prompt, key=each.key, score=Score(value=value))
                    for each in jobs
                ],
            )
        store.set_meta("s", "sample", {"n": 50})
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("whole") / "store.db").read_bytes()


@pytest.fixture
def damaged(tmp_path, whole):
    """A function that writes a store's damaged bytes, recovers it, and returns the record and the answers by key."""

    def write(data):
        source, target = tmp_path / "damaged.db", tmp_path / "new.db"
        source.write_bytes(data)
        target.unlink(missing_ok=True)
        recovery = recover(source, target)
        assert source.read_bytes() == data
        assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.db", "new.db"]
        with Store.open(target) as store:
            answers = store.calls([each.key for each in JOBS])
            lost = store.missing(each.key for each in JOBS)
            assert len(answers) + len(lost) == COUNT
            store.plan("s", JOBS)
            store.append("generate", [(each, response("again")) for each in lost])
            assert store.missing(each.key for each in JOBS) == []
        connection = sqlite3.connect(target)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()
        for file in tmp_path.glob("new.db*"):
            file.unlink()
        return recovery, answers

    return write


def given(answers):
    """Return the answers that are not those that were given."""
    texts = {each.key: text for each, text in zip(JOBS, TEXTS, strict=True)}
    return [text for call, answer in answers.items() if (text := answer.text) != texts[call]]


def pages_of(data, root_of):
    """Return where the page of a table's root begins."""
    path = Path(root_of[0])
    path.write_bytes(data)
    connection = sqlite3.connect(path)
    ((root,),) = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = ?", (root_of[1],)
    )
    connection.close()
    path.unlink()
    return (root - 1) * PAGE


def test_a_whole_store_is_kept_whole(damaged, whole):
    recovery, answers = damaged(whole)
    assert not recovery.damaged
    assert (recovery.answers.kept, recovery.prompts.kept, recovery.labels.kept) == (600, 600, 50)
    assert (recovery.scores, recovery.unchecked, given(answers)) == (600, 0, [])


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9, 0.999])
def test_the_end_cut_off_is_seen_and_all_before_it_is_kept(damaged, whole, share):
    recovery, answers = damaged(whole[: int(len(whole) * share)])
    assert recovery.missing_pages > 0
    assert recovery.damaged
    assert given(answers) == []
    assert recovery.answers.kept == len(answers) < COUNT or share > 0.99


@pytest.mark.parametrize("table", ["text", "answer", "call", "checksum", "word", "reading"])
def test_a_table_whose_root_is_gone_loses_no_more_than_that_page(damaged, whole, tmp_path, table):
    start = pages_of(whole, (tmp_path / "look.db", table))
    broken = bytes(PAGE)
    recovery, answers = damaged(whole[:start] + broken + whole[start + PAGE :])
    assert recovery.broken_pages == 1
    assert given(answers) == []
    assert (
        recovery.answers.kept == COUNT
    )  # these roots hold no rows, or rows that can be made again


def test_a_file_without_its_first_page_is_read_all_the_same(damaged, whole):
    recovery, answers = damaged(bytes(PAGE) + whole[PAGE:])
    assert len(answers) == recovery.answers.kept == COUNT
    assert recovery.damaged


def test_a_file_that_ends_just_behind_a_page_is_read(damaged, whole):
    recovery, answers = damaged(whole[: 80 * PAGE + 3])
    assert recovery.missing_pages > 0
    assert given(answers) == []


def test_one_changed_letter_of_a_text_is_seen(damaged, whole):
    recovery, answers = damaged(whole.replace(b"answer 123 ", b"answer 128 "))
    assert (recovery.changed, recovery.answers.lost, recovery.answers.kept) == (1, 1, COUNT - 1)
    assert JOBS[123].key not in answers


def test_reading_refuses_a_changed_letter_too(tmp_path, whole):
    path = tmp_path / "store.db"
    path.write_bytes(whole.replace(b"answer 123 ", b"answer 128 "))
    with Store.open(path, write=False) as store:
        assert store.call(JOBS[122].key) is not None
        with pytest.raises(StoreError, match="changed after it was written"):
            store.call(JOBS[123].key)


def test_no_flipped_byte_changes_an_answer_silently(damaged, whole):
    kept = []
    for number in range(6):
        draw = random.Random(number)  # noqa: S311 - reproducible, not a secret
        data = bytearray(whole)
        for _ in range(draw.choice((1, 1, 5, 20))):
            data[draw.randrange(len(data))] ^= draw.randint(1, 255)
        recovery, answers = damaged(bytes(data))
        assert given(answers) == [], number
        kept.append(recovery.answers.kept)
    assert min(kept) > COUNT / 2
    assert sum(kept) > 0.95 * COUNT * len(kept)


def test_what_no_store_is_left_in_is_refused_and_nothing_is_written(tmp_path, whole):
    target = tmp_path / "new.db"
    cases = {
        "noise.db": random.Random(1).randbytes(50_000),  # noqa: S311
        "empty.db": b"",
        "text.db": b"not a database, " * 9_000,
        "zeros.db": bytes(len(whole)),
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(StoreError, match="nothing of a store can be read"):
            recover(tmp_path / name, target)
    with pytest.raises(InputError, match="no such store"):
        recover(tmp_path / "gone.db", target)
    newer = bytearray(whole)
    newer[63] = 9
    (tmp_path / "newer.db").write_bytes(newer)
    with pytest.raises(StoreVersion, match="has schema 9"):
        recover(tmp_path / "newer.db", target)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*cases, "newer.db"])


def test_a_file_that_is_there_stays(tmp_path, whole):
    source, target = tmp_path / "store.db", tmp_path / "other.db"
    source.write_bytes(whole)
    target.write_bytes(b"mine")
    for there in (target, source):
        with pytest.raises(InputError, match="is there already"):
            recover(source, there)
    assert target.read_bytes() == b"mine"


def test_a_store_that_is_written_to_is_not_recovered(store, tmp_path):
    with pytest.raises(StoreLocked):
        recover(store.path, tmp_path / "new.db")


def test_what_cannot_be_opened_is_named(tmp_path, whole):
    source, target = tmp_path / "store.db", tmp_path / "new.db"
    source.write_bytes(whole)
    source.with_name("store.db.lock").mkdir()
    with pytest.raises(StoreError, match=r"store\.db: cannot be opened"):
        recover(source, target)
    source.with_name("store.db.lock").rmdir()
    with pytest.raises(InputError, match=r"new\.db: there is no folder"):
        recover(source, tmp_path / "gone" / "new.db")


def test_answers_from_before_checksums_are_kept_and_counted(tmp_path):
    source = Path(shutil.copy(OLD, tmp_path / "old.db"))
    with sqlite3.connect(source) as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM answer")
    connection.close()
    recovery = recover(source, tmp_path / "new.db")
    assert recovery.answers.kept == recovery.unchecked == count > 0
    assert not recovery.damaged
    with Store.open(
        source
    ) as store:  # a writer adds the table; answers that are there get no checksum of others
        known = store._reading.execute("SELECT key FROM call JOIN answer ON call = id").fetchone()
        store.append("generate", [(known[0], response("another")), (key("new"), response("new"))])
        assert store.call(known[0]).text != "another"
        assert store.call(key("new")).text == "new"
    assert recover(source, tmp_path / "newer.db").unchecked == count


def test_merging_carries_checksums_and_old_stores_have_none(tmp_path, whole):
    (tmp_path / "part.db").write_bytes(whole)
    shutil.copy(OLD, tmp_path / "old.db")
    with Store.open(tmp_path / "all.db") as store:
        store.append("generate", [(JOBS[0].key, response("first come"))])
        store.merge(tmp_path / "part.db")
        old = store.merge(tmp_path / "old.db")
        assert store.call(JOBS[0].key).text == "first come"
        assert store.call(JOBS[1].key).text == TEXTS[1]
    recovery = recover(tmp_path / "all.db", tmp_path / "new.db")
    assert recovery.answers.kept == COUNT + old
    assert (recovery.unchecked, recovery.changed) == (old, 0)


KILLED = """
import os, sys
from pathlib import Path
from synthetic_study import key, response
from aftertune.store import Store
store = Store.open(Path(sys.argv[1]))
for start in range(0, 200, 50):
    store.append("generate", [(key(number), response("x" * 300)) for number in range(start, start + 50)])
os.kill(os.getpid(), 9)
"""


def test_a_lost_write_ahead_log_is_seen_and_one_that_is_there_is_read(tmp_path):
    source = tmp_path / "run" / "store.db"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(source)], env=environment, check=False
    )
    assert killed.returncode == -9
    before = {path.name: path.read_bytes() for path in source.parent.iterdir()}
    recovery = recover(source, tmp_path / "new.db")
    assert (recovery.answers.kept, recovery.damaged) == (200, False)
    assert {path.name: path.read_bytes() for path in source.parent.iterdir()} == before | {
        "store.db.lock": (source.parent / "store.db.lock").read_bytes()
    }
    log = source.with_name("store.db-wal")
    cut = log.read_bytes()[: log.stat().st_size // 2]
    log.write_bytes(cut)  # the commits before the cut count, as they do for SQLite
    recovery = recover(source, tmp_path / "cut.db")
    assert recovery.answers.kept in {50, 100, 150}
    assert recovery.answers.lost == 0
    log.unlink()
    with pytest.raises(AftertuneError, match="nothing of a store"):
        recover(source, tmp_path / "lost.db")


def test_frames_that_a_log_held_and_the_file_lacks_are_counted(tmp_path, whole):
    source = tmp_path / "store.db"
    source.write_bytes(whole)
    store = Store.open(source)
    store.append("generate", [(key("late"), response("late"))])
    for part in ("", "-shm"):  # what is left of a store whose log is lost
        shutil.copy(f"{source}{part}", tmp_path / f"torn.db{part}")
    store.close()
    recovery = recover(tmp_path / "torn.db", tmp_path / "new.db")
    assert recovery.lost_frames > 0
    assert recovery.damaged
    assert recovery.answers.kept == COUNT
