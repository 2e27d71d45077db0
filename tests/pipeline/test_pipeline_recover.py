"""A store damaged in the middle of its answers is recovered by the command, and the next run asks what is lost and no more."""

import re
import sqlite3

from tiny_study import calls_of, environment, finish, start, stored_keys

PAGE = 4096


def leaf_of_texts(path):
    """Return where a page with texts begins, by a text that is on it."""
    connection = sqlite3.connect(path)
    ((text,),) = connection.execute(
        "SELECT text FROM text WHERE length(text) > 12 ORDER BY call DESC LIMIT 1"
    )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path.read_bytes().rindex(text) // PAGE * PAGE


def test_the_recovered_store_asks_only_what_is_lost(copied, tiny_cache, finished_study, command):
    store = copied / "out" / "store.sqlite"
    whole = stored_keys(store)
    start_of_page = leaf_of_texts(store)
    data = bytearray(store.read_bytes())
    data[start_of_page : start_of_page + 8] = bytes(8)
    store.write_bytes(data)
    before = store.read_bytes()
    code, out, err = command("store", "recover", store, "-o", copied / "new.sqlite")
    assert code == 0, err
    assert store.read_bytes() == before
    kept, lost = map(int, re.search(r"answers +(\d+) +(\d+)", out).groups())
    assert (kept + lost, kept > 0, lost > 0) == (len(whole), True, True), out
    assert "1 pages of" in out
    for file in store.parent.glob("store.sqlite*"):
        file.unlink()
    (copied / "new.sqlite").rename(store)
    there = stored_keys(store)
    assert len(there) == kept
    log = copied / "calls.log"
    env = environment(tiny_cache, log=log)
    code, _, err = finish(start("run", "study.yaml", "--out", "out", env=env, cwd=copied))
    assert code == 0, err
    asked = set(calls_of(log, "generate", "judge", "guard"))
    assert asked == whole - there
    assert stored_keys(store) == whole
    assert (copied / "out" / "result.json").read_bytes() == finished_study.result
    assert "is there already" in command.refused("store", "recover", store, "-o", store)
