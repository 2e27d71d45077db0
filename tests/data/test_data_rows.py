"""Training rows: every file shape, every error, and the round trip."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.core.recipe import TrainingFile
from aftertune.core.records import Message
from aftertune.data.rows import by_answer, read_pools, read_rows, trainable, write_rows
from aftertune.errors import DataError

ROW = (Message(role="user", content="Hi?"), Message(role="assistant", content="Hello."))
WITH_INPUT = (
    Message(role="user", content="Add.\n\n1 and 2"),
    Message(role="assistant", content="3"),
)
DIALOG = (
    Message(role="system", content="Be kind."),
    Message(role="user", content="Hi?"),
    Message(role="assistant", content="Hello."),
    Message(role="user", content="And?"),
    Message(role="assistant", content="Bye."),
)


def messages(row):
    return [{"role": turn.role, "content": turn.content} for turn in row]


def read(tmp_path, name, content, **options):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(TrainingFile(path=name, **options), tmp_path)


SILENT = (Message(role="user", content="Hi?"), Message(role="assistant", content=""))
VERTEX = {
    "systemInstruction": {"role": "system", "parts": [{"text": "Be kind."}]},
    "contents": [
        {
            "role": {"user": "user", "assistant": "model"}[turn.role],
            "parts": [{"text": turn.content}],
        }
        for turn in DIALOG[1:]
    ],
}
SHAREGPT = {
    "conversations": [
        {"from": {"user": "human", "assistant": "gpt"}[t.role], "value": t.content}
        for t in DIALOG[1:]
    ],
    "system": "Be kind.",
}
COLUMNS = {"prompt": "q", "completion": "a"}


@pytest.mark.parametrize(
    ("name", "content", "options", "rows"),
    [
        ("a.jsonl", json.dumps({"messages": messages(DIALOG)}) + "\n\n", {}, [DIALOG]),
        ("a.jsonl", json.dumps({"prompt": "Hi?", "completion": "Hello."}), {}, [ROW]),
        (
            "a.jsonl",
            json.dumps({"prompt": messages(ROW[:1]), "completion": messages(ROW[1:])}),
            {},
            [ROW],
        ),
        (
            "a.json",
            json.dumps([{"instruction": "Add.", "input": "1 and 2", "output": "3"}]),
            {},
            [WITH_INPUT],
        ),
        (
            "a.json",
            json.dumps([{"instruction": "Hi?", "input": "", "output": "Hello."}]),
            {},
            [ROW],
        ),
        ("a.jsonl", json.dumps({"instruction": "Hi?", "output": "Hello."}), {}, [ROW]),
        ("a.jsonl", json.dumps({"instruction": "Hi?", "output": ""}), {}, [SILENT]),
        ("a.jsonl", json.dumps(VERTEX), {}, [DIALOG]),
        ("a.jsonl", json.dumps(SHAREGPT), {}, [DIALOG]),
        ("a.json", json.dumps({"q": ["Hi?"], "a": ["Hello."]}), {"columns": COLUMNS}, [ROW]),
        ("a.csv", '\ufeffq,a,n\n"Hi?",Hello.,1\n', {"columns": COLUMNS}, [ROW]),
        ("a.csv", "q,a,n\nAdd.,3,1 and 2\n", {"columns": {**COLUMNS, "input": "n"}}, [WITH_INPUT]),
        ("a.tsv", "q\ta\nHi?\tHello.\n", {"columns": COLUMNS}, [ROW]),
        ("a.csv.gz", gzip.compress(b"q,a\nHi?,Hello.\n", mtime=0), {"columns": COLUMNS}, [ROW]),
        ("a.csv", "prompt,completion\nHi?,Hello.\nHi?,Hello.\n", {"limit": 1}, [ROW]),
    ],
)
def test_every_shape_is_read(tmp_path, name, content, options, rows):
    assert read(tmp_path, name, content, **options) == rows


def line(**record):
    return json.dumps(record)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", line(prompt="p", completion="c") + '\n{"prompt": ', "line 2: broken JSON"),
        ("a.jsonl", "[1]", "line 1: expected an object, found list"),
        ("a.jsonl", "[" * 100_000, "line 1: broken JSON"),
        ("a.jsonl", "", "no rows"),
        ("a.json", "[]", "no rows"),
        ("a.json", '{"a": [1], "b": [1, 2]}', "equally long lists"),
        ("a.json", "3", "expected a list of objects, found int"),
        ("a.jsonl", line(text="x"), "needs 'messages'.*but has the columns 'text'"),
        ("a.jsonl", line(prompt="x"), "line 1: 'prompt' without 'completion'"),
        ("a.jsonl", line(prompt="x", completion=3), "'completion': expected text, found int"),
        (
            "a.jsonl",
            line(
                messages=[*messages(ROW[:1]), {"role": "assistant", "content": ""}, *messages(ROW)]
            ),
            "empty answer",
        ),
        ("a.jsonl", line(prompt="", completion="x"), "line 1: empty question"),
        ("a.jsonl", line(instruction="x"), "no column 'output'"),
        ("a.jsonl", line(messages="x"), "expected a list of messages, found str"),
        (
            "a.jsonl",
            line(contents=[{"role": ["user"], "parts": []}]),
            r"role \['user'\]; use one of system, developer, user",
        ),
        ("a.jsonl", line(messages=[]), "the last turn must be the assistant's"),
        ("a.jsonl", line(messages=[{"role": "user"}]), r"messages\[0\]: a message needs"),
        (
            "a.jsonl",
            line(messages=[{"role": "robot", "content": "x"}]),
            "role 'robot'; use one of system",
        ),
        (
            "a.jsonl",
            line(messages=messages(ROW[::-1])),
            "turn 1 is 'assistant' where 'user' is due",
        ),
        ("a.jsonl", line(messages=messages(DIALOG[:2])), "the last turn must be the assistant's"),
        (
            "a.jsonl",
            line(messages=messages(ROW + DIALOG[:1])),
            "turn 3 is 'system' where 'user' is due",
        ),
        (
            "a.jsonl",
            line(messages=[{"role": "user", "content": [{"type": "text"}]}]),
            r"messages\[0\], content\[0\]: a part without text",
        ),
        (
            "a.jsonl",
            line(contents=[{"role": "robot", "parts": []}]),
            r"contents\[0\]: role 'robot'; use one of",
        ),
        (
            "a.jsonl",
            line(contents=[{"role": "user", "parts": [{"fileData": {}}]}]),
            r"contents\[0\], parts\[0\]: a part without text \('fileData'\)",
        ),
        ("a.jsonl", line(contents=[{"role": "user"}]), "or 'role' and 'parts'"),
        ("a.jsonl", line(contents=[{"role": "user", "parts": "x"}]), "needs 'parts', a list"),
        (
            "a.jsonl",
            line(conversations=[{"from": "robot", "value": "x"}]),
            "from 'robot'; use one of system",
        ),
        (
            "a.jsonl",
            line(conversations=[{"role": "user"}]),
            "needs 'role' and 'content', 'from' and",
        ),
        (
            "a.jsonl",
            line(
                messages=[*messages(ROW[:1]), {"role": "assistant", "content": "x", "weight": 0.5}]
            ),
            r"messages\[1\]: weight 0\.5; an answer is learnt \(1\) or not",
        ),
        (
            "a.jsonl",
            line(instruction="x", output="y", history=[["z"]]),
            r"history\[0\]: expected a list of a question and",
        ),
        (
            "a.jsonl",
            line(chosen=messages(ROW), rejected=messages(ROW)),
            "needs 'messages'.*has the columns 'chosen', 'rejected'",
        ),
        (
            "a.jsonl",
            '{"prompt": "x", "completion": "y", "prompt": "z"}',
            "line 1: broken JSON .the key 'prompt' stands twice",
        ),
        ("a.json", '[{"prompt": "x", "completion": {"a": 1, "a": 2}}]', "the key 'a' stands twice"),
        ("a.json", '{"split": [1], "n": 3}', "one with its rows in a list called 'data', 'rows'"),
        (
            "a.jsonl",
            "version https://git-lfs.github.com/spec/v1\n",
            "pointer of Git LFS.*git lfs pull",
        ),
        ("a.jsonl", '{"prompt": "\\ud800", "completion": "x"}', "surrogate"),
        ("a.csv", "prompt,completion\nx\n", "line 2: the row has not the 2 columns"),
        ("a.csv", "prompt,completion\nx,y,z\n", "line 2: the row has not the 2 columns"),
        ("a.csv", 'prompt,completion\n"x,y\n', "broken CSV"),
        ("a.csv", 'prompt,completion\n\n"x\n y",z\n\nx\n', "line 6: the row has not the 2 columns"),
        (
            "a.csv",
            "prompt,completion,completion\nx,y,z\n",
            "the header names the column 'completion' twice",
        ),
        ("a.csv", b"prompt,completion\nx,\xff\n", "not UTF-8"),
        ("a.jsonl.gz", b"\x1f\x8b no gzip", "damaged"),
        ("a.parquet", b"no Parquet", "not a readable Parquet file"),
        ("a.xlsx", "", "unknown kind of file"),
    ],
)
def test_every_error_names_its_place(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, name, content)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parquet_is_read_and_a_broken_one_is_refused(tmp_path):
    import pyarrow as pa
    from pyarrow.parquet import write_table

    write_table(
        pa.Table.from_pylist([{"messages": messages(DIALOG)}, {"messages": messages(ROW)}]),
        tmp_path / "a.parquet",
    )
    assert read_rows(TrainingFile(path="a.parquet"), tmp_path) == [DIALOG, ROW]
    with pytest.raises(DataError, match=r"b\.parquet: not a readable Parquet file"):
        read(tmp_path, "b.parquet", "PAR1 no more")


def test_a_parquet_file_with_a_damaged_page_is_named(tmp_path):
    import pyarrow as pa
    from pyarrow.parquet import write_table

    rows = [{"prompt": f"say {number}", "completion": "a"} for number in range(1_000)]
    write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    damaged = bytearray((tmp_path / "c.parquet").read_bytes())
    damaged[50:900] = b"\xa5" * 850
    (tmp_path / "c.parquet").write_bytes(damaged)
    with pytest.raises(DataError, match=r"c\.parquet: not a readable Parquet file"):
        read_rows(TrainingFile(path="c.parquet"), tmp_path)


def test_a_gz_file_with_a_damaged_middle_is_named(tmp_path):
    lines = "".join(
        json.dumps({"prompt": f"say {n * n}", "completion": "a"}) + "\n" for n in range(3_000)
    )
    damaged = bytearray(gzip.compress(lines.encode()))
    damaged[100:300] = b"\xff" * 200
    (tmp_path / "d.jsonl.gz").write_bytes(damaged)
    with pytest.raises(DataError, match=r"d\.jsonl\.gz: the \.gz file is damaged"):
        read_rows(TrainingFile(path="d.jsonl.gz"), tmp_path)


def test_a_folder_is_told_from_a_missing_file(tmp_path):
    (tmp_path / "e.jsonl").mkdir()
    with pytest.raises(DataError, match=r"e\.jsonl: is a folder; name a file in it"):
        read_rows(TrainingFile(path="e.jsonl"), tmp_path)


@pytest.mark.parametrize(
    "path", ["none.jsonl", "data/none.jsonl", "data/none.csv.gz", "data/none.parquet"]
)
def test_a_missing_file_is_no_hub_id(path, tmp_path):
    with pytest.raises(DataError, match="there is no such file; check the path"):
        read_rows(TrainingFile(path=path), tmp_path)


def test_a_wrong_column_mapping_names_the_columns(tmp_path):
    with pytest.raises(DataError, match="no column 'x'; it has 'prompt', 'completion'"):
        read(tmp_path, "a.csv", "prompt,completion\np,c\n", columns={"prompt": "x"})


def test_hub_data_sets_are_read_through_datasets(tmp_path, monkeypatch):
    """A local folder with a data file answers where the hub would: `datasets` opens both alike."""
    (tmp_path / "data" / "owner").mkdir(parents=True)
    folder = tmp_path / "data" / "owner" / "rows"
    folder.mkdir()
    (folder / "train.jsonl").write_text(line(prompt="Hi?", completion="Hello.") + "\n")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    assert read_rows(TrainingFile(path="owner/rows"), tmp_path / "elsewhere") == [ROW]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5))
def test_what_is_written_is_read(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("rows")
    rows = [
        (Message(role="user", content=q), Message(role="assistant", content=a)) for q, a in pairs
    ]
    write_rows(rows, folder / "out" / "rows.jsonl")
    assert read_rows(TrainingFile(path="out/rows.jsonl"), folder) == rows
    assert [path.name for path in (folder / "out").iterdir()] == ["rows.jsonl"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_rows([ROW], tmp_path / "rows.jsonl")

    def broken():
        yield ROW
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_rows(broken(), tmp_path / "rows.jsonl")
    assert read_rows(TrainingFile(path="rows.jsonl"), tmp_path) == [ROW]
    assert len(list(tmp_path.iterdir())) == 1


def test_rows_with_tasks_come_back_as_pools(tmp_path):
    write_rows([ROW, DIALOG, WITH_INPUT], tmp_path / "tasks.jsonl", tasks=["text", "code", "text"])
    write_rows([ROW], tmp_path / "plain.jsonl")
    files = [TrainingFile(path="tasks.jsonl"), TrainingFile(path="plain.jsonl")]
    assert read_pools(files, tmp_path) == {
        "text": [ROW, WITH_INPUT],
        "code": [DIALOG],
        "plain.jsonl": [ROW],
    }


def test_rows_about_child_exploitation_are_left_out_of_training():
    def row(question):
        return Message(role="user", content=question), Message(role="assistant", content="No.")

    fine = row("How do I bake bread with children?")
    notes = []
    rows = [fine, row("Was this paedophile sentenced?")]
    assert trainable(rows, notes.append, "my.jsonl", by_answer) == [fine]
    assert [note[:17] for note in notes] == ["my.jsonl: 1 rows "]
