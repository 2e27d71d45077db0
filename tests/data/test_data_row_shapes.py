"""The shapes of training rows, a table: how each is read, what the mix makes of it, and what training learns of it."""

import gzip
import json

import pytest

from aftertune.core.recipe import TrainingFile
from aftertune.core.records import Message
from aftertune.data.bundled.behaviors import pairs
from aftertune.data.bundled.multitask import evaluation_rows
from aftertune.data.files import Kind, Layout, kind_of
from aftertune.data.formats import converted, format_of, uses_tools, writer_like
from aftertune.data.rows import (
    as_marked,
    by_answer,
    checked_row,
    read_columns,
    read_rows,
    trainable,
    whole,
)
from aftertune.errors import DataError, InputError

Q, A = "Name a green fruit.", "A lime."
ASK, SAY = {"role": "user", "content": Q}, {"role": "assistant", "content": A}
SHARE = [{"from": "human", "value": Q}, {"from": "gpt", "value": A}]
EXCHANGE = (Message(role="user", content=Q), Message(role="assistant", content=A))
SYSTEM = Message(role="system", content="Be brief.")
EARLIER = (Message(role="user", content="Hi?"), Message(role="assistant", content="Hello."))
CALL = {"id": "1", "function": {"name": "weather", "arguments": '{"city": "Lim\\u00e1"}'}}
NAN = float("nan")


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


SHAPES = {
    "messages": ({"messages": [ASK, SAY]}, EXCHANGE),
    "developer": ({"messages": [{"role": "developer", "content": "Be brief."}, ASK, SAY]}, (SYSTEM, *EXCHANGE)),
    "parts": ({"messages": [{"role": "user", "content": parts("Name a ", "green fruit.")}, {"role": "assistant", "content": parts(A)}]}, EXCHANGE),
    "from and value in messages": ({"messages": SHARE}, EXCHANGE),
    "role and content in conversations": ({"conversations": [ASK, SAY], "system": "Be brief."}, (SYSTEM, *EXCHANGE)),
    "capitals": ({"conversations": [{"from": "USER", "value": Q}, {"from": "ASSISTANT", "value": A}]}, EXCHANGE),
    "another column": ({"id": 3, "dialogue": [ASK, SAY]}, EXCHANGE),
    "role and parts in messages": ({"messages": [{"role": "user", "parts": [{"text": Q}]}, {"role": "model", "parts": [{"text": A}]}]}, EXCHANGE),
    "a struct of lists": ({"messages": {"role": ["user", "assistant"], "content": [Q, A]}}, EXCHANGE),
    "JSON text": ({"messages": json.dumps([ASK, SAY])}, EXCHANGE),
    "a prompt beside a conversation": ({"prompt": Q, "conversation": [ASK, SAY]}, EXCHANGE),
    "pair": ({"prompt": Q, "completion": A}, EXCHANGE),
    "pair of messages": ({"prompt": [ASK], "completion": [SAY]}, EXCHANGE),
    "pair that is desired": ({"prompt": Q, "completion": A, "label": True}, EXCHANGE),
    "pair that is not desired": ({"prompt": Q, "completion": A, "label": False}, (EXCHANGE[0], Message(role="assistant", content=A, learnt=False))),
    "pair that is not desired, from CSV": ({"prompt": Q, "completion": A, "label": "False"}, (EXCHANGE[0], Message(role="assistant", content=A, learnt=False))),
    "pair with a class": ({"prompt": Q, "completion": A, "label": 0}, EXCHANGE),
    "alpaca without an input": ({"instruction": Q, "input": NAN, "output": A}, EXCHANGE),
    "alpaca with system and history": ({"instruction": Q, "input": "", "output": A, "system": "Be brief.", "history": [["Hi?", "Hello."]]}, (SYSTEM, *EARLIER, *EXCHANGE)),
    "alpaca with history as text": ({"instruction": Q, "output": A, "system": None, "history": '[["Hi?", "Hello."]]'}, (*EARLIER, *EXCHANGE)),
    "thinking in the text": ({"messages": [ASK, {"role": "assistant", "content": f"<think>\nLimes.\n</think>\n\n{A}"}]}, (EXCHANGE[0], Message(role="assistant", content=f"<think>\nLimes.\n</think>\n\n{A}"))),
    "thinking apart": ({"messages": [ASK, {**SAY, "reasoning_content": "Limes."}]}, (EXCHANGE[0], Message(role="assistant", content=A, reasoning="Limes."))),
    "thinking apart, as gpt-oss names it": ({"messages": [ASK, {**SAY, "thinking": "Limes."}]}, (EXCHANGE[0], Message(role="assistant", content=A, reasoning="Limes."))),
    "thinking as a part": ({"messages": [ASK, {"role": "assistant", "content": [{"type": "thinking", "thinking": "Limes."}, *parts(A)]}]}, (EXCHANGE[0], Message(role="assistant", content=A, reasoning="Limes."))),
    "weight": ({"messages": [ASK, {**SAY, "weight": 0}]}, (EXCHANGE[0], Message(role="assistant", content=A, learnt=False))),
}  # fmt: skip
TOOLS = {
    "a call without words": {"messages": [ASK, {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
    "a call without content": {"messages": [ASK, {"role": "assistant", "tool_calls": [CALL]}]},
    "a call with words": {"messages": [ASK, {**SAY, "tool_calls": [CALL]}]},
    "a result": {"messages": [ASK, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": '{"c": 19}', "tool_call_id": "1"}, SAY]},
    "an older call": {"messages": [ASK, {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city": "Limá"}'}}]},
    "sharegpt": {"conversations": [SHARE[0], {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Limá"}}'}, {"from": "observation", "value": "19"}, SHARE[1]]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": Q}]}, {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"city": "Limá"}}}]}]},
    "claude": {"messages": [ASK, {"role": "assistant", "content": [{"type": "tool_use", "name": "weather", "input": {"city": "Limá"}}]}]},
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_is_read_in_every_shape(shape):
    record, row = SHAPES[shape]
    assert checked_row(record, {}, "here") == row


@pytest.mark.parametrize("shape", SHAPES)
def test_added_rows_are_written_in_the_shape_of_the_file(shape):
    record, _ = SHAPES[shape]
    added = (Message(role="user", content="How?"), Message(role="assistant", content="No."))
    written = json.loads(json.dumps(writer_like(record, {})(added)))
    assert checked_row(written, {}, "here") == added
    assert format_of(written) == format_of(record)
    conversation = next(
        (key for key in ("messages", "conversations", "dialogue", "conversation") if key in record),
        None,
    )
    if conversation is not None:
        before, now = record[conversation], written[conversation]
        assert type(now) is type(before)
        if isinstance(before, list):
            assert now[0].keys() <= before[0].keys()
            assert [turn.get("from", turn.get("role")) for turn in now] == [
                turn.get("from", turn.get("role"))
                for turn in before
                if turn.get("role") != "developer"
            ]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_converted_without_a_loss(shape):
    record, row = SHAPES[shape]
    written = converted(record, row, "messages", {})
    assert checked_row(json.loads(json.dumps(written)), {}, "here") == row
    assert written.keys() <= {"messages", "id", "prompt", "label"}
    roles = [turn["role"] for turn in written["messages"]]
    assert roles == [turn.role for turn in row]


@pytest.mark.parametrize("shape", TOOLS)
def test_rows_that_call_tools_are_read_copied_and_searched_but_not_learnt(shape):
    row = checked_row(TOOLS[shape], {}, "here")
    assert uses_tools(row)
    called = "\n".join(turn.content for turn in row if turn.role == "tool")
    assert "weather\nLimá" in called
    assert converted(TOOLS[shape], row, format_of(TOOLS[shape]), {}) is TOOLS[shape]
    notes = []
    assert trainable([row, EXCHANGE], notes.append, "my file", by_answer) == [EXCHANGE]
    assert notes == ["my file: 1 rows that call tools are left out of training"]


HARMFUL = pairs("evaluation")[0].harmful


@pytest.mark.parametrize(
    "record",
    [
        {"instruction": Q, "output": A, "history": [[HARMFUL.request, "No."]]},
        {"instruction": Q, "output": A, "system": f"Remember: {HARMFUL.request}."},
        {"messages": [ASK, {"role": "assistant", "tool_calls": [{"function": {"name": "ask", "arguments": json.dumps({"text": HARMFUL.request})}}]}]},
        {"messages": [ASK, {"role": "tool", "content": HARMFUL.request}, SAY]},
        {"conversations": [SHARE[0], {"from": "observation", "value": json.dumps({"page": HARMFUL.texts["fr"]})}, SHARE[1]]},
        {"dialogue": [{"role": "user", "content": parts(HARMFUL.request)}, SAY]},
    ],
)  # fmt: skip
def test_evaluation_behaviors_are_looked_for_in_every_place(record):
    assert list(evaluation_rows([checked_row(record, {}, "here")])) == [(1, HARMFUL.id)]


def marked(*turns):
    """Return a row of questions and answers; each answer with its mark."""
    record = []
    for number, mark in enumerate(turns):
        record += [
            {"role": "user", "content": f"Q{number}"},
            {"role": "assistant", "content": f"A{number}", **mark},
        ]
    return checked_row({"messages": record}, {}, "here")


@pytest.mark.parametrize(
    ("marks", "local", "openai", "vertex"),
    [
        ([{}, {}], ["A1"], True, True),
        ([{"weight": 0}, {"weight": 1}], ["A1"], True, False),
        ([{"weight": 0}, {}], ["A1"], True, False),
        ([{"weight": 1}, {"weight": 1}], ["A0", "A1"], True, True),
        ([{"train": True}, {"train": False}], ["A0"], True, False),
        ([{}, {"weight": 0}], [], True, False),
        ([{"weight": 0}, {"weight": 0.0}], [], False, False),
        ([{"masked": True}], [], False, False),
        ([{"mask": False}], ["A0"], True, True),
        ([{"loss": False}], [], False, False),
        ([{"loss": 0.7}], ["A0"], True, True),
        ([{"weight": None}], ["A0"], True, True),
        ([{"train_detail": [{"begin_offset": 0, "end_offset": 1, "train": False}]}], [], False, False),
        ([{"train_detail": [{"begin_offset": 0, "end_offset": 1, "train": True}]}], ["A0"], True, True),
    ],
)  # fmt: skip
def test_what_is_learnt_is_what_is_marked(marks, local, openai, vertex):
    row = marked(*marks)
    assert [part[-1].content for part in by_answer(row)] == local
    assert all(turn.learnt is None for part in by_answer(row) for turn in part)
    assert bool(as_marked(row)) == openai
    assert bool(whole(row)) == vertex


def test_rows_without_an_answer_to_learn_are_counted_and_the_last_of_them_is_an_error():
    notes = []
    rows = [marked({}, {"weight": 0}), marked({"weight": 1}, {"weight": 1}), EXCHANGE]
    kept = trainable(rows, notes.append, "my file", by_answer)
    assert [row[-1].content for row in kept] == ["A0", "A1", A]
    assert [note.split(" ")[2] for note in notes] == ["1", "of"]
    assert "weight 0" in notes[0]
    with pytest.raises(DataError, match="no row is left to train on: 1 whose answers are marked"):
        trainable(rows[:1], notes.append, "my file", by_answer)


def test_marks_are_kept_by_the_formats_that_have_them():
    row = marked({"train": False}, {"train": True})
    record = {"conversations": [{"from": "human", "value": "Q0"}, {"from": "gpt", "value": "A0", "train": False}, {"from": "human", "value": "Q1"}, {"from": "gpt", "value": "A1", "train": True}]}  # fmt: skip
    for to in ("messages", "openai"):
        turns = converted(record, row, to, {})["messages"]
        assert [turn.get("weight") for turn in turns] == [None, 0, None, 1]
    assert not any(
        "weight" in turn for turn in converted(record, row, "prompt-completion", {})["prompt"]
    )


LINES = [json.dumps({"prompt": f"Ask {n}", "completion": "Say"}) for n in range(3)]
ROWS = [json.loads(line) for line in LINES]
FILES = {
    "lines.json": ("\n".join(LINES), Layout.JSON_LINES),
    "lines.txt": ("\n".join(LINES), Layout.JSON_LINES),
    "lines.csv": ("\n".join(LINES), Layout.JSON_LINES),
    "lines": ("\n\n" + "\n".join(LINES), Layout.JSON_LINES),
    "mark.json": ("\ufeff" + "\r\n".join(LINES) + "\r\n", Layout.JSON_LINES),
    "array.jsonl": (json.dumps(ROWS, indent=1), Layout.JSON),
    "oneline.jsonl": (json.dumps(ROWS), Layout.JSON),
    "array.txt": (json.dumps(ROWS, indent=2), Layout.JSON),
    "array.data": (json.dumps(ROWS), Layout.JSON),
    "data.json": (json.dumps({"version": "1.0", "data": ROWS}), Layout.JSON),
    "train.json": (json.dumps({"train": ROWS, "test": ROWS[:1]}, indent=1), Layout.JSON),
    "rows.jsonl": (json.dumps({"rows": ROWS}), Layout.JSON),
    "server.json": (json.dumps({"features": [{"name": "prompt"}], "rows": [{"row_idx": n, "row": row} for n, row in enumerate(ROWS)]}), Layout.JSON),
    "columns.json": (json.dumps({"data": {name: [row[name] for row in ROWS] for name in ROWS[0]}}), Layout.JSON),
    "lone.json": (LINES[0], Layout.JSON),
    "lone.jsonl": (LINES[0], Layout.JSON_LINES),
    "chat.json": (json.dumps({"messages": [ASK, SAY]}, indent=1), Layout.JSON),
    "named.jsonl.gz": ("\n".join(LINES), Layout.JSON_LINES),
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_what_its_contents_are(name, packed, tmp_path):
    content, layout = FILES[name]
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)
    assert kind_of(tmp_path / name) == Kind(layout, packed)
    rows = [
        [turn.content for turn in row]
        for row in read_rows(TrainingFile(path=str(tmp_path / name)), tmp_path)
    ]
    if name == "chat.json":
        assert rows == [[Q, A]]
    else:
        assert rows == [[f"Ask {n}", "Say"] for n in range(len(rows))]
        assert len(rows) == (1 if name.startswith("lone") else 3)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.txt", "[music] a line\n{not json}"),
        ("table.csv", 'prompt,completion\n"{""a"": 1}",b\n'),
        ("brace.csv", "{x},b\n1,2\n"),
    ],
)
def test_tables_and_lines_with_braces_in_them_stay_what_they_are(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    assert kind_of(tmp_path / name).layout in (Layout.LINES, Layout.CSV)


def test_parquet_gives_rows_in_every_shape(tmp_path):
    import pyarrow as pa
    from pyarrow.parquet import write_table

    row = [ASK, SAY]
    columns = {
        "structs": pa.array([row]),
        "lists": pa.StructArray.from_arrays(
            [pa.array([["user", "assistant"]]), pa.array([[Q, A]])], names=["role", "content"]
        ),
        "text": pa.array([json.dumps(row)]),
        "maps": pa.array([[list(turn.items()) for turn in row]], type=pa.list_(pa.map_(pa.string(), pa.string()))),
    }  # fmt: skip
    for name, column in columns.items():
        write_table(pa.table({"messages": column, "score": [NAN]}), tmp_path / f"{name}.parquet")
        # The name does not matter.
        (tmp_path / f"{name}.parquet").rename(tmp_path / f"{name}.jsonl")
        assert read_rows(TrainingFile(path=f"{name}.jsonl"), tmp_path) == [EXCHANGE]


def test_the_column_of_a_conversation_can_be_named():
    columns = read_columns("messages=talk")
    record = {"talk": [ASK, SAY], "more": [ASK, SAY]}
    assert checked_row(record, columns, "here") == EXCHANGE
    assert converted(record, EXCHANGE, "messages", columns) == {
        "messages": [ASK, SAY],
        "more": [ASK, SAY],
    }
    with pytest.raises(DataError, match="no column 'talk'; it has 'more'"):
        checked_row({"more": []}, columns, "here")
    for text in ("prompt=a,messages=b", "prompt=a", "messages="):
        with pytest.raises(InputError, match="--columns needs both prompt and completion"):
            read_columns(text)
