"""Rows that stay in their file: the same rows as when all are read, in little memory."""

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from aftertune.core.recipe import TrainingFile
from aftertune.data.mix import Candidates, draw, mix, question_hash
from aftertune.data.rows import RowFile, read_pools, read_rows, scan_pools
from aftertune.errors import DataError

RECORDS = [
    {"prompt": f"Ask {n} é", "completion": f"Say {n}", "task": "ab"[n % 2], "n": n}
    for n in range(7)
]
LINES = [json.dumps(record, ensure_ascii=bool(n % 2)) for n, record in enumerate(RECORDS)]


def opened(path):
    return RowFile(TrainingFile(path=path.name), path.parent)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", "\n".join(LINES).encode()),
        ("a.jsonl", ("\ufeff\r\n" + "\r\n\r\n".join(LINES) + "\r\n \r\n").encode()),
        ("a.ndjson", "\n".join(LINES).encode()),
        ("a.jsonl.gz", gzip.compress("\n".join(LINES).encode())),
        ("a.json", json.dumps(RECORDS).encode()),
    ],
)
def test_any_row_of_any_file_is_given_by_its_number(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with opened(tmp_path / name) as file:
        scanned = list(file.scan())
        whole = read_rows(TrainingFile(path=name), tmp_path)
        assert (
            [each.row for each in scanned]
            == whole
            == list(file)
            == [file[n] for n in range(len(file))]
        )
        assert [each.record for each in scanned] == [file.record(n) for n in range(7)] == RECORDS
        assert file[5] == whole[5]
        if name == "a.jsonl":
            assert [file.line(number) for number in range(7)] == LINES
        with pytest.raises(IndexError):
            file[7]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"prompt": "x", "completion": "y"}\n\n{"prompt"', "line 3: broken JSON"),
        (b'{"prompt": "x", "completion": "y"}\n\xff\n', "line 2: not UTF-8"),
        (b"\n\n", "no rows"),
        (b'{"prompt": "", "completion": "y"}', "line 1: empty question"),
    ],
)
def test_errors_name_their_line(content, message, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(content)
    with opened(tmp_path / "a.jsonl") as file, pytest.raises(DataError, match=message):
        list(file.scan())


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with opened(tmp_path / "none.jsonl") as file, pytest.raises(DataError, match="no such file"):
        list(file.scan())


def test_pools_are_those_that_are_read_whole(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(LINES))
    (tmp_path / "b.jsonl").write_text(
        json.dumps({"prompt": "Fresh", "completion": "Yes", "task": "b"})
    )
    (tmp_path / "c.jsonl").write_text(json.dumps({"prompt": "Other", "completion": "Yes"}))
    names = ("a.jsonl", "b.jsonl", "c.jsonl")
    read = read_pools([TrainingFile(path=name) for name in names], tmp_path)
    with (
        opened(tmp_path / "a.jsonl") as a,
        opened(tmp_path / "b.jsonl") as b,
        opened(tmp_path / "c.jsonl") as c,
    ):
        pools = scan_pools([a, b, c])
        assert {task: list(rows) for task, rows in pools.items()} == read


def test_the_draw_from_files_is_the_draw_from_memory(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(LINES))
    user = [{"prompt": f"Mine {n}", "completion": "Yes"} for n in range(40)]
    (tmp_path / "user.jsonl").write_text("\n".join(map(json.dumps, [*user, RECORDS[0]])))
    in_memory = mix(
        read_rows(TrainingFile(path="user.jsonl"), tmp_path),
        read_pools([TrainingFile(path="a.jsonl")], tmp_path),
        share=0.3,
        seed=4,
    )
    with opened(tmp_path / "user.jsonl") as rows, opened(tmp_path / "a.jsonl") as safety:
        made, pools = drawn(rows, safety, share=0.3, seed=4)
        placed = [
            rows[number] if part == "user" else pools[task].row(number)
            for part, task, number in made
        ]
    assert placed == in_memory.rows
    assert made.notes == in_memory.notes


def drawn(rows, safety, *, share, seed):
    from array import array

    known = array("Q", (question_hash(scanned.row) for scanned in rows.scan()))
    pools = {task: Candidates(pool) for task, pool in scan_pools([safety]).items()}
    return draw(known, (pools, {}), shares=(share, 0.0), seed=seed), pools


def test_a_row_costs_less_than_100_bytes_of_memory(tmp_path):
    (tmp_path / "safety.jsonl").write_text("\n".join(LINES))
    peaks = []
    for count in (1_000, 9_000):
        path = tmp_path / f"{count}.jsonl"
        path.write_text(
            "".join(
                json.dumps({"prompt": f"Ask {n}" * 20, "completion": "Yes"}) + "\n"
                for n in range(count)
            )
        )
        tracemalloc.start()
        with opened(path) as rows, opened(tmp_path / "safety.jsonl") as safety:
            made, _ = drawn(rows, safety, share=0.3, seed=0)
            sizes = sum(len(rows.line(number)) for part, _, number in made if part == "user")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sizes == Path(path).stat().st_size - count
    assert (peaks[1] - peaks[0]) / 8_000 < 100
