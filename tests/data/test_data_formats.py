"""Formats of training files: what is written is read, by us and by those that it is written for."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aftertune.core.records import Message
from aftertune.data.formats import (
    FORMATS,
    TRAINERS,
    converted,
    format_of,
    in_columns,
    listed_sets,
    write_axolotl,
    write_llama_factory,
)
from aftertune.data.rows import checked_row
from aftertune.errors import DataError

ROW = (Message(role="user", content="Hi?"), Message(role="assistant", content="Hello."))
DIALOG = (
    Message(role="system", content="Be kind."),
    *ROW,
    Message(role="user", content="And?"),
    Message(role="assistant", content="Bye."),
)
CHATS = ("messages", "prompt-completion", "openai", "vertex", "sharegpt")
EXCHANGES = ("alpaca", "prompt-completion-text")
said = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@st.composite
def rows(draw):
    system = [Message(role="system", content=draw(said))] if draw(st.booleans()) else []
    turns = [(draw(said), draw(said)) for _ in range(draw(st.integers(1, 3)))]
    pairs = [
        (Message(role="user", content=q), Message(role="assistant", content=a)) for q, a in turns
    ]
    return (*system, *(turn for pair in pairs for turn in pair))


def read(record):
    return checked_row(json.loads(json.dumps(record)), {}, "here")


@pytest.mark.parametrize("name", CHATS)
@given(row=rows())
def test_a_conversation_comes_back_from_every_chat_format(name, row):
    assert read(FORMATS[name].write(row)) == row


@pytest.mark.parametrize("name", EXCHANGES)
@given(question=said, answer=said)
def test_an_exchange_comes_back_from_every_format_of_texts(name, question, answer):
    row = (Message(role="user", content=question), Message(role="assistant", content=answer))
    record = FORMATS[name].write(row)
    assert (read(record), format_of(record)) == (row, name)


def test_no_format_is_untested():
    assert {*CHATS, *EXCHANGES} == set(FORMATS)


@pytest.mark.parametrize("name", EXCHANGES)
def test_what_a_format_cannot_hold_is_refused(name):
    with pytest.raises(DataError, match=f"does not fit into {name}.*--to messages"):
        FORMATS[name].write(DIALOG)


OWN = {
    "messages": {
        "messages": [
            {"role": "user", "content": "Hi?", "id": 3},
            {"role": "assistant", "content": "Hello."},
        ]
    },
    "alpaca": {"instruction": "Hi?", "input": "", "output": "Hello."},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}]
    },
    "vertex": {
        "contents": [
            {"role": r, "parts": [{"text": t}]} for r, t in (("user", "Hi?"), ("model", "Hello."))
        ]
    },
    "prompt-completion-text": {"prompt": "Hi?", "completion": "Hello."},
}


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("own", OWN)
def test_converted_records_keep_further_columns_where_there_is_room(own, to):
    record = {**OWN[own], "source": "mine", "n": 1.5}
    made = converted(record, ROW, to, {})
    assert read(made) == ROW
    assert format_of(made) == ("messages" if to == "openai" else to)
    if to == own:
        assert made is record
    else:
        assert {key: made.get(key) for key in ("source", "n")} == (
            {"source": None, "n": None} if FORMATS[to].closed else {"source": "mine", "n": 1.5}
        )
        assert not (OWN[own].keys() - set(FORMATS[to].keys)) & made.keys()


def test_openai_keeps_what_the_service_knows_and_nothing_else():
    turns = [
        {"role": "user", "content": "Hi?", "id": 3, "name": "me"},
        {"role": "assistant", "content": "Hello.", "weight": 0, "score": None},
    ]
    made = converted({"messages": turns, "tools": [], "source": "mine"}, ROW, "openai", {})
    assert made == {
        "tools": [],
        "messages": [
            {"role": "user", "content": "Hi?", "name": "me"},
            {"role": "assistant", "content": "Hello.", "weight": 0},
        ],
    }


CALLING = {
    "conversations": [
        {"from": "human", "value": "Hi?"},
        {"from": "function_call", "value": '{"name": "greet"}'},
        {"from": "observation", "value": "Hello."},
        {"from": "gpt", "value": "Hello."},
    ],
    "tools": "[]",
}


def test_calls_of_tools_are_kept_or_refused_but_never_lost():
    answer = {"role": "assistant", "content": "Hello.", "tool_calls": [{"id": "1"}]}
    reply = {"role": "tool", "content": "19", "tool_call_id": "1"}
    record = {"messages": [{"role": "user", "content": "Hi?"}, answer, reply]}
    row = checked_row(record, {}, "here")
    for own in (record, {"conversations": record["messages"]}):
        assert converted(own, row, "openai", {}) == converted(own, row, "messages", {}) == record
    for own, to in ((record, "sharegpt"), (CALLING, "messages"), (record, "alpaca")):
        with pytest.raises(DataError, match=f"calls tools does not fit into {to}; --to messages"):
            converted(own, checked_row(own, {}, "here"), to, {})
    assert converted(CALLING, checked_row(CALLING, {}, "here"), "sharegpt", {}) is CALLING


@pytest.mark.parametrize(
    "columns",
    [{"prompt": "q", "completion": "a"}, {"prompt": "q", "input": "i", "completion": "a"}],
)
def test_a_row_comes_back_from_the_columns_of_a_foreign_file(columns):
    record = in_columns(ROW, columns)
    assert list(record) == list(columns.values())
    assert checked_row(record, columns, "here") == ROW
    assert converted({**record, "n": 1}, ROW, "alpaca", columns) == {
        **FORMATS["alpaca"].write(ROW),
        "n": 1,
    }
    with pytest.raises(DataError, match="does not fit into the columns of this file"):
        in_columns(DIALOG, columns)


def test_vertex_rows_are_contents_of_its_own_types():
    types = pytest.importorskip(
        "google.genai.types", reason="the package google-genai is not installed"
    )
    record = FORMATS["vertex"].write(DIALOG)
    for content in (*record["contents"], record["systemInstruction"]):
        assert types.Content.model_validate(content).model_dump(exclude_none=True) == content


def test_openai_rows_are_messages_of_its_own_types():
    params = pytest.importorskip("openai.types.chat", reason="the package openai is not installed")
    from pydantic import TypeAdapter

    for turn in FORMATS["openai"].write(DIALOG)["messages"]:
        name = {"system": "System", "user": "User", "assistant": "Assistant"}[turn["role"]]
        kind = getattr(params, f"ChatCompletion{name}MessageParam")
        assert TypeAdapter(kind).validate_python(turn) == turn
        assert turn.keys() <= kind.__annotations__.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_datasets_loads_what_is_written(name, tmp_path, monkeypatch):
    from datasets import load_dataset

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    written = [ROW, ROW] if name in EXCHANGES else [ROW, DIALOG]
    lines = [json.dumps(FORMATS[name].write(row)) + "\n" for row in written]
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    data = load_dataset(
        "json",
        data_files=str(tmp_path / "rows.jsonl"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert [checked_row(record, {}, "here") for record in data] == written


def test_trl_takes_the_formats_for_what_they_are():
    from trl.data_utils import is_conversational

    assert is_conversational(FORMATS["messages"].write(DIALOG))
    assert is_conversational(FORMATS["prompt-completion"].write(DIALOG))
    assert not is_conversational(FORMATS["prompt-completion-text"].write(ROW))


def test_llama_factory_gets_an_entry_beside_those_that_are_there(tmp_path):
    (tmp_path / "dataset_info.json").write_text(
        '{"other": {"file_name": "other.json"}, "mixed": {"old": 1}}'
    )
    write_llama_factory(tmp_path / "mixed.jsonl")
    listed = listed_sets(tmp_path / "dataset_info.json")
    assert listed["other"] == {"file_name": "other.json"}
    entry = listed["mixed"]
    record = FORMATS["sharegpt"].write(DIALOG)
    turn = record[entry["columns"]["messages"]][0]
    assert (turn[entry["tags"]["role_tag"]], turn[entry["tags"]["content_tag"]]) == (
        entry["tags"]["user_tag"],
        "Hi?",
    )
    assert record[entry["columns"]["system"]] == "Be kind."
    assert (entry["file_name"], entry["formatting"]) == ("mixed.jsonl", "sharegpt")


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff"])
def test_a_dataset_info_that_is_none_is_refused(content, tmp_path):
    (tmp_path / "dataset_info.json").write_bytes(content)
    with pytest.raises(DataError, match=r"dataset_info\.json"):
        write_llama_factory(tmp_path / "mixed.jsonl")
    assert (tmp_path / "dataset_info.json").read_bytes() == content


def test_axolotl_gets_a_section_that_points_at_the_file(tmp_path):
    write_axolotl(tmp_path / "mixed.jsonl")
    (section,) = yaml.safe_load((tmp_path / "mixed.axolotl.yaml").read_text())["datasets"]
    record = FORMATS[TRAINERS["axolotl"]].write(ROW)
    turn = record[section["field_messages"]][0]
    assert [turn[section["message_property_mappings"][key]] for key in ("role", "content")] == [
        "user",
        "Hi?",
    ]
    assert (section["path"], section["ds_type"], section["type"]) == (
        str(tmp_path / "mixed.jsonl"),
        "json",
        "chat_template",
    )
