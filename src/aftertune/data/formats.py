"""The formats of training files: records read as rows, rows written as records, and the files that trainers want beside them.

Sources: TRL (dataset formats: conversational and standard language modelling and prompt-completion), Stanford Alpaca,
OpenAI (fine-tuning, chat format), Vertex AI (supervised tuning of Gemini), ShareGPT as LLaMA-Factory reads it.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml

from aftertune.core.files import write_whole
from aftertune.core.records import Message
from aftertune.data.files import Record, text_of
from aftertune.errors import DataError

Row = tuple[Message, ...]
"""A conversation that ends with the assistant's answer."""

Columns = Mapping[str, str]
"""The columns of a foreign file by their role: ``prompt``, ``completion`` and, if any, ``input``; empty for known formats."""

OWN_COLUMNS = "columns"
"""The format of a file whose columns the user names."""
ROLES = ("system", "user", "assistant")
SHAREGPT_ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
}
TEXT_COLUMNS: Columns = {"prompt": "prompt", "completion": "completion"}
ALPACA_COLUMNS: Columns = {"prompt": "instruction", "input": "input", "completion": "output"}
OPENAI_KEYS = ("messages", "tools", "parallel_tool_calls")
OPENAI_MESSAGE_KEYS = ("role", "content", "name", "weight", "tool_calls")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format that rows can be written in."""

    keys: tuple[str, ...]
    """The columns that hold the conversation; all others are the user's own."""
    write: Callable[[Row], dict[str, Any]]
    """Turns a row into a record.

    Raises:
        DataError: the format cannot hold the row.
    """
    closed: bool = False
    """The service that reads the format refuses further columns."""


def row_of(record: Record, columns: Columns, where: str) -> Row:
    """Return a record as a conversation, whatever turns it has.

    Raises:
        DataError: the record is in no known shape, or a turn is not text.
    """
    if columns.keys() & {"prompt", "completion"}:
        return _mapped(record, columns, where)
    for key, read in SHAPES.items():
        if key in record:
            return read(record, columns, where)
    names = ", ".join(map(repr, record)) or "none"
    raise DataError(
        f"{where}: needs 'messages', 'prompt' and 'completion', or 'instruction' and 'output', but has the columns "
        f"{names}; name them with columns: {{prompt: ..., completion: ...}} (or --columns prompt=...,completion=...)"
    )


def format_of(record: Record, columns: Columns | None = None) -> str:
    """Return the name of the format that a record in a known shape is in: of `FORMATS`, or `OWN_COLUMNS`."""
    if columns:
        return OWN_COLUMNS
    if "messages" in record:
        return "messages"
    if "prompt" in record:
        return (
            "prompt-completion" if isinstance(record["prompt"], list) else "prompt-completion-text"
        )
    return next(
        name for name in ("alpaca", "vertex", "sharegpt") if FORMATS[name].keys[0] in record
    )


def converted(record: Record, row: Row, to: str, columns: Columns) -> Record:
    """Return a user's record in another format, with its further columns where the format has room for them.

    A record that is in the format already stays as it is; ``openai`` keeps only what the service knows.

    Raises:
        DataError: the format cannot hold the row.
    """
    own = format_of(record, columns)
    if to == own:
        return record
    if to == "openai" and own == "messages":
        kept = {key: record[key] for key in OPENAI_KEYS if record.get(key) is not None}
        return kept | {
            "messages": [
                {key: turn[key] for key in OPENAI_MESSAGE_KEYS if turn.get(key) is not None}
                for turn in record["messages"]
            ]
        }
    messages = [
        turn
        for key in ("messages", "prompt", "completion")
        if isinstance(record.get(key), list)
        for turn in record[key]
    ]
    if any(turn.get("tool_calls") for turn in messages):
        raise DataError(
            f"a message with 'tool_calls' does not fit into {to}; use --to messages or openai"
        )
    written = FORMATS[to].write(row)
    if FORMATS[to].closed:
        return written
    taken = {*(columns.values() if own == OWN_COLUMNS else FORMATS[own].keys), *FORMATS[to].keys}
    return written | {key: value for key, value in record.items() if key not in taken}


def _prompt_completion(record: Record, columns: Columns, where: str) -> Row:
    if "completion" not in record:
        raise DataError(f"{where}: 'prompt' without 'completion'")
    prompt, completion = record["prompt"], record["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        return _turns(prompt, "prompt", where) + _turns(completion, "completion", where)
    return _mapped(record, columns, where)


def _alpaca(record: Record, _columns: Columns, where: str) -> Row:
    columns = {role: name for role, name in ALPACA_COLUMNS.items() if role != "input"}
    return _mapped(record, ALPACA_COLUMNS if "input" in record else columns, where)


def _mapped(record: Record, columns: Columns, where: str) -> Row:
    prompt = text_of(record, columns.get("prompt", "prompt"), where)
    completion = text_of(record, columns.get("completion", "completion"), where)
    extra = text_of(record, columns["input"], where) if "input" in columns else ""
    question = f"{prompt}\n\n{extra}" if extra.strip() else prompt
    return Message(role="user", content=question), Message(role="assistant", content=completion)


def _vertex(record: Record, _columns: Columns, where: str) -> Row:
    turns = []
    if (system := record.get("systemInstruction")) is not None:
        turns.append(Message(role="system", content=_parts(system, f"{where}, systemInstruction")))
    for number, turn in enumerate(_listed(record["contents"], "contents", where)):
        place = f"{where}, contents[{number}]"
        role = turn.get("role") if isinstance(turn, Mapping) else None
        if role not in ("user", "model"):  # a tuple: the role of a broken row may be a list
            raise DataError(f"{place}: role {role!r}; use user or model")
        turns.append(
            Message(role="user" if role == "user" else "assistant", content=_parts(turn, place))
        )
    return tuple(turns)


def _parts(turn: object, where: str) -> str:
    parts = turn.get("parts") if isinstance(turn, Mapping) else None
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise DataError(f"{where}: needs 'parts', a list of {{\"text\": ...}}")
    return "".join(text_of(part, "text", where) for part in parts)


def _sharegpt(record: Record, _columns: Columns, where: str) -> Row:
    system = text_of(record, "system", where) if "system" in record else ""
    turns = [Message(role="system", content=system)] if system else []
    for number, turn in enumerate(_listed(record["conversations"], "conversations", where)):
        place = f"{where}, conversations[{number}]"
        if not isinstance(turn, Mapping) or not {"from", "value"} <= turn.keys():
            raise DataError(f"{place}: a turn needs 'from' and 'value'")
        if (role := SHAREGPT_ROLES.get(str(turn["from"]))) is None:
            raise DataError(
                f"{place}: from {turn['from']!r}; use one of {', '.join(SHAREGPT_ROLES)}"
            )
        turns.append(Message(role=role, content=text_of(turn, "value", place)))
    return tuple(turns)


SHAPES: Mapping[str, Callable[[Record, Columns, str], Row]] = {
    "messages": lambda record, _columns, where: _turns(record["messages"], "messages", where),
    "prompt": _prompt_completion,
    "instruction": _alpaca,
    "contents": _vertex,
    "conversations": _sharegpt,
}
"""The readers of records by the column that marks their shape, in the order in which they are tried."""


def _listed(value: object, column: str, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(
            f"{where}, {column!r}: expected a list of messages, found {type(value).__name__}"
        )
    return value


def _turns(value: object, column: str, where: str) -> Row:
    return tuple(
        _turn(item, f"{where}, {column}[{number}]")
        for number, item in enumerate(_listed(value, column, where))
    )


def _turn(item: object, where: str) -> Message:
    if not isinstance(item, Mapping) or not {"role", "content"} <= item.keys():
        raise DataError(f"{where}: a message needs 'role' and 'content'")
    role = item["role"]
    if role not in ROLES:
        raise DataError(f"{where}: role {role!r}; use one of {', '.join(ROLES)}")
    return Message(role=role, content=text_of(item, "content", where))


def chat(row: Row) -> list[dict[str, str]]:
    """Return a row as a list of ``{"role": ..., "content": ...}``."""
    return [{"role": turn.role, "content": turn.content} for turn in row]


def in_columns(
    row: Row, columns: Columns, name: str = "the columns of this file"
) -> dict[str, Any]:
    """Return a row as a record with the columns of a foreign file, which errors call ``name``.

    Raises:
        DataError: the row is more than one question and its answer.
    """
    if [turn.role for turn in row] != ["user", "assistant"]:
        raise DataError(
            f"a row with a system turn or several questions does not fit into {name}, which holds one question and its "
            "answer; use --to messages"
        )
    empty = {columns["input"]: ""} if "input" in columns else {}
    return {columns["prompt"]: row[0].content, **empty, columns["completion"]: row[1].content}


def _as_vertex(row: Row) -> dict[str, Any]:
    system = [turn for turn in row if turn.role == "system"]
    record: dict[str, Any] = {}
    if system:
        record["systemInstruction"] = {"role": "system", "parts": [{"text": system[0].content}]}
    record["contents"] = [
        {"role": "user" if turn.role == "user" else "model", "parts": [{"text": turn.content}]}
        for turn in row
        if turn.role != "system"
    ]
    return record


def _as_sharegpt(row: Row) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt"}
    return {
        "conversations": [
            {"from": names[turn.role], "value": turn.content}
            for turn in row
            if turn.role != "system"
        ],
        "system": next((turn.content for turn in row if turn.role == "system"), ""),
    }


FORMATS: Mapping[str, Format] = {
    "messages": Format(keys=("messages",), write=lambda row: {"messages": chat(row)}),
    "prompt-completion": Format(
        keys=("prompt", "completion"),
        write=lambda row: {"prompt": chat(row[:-1]), "completion": chat(row[-1:])},
    ),
    "prompt-completion-text": Format(
        keys=("prompt", "completion"),
        write=partial(in_columns, columns=TEXT_COLUMNS, name="prompt-completion-text"),
    ),
    "alpaca": Format(
        keys=("instruction", "input", "output"),
        write=partial(in_columns, columns=ALPACA_COLUMNS, name="alpaca"),
    ),
    "openai": Format(keys=("messages",), write=lambda row: {"messages": chat(row)}, closed=True),
    "vertex": Format(keys=("contents", "systemInstruction"), write=_as_vertex, closed=True),
    "sharegpt": Format(keys=("conversations", "system"), write=_as_sharegpt),
}

TRAINERS = {"llama-factory": "sharegpt", "axolotl": "messages"}
"""The trainers that get a file beside the data, and the format that they read it in."""
TARGETS = (*FORMATS, *TRAINERS)
"""The formats and the trainers that a file can be written for."""


def beside(out: Path, target: str) -> Path | None:
    """Return the path of the file that a target wants beside ``out``, or None."""
    if target == "llama-factory":
        return out.with_name("dataset_info.json")
    return out.with_suffix(".axolotl.yaml") if target == "axolotl" else None


def listed_sets(path: Path) -> dict[str, Any]:
    """Return the data sets that a ``dataset_info.json`` lists; none if there is no such file.

    Raises:
        DataError: it is something else than a JSON object.
    """
    if not path.exists():
        return {}
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path}: broken JSON ({error}); mend it, or write the mixed file into another folder"
        ) from error
    if not isinstance(listed, dict):
        raise DataError(
            f"{path}: expected an object that lists data sets, found {type(listed).__name__}"
        )
    return listed


def write_llama_factory(out: Path) -> None:
    """Enter a ShareGPT file into the ``dataset_info.json`` of its folder, under its name; other entries stay.

    Raises:
        DataError: the file that stands there is no JSON object.
    """
    path = out.with_name("dataset_info.json")
    entry = {
        "file_name": out.name,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system"},
        "tags": {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
        },
    }
    listed = listed_sets(path) | {out.stem: entry}
    write_whole(path, [json.dumps(listed, ensure_ascii=False, indent=2), "\n"])


def write_axolotl(out: Path) -> None:
    """Write the ``datasets`` section that makes axolotl read a ``messages`` file."""
    section = {
        "datasets": [
            {
                "path": os.fspath(out),
                "ds_type": "json",
                "type": "chat_template",
                "field_messages": "messages",
                "message_property_mappings": {"role": "role", "content": "content"},
            }
        ]
    }
    write_whole(
        out.with_suffix(".axolotl.yaml"),
        [yaml.safe_dump(section, sort_keys=False, allow_unicode=True)],
    )
