"""The formats of training files: records read as rows, rows written as records, and the files that trainers want beside them.

Of a conversation the keys of its turns decide, not the name of its column: ``role`` and ``content``, ``from`` and
``value``, or ``role`` and ``parts``, in any of the shapes that Parquet and JSON give lists of objects.

Sources: TRL (dataset formats: conversational and standard language modelling and prompt-completion), Stanford Alpaca,
OpenAI (fine-tuning, chat format), Vertex AI (supervised tuning of Gemini), ShareGPT and Alpaca as LLaMA-Factory reads them
(``system``, ``history``, ``function_call``, ``observation``), axolotl and ms-swift (marks of turns that are not learnt),
TRL's KTO (completions that are not desired).
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml

from aftertune.core.files import write_whole
from aftertune.core.records import Message
from aftertune.data.files import Record, parsed, text, text_of
from aftertune.errors import DataError

Row = tuple[Message, ...]
"""A conversation that ends with the assistant's answer, or one that calls tools."""

Columns = Mapping[str, str]
"""The columns of a foreign file by their role: ``prompt``, ``completion`` and, if any, ``input``, or ``messages``; empty for known formats."""

OWN_COLUMNS = "columns"
"""The format of a file whose columns the user names."""
Role = Literal["system", "user", "assistant", "tool"]
ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot"), "assistant"),
    **dict.fromkeys(
        ("tool", "function", "function_call", "tool_call", "observation", "function_response", "tool_response", "ipython"),
        "tool",
    ),
}  # fmt: skip
"""The names of roles in training files, in small letters."""
ROLE_KEYS, TEXT_KEYS = ("role", "from"), ("content", "value", "parts", "text")
CALL_KEYS = ("tool_calls", "function_call")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
"""The keys under which a message keeps its thinking apart; the first is written."""
MARKS: Mapping[str, bool] = {
    "weight": True,  # OpenAI, Mistral
    "train": True,  # axolotl
    "training": True,
    "loss": True,  # ms-swift
    "masked": False,
    "mask": False,
}
"""The keys by which a turn is marked as to be learnt or not, and whether 1 (or true) means that it is."""
DESIRED = "label"
"""The column in which a file for TRL's KTO says, by false, that a completion is an example of what the model shall not say."""
DETAILS = ("train_detail", "training_detail")
"""The keys under which axolotl marks pieces of a turn."""
TEXT_COLUMNS: Columns = {"prompt": "prompt", "completion": "completion"}
ALPACA_COLUMNS: Columns = {"prompt": "instruction", "input": "input", "completion": "output"}
OPENAI_KEYS = ("messages", "tools", "parallel_tool_calls")
OPENAI_MESSAGE_KEYS = ("role", "content", "name", "weight", "tool_calls", "tool_call_id")


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
    marks: bool = False
    """It says of an answer whether it is learnt."""
    reasoning: bool = False
    """It keeps the thinking before an answer apart."""
    trl: bool = False
    """TRL reads it."""


def uses_tools(row: Row) -> bool:
    """Return whether a tool is called in a row; such rows are copied and searched, and never trained on."""
    return any(turn.role == "tool" for turn in row)


def is_marked(row: Row) -> bool:
    """Return whether an answer of a row is marked as to be learnt, or as not."""
    return any(turn.learnt is not None for turn in row)


def row_of(record: Record, columns: Columns, where: str) -> Row:
    """Return a record as a conversation, whatever turns it has.

    Raises:
        DataError: the record is in no known shape, or a turn is not text.
    """
    if columns.keys() & {"prompt", "completion"}:
        return _mapped(record, columns, where)
    if "messages" in columns:
        named = columns["messages"]
        if named not in record:
            raise DataError(
                f"{where}: no column {named!r}; it has {', '.join(map(repr, record)) or 'none'}"
            )
        return _chat(record, named, where)
    shape = _shape_of(record)
    if shape is Shape.PAIR:
        row = _prompt_completion(record, columns, where)
        return _not_learnt(row) if _desired(record) is False else row
    if shape is Shape.ALPACA:
        return _alpaca(record, where)
    if (column := chat_column(record)) is not None:
        return _chat(record, column, where)
    if "prompt" in record:
        raise DataError(f"{where}: 'prompt' without 'completion'")
    names = ", ".join(map(repr, record)) or "none"
    raise DataError(
        f"{where}: needs 'messages', 'prompt' and 'completion', or 'instruction' and 'output', but has the columns "
        f"{names}; name them with columns: {{prompt: ..., completion: ...}} (or --columns prompt=...,completion=...)"
    )


class Shape(StrEnum):
    """The shapes that a record is read in."""

    CHAT = "chat"
    PAIR = "pair"
    ALPACA = "alpaca"


CHAT_COLUMNS = ("messages", "contents", "conversations")
"""The columns of conversations that are so by their name; any other one must hold turns, and be the only one that does."""


def _shape_of(record: Record) -> Shape | None:
    """Return the shape of a record by its columns; None where it has none that is known."""
    if "messages" in record:
        return Shape.CHAT
    if {"prompt", "completion"} <= record.keys():
        return Shape.PAIR
    if "instruction" in record:
        return Shape.ALPACA
    return None if chat_column(record) is None else Shape.CHAT


def has_shape(record: Record) -> bool:
    """Return whether the columns of a record are those of a row, without a look at what is in them."""
    return _shape_of(record) is not None


def chat_column(record: Record) -> str | None:
    """Return the column that holds the conversation of a record; None where none or several could."""
    named = next((column for column in CHAT_COLUMNS if column in record), None)
    holding = (
        [column for column, value in record.items() if _are_turns(value)]
        if named is None
        else [named]
    )
    return holding[0] if len(holding) == 1 else None


def _are_turns(value: object) -> bool:
    """Return whether a value is a list of turns, or an object of their columns, by its keys."""
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(
        isinstance(item, Mapping)
        and any(key in item for key in ROLE_KEYS)
        and any(key in item for key in (*TEXT_KEYS, *CALL_KEYS))
        for item in items
    )


class Spelling(StrEnum):
    """The ways in which a column holds a conversation."""

    LIST = "a list of turns"
    COLUMNS = "an object of columns"
    TEXT = "JSON text"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatStyle:
    """The way in which a file writes conversations."""

    column: str
    role_key: str
    text_key: str
    names: Mapping[Role, str] = field(default_factory=dict)
    """The names of the roles; those of the format's own where a role is missing."""
    spelling: Spelling = Spelling.LIST
    in_parts: bool = False
    """A text is a list of parts, ``{"type": "text", "text": ...}``."""

    @property
    def format(self) -> str:
        """The name of the format: one of `FORMATS`, or the column with the keys of its turns."""
        keys = (self.column, self.role_key, self.text_key)
        names = {style_keys: name for name, style_keys in CHAT_FORMATS.items()}
        return names.get(keys, f"{self.column} ({self.role_key}, {self.text_key})")

    def write(self, row: Row) -> dict[str, Any]:
        """Return a row as a record of the file's own style."""
        if self.text_key == "parts":
            return _as_vertex(row, self.column)
        turns = [self._turn(turn) for turn in row]
        value: Any = turns
        if self.spelling is Spelling.COLUMNS:
            value = {
                key: [turn.get(key) for turn in turns] for key in (self.role_key, self.text_key)
            }
        elif self.spelling is Spelling.TEXT:
            value = json.dumps(turns, ensure_ascii=False)
        return {self.column: value}

    def _turn(self, turn: Message) -> dict[str, Any]:
        defaults = SHAREGPT_NAMES if self.role_key == "from" else {}
        name = self.names.get(turn.role) or defaults.get(turn.role, turn.role)
        content = [{"type": "text", "text": turn.content}] if self.in_parts else turn.content
        return {self.role_key: name, self.text_key: content}


CHAT_FORMATS: Mapping[str, tuple[str, str, str]] = {
    "messages": ("messages", "role", "content"),
    "sharegpt": ("conversations", "from", "value"),
    "vertex": ("contents", "role", "parts"),
}
"""The column and the keys of the turns of formats that are conversations."""
SHAREGPT_NAMES: Mapping[Role, str] = {"user": "human", "assistant": "gpt"}
PLAIN_NAMES: Mapping[str, frozenset[str]] = {
    "messages": frozenset(("system", "user", "assistant", "tool", "function")),
    "sharegpt": frozenset(("system", "human", "gpt", "function_call", "observation")),
    "vertex": frozenset(("user", "model")),
}
"""The names of roles that readers of a format know."""


def chat_style(record: Record, column: str) -> ChatStyle:
    """Return the way in which a readable record writes its conversation."""
    turns, spelling = _turns_in(record[column], column)
    first: Mapping[str, Any] = turns[0] if turns else {}
    _, role_key, text_key = next(
        (keys for keys in CHAT_FORMATS.values() if keys[0] == column), CHAT_FORMATS["messages"]
    )
    role_key = next((key for key in ROLE_KEYS if key in first), role_key)
    text_key = next((key for turn in turns for key in TEXT_KEYS if key in turn), text_key)
    names: dict[Role, str] = {}
    for turn in turns:
        name = str(turn.get(role_key))
        if (role := ROLES.get(name.strip().lower())) is not None:
            names.setdefault(role, name)
    return ChatStyle(
        column=column,
        role_key=role_key,
        text_key=text_key,
        names=names,
        spelling=spelling,
        in_parts=text_key != "parts"
        and any(isinstance(turn.get(text_key), list) for turn in turns),
    )


def format_of(record: Record, columns: Columns | None = None) -> str:
    """Return the name of the format of a record that can be read: of `FORMATS`, `OWN_COLUMNS`, or a column with its keys."""
    columns = columns or {}
    if columns.keys() & {"prompt", "completion"}:
        return OWN_COLUMNS
    if "messages" not in columns:
        shape = _shape_of(record)
        if shape is Shape.PAIR:
            is_chat = isinstance(record["prompt"], list)
            return "prompt-completion" if is_chat else "prompt-completion-text"
        if shape is Shape.ALPACA:
            return "alpaca"
    return chat_style(record, _column_of(record, columns)).format


def _column_of(record: Record, columns: Columns) -> str:
    named = columns.get("messages", chat_column(record))
    return "messages" if named is None else named


def writer_like(record: Record, columns: Columns) -> Callable[[Row], dict[str, Any]]:
    """Return the writer of rows in the very format of a record that can be read, down to the names of its roles.

    The writer raises DataError where the format cannot hold a row.
    """
    name = format_of(record, columns)
    if name == OWN_COLUMNS:
        return partial(in_columns, columns=columns)
    if name == "alpaca" and (more := record.keys() & {"system", "history"}):
        kept = {*FORMATS[name].keys, *more}
        return lambda row: {
            key: value for key, value in _as_alpaca(row).items() if key in kept or value
        }
    if name in FORMATS and _is_plain(record, name):
        write = FORMATS[name].write
        if _shape_of(record) is Shape.PAIR and _desired(record) is not None:
            return lambda row: write(row) | {DESIRED: True}
        return write
    return chat_style(record, _column_of(record, columns)).write


def _is_plain(record: Record, name: str) -> bool:
    """Return whether a record of a format is written as all of the format's readers expect."""
    if name not in CHAT_FORMATS:
        return True
    column, role_key, text_key = CHAT_FORMATS[name]
    turns = record[column]
    return isinstance(turns, list) and all(
        turn.get(role_key, "user") in PLAIN_NAMES[name]
        and (name == "vertex" or isinstance(turn.get(text_key), str | None))
        for turn in turns
    )


def converted(record: Record, row: Row, to: str, columns: Columns) -> Record:
    """Return a user's record in another format, with its further columns where the format has room for them.

    A record that is in the format already stays as it is; ``openai`` keeps only what the service knows.

    Raises:
        DataError: the format cannot hold the row.
    """
    own = format_of(record, columns)
    tools = uses_tools(row)
    if to == own and (tools or _is_plain(record, own)):
        return record
    turns = _messages_in(record, columns) if tools or (to == "openai" and own == "messages") else []
    if tools and (to not in ("messages", "openai") or not turns):
        raise DataError(
            f"a row that calls tools does not fit into {to}; --to messages and --to openai hold those with 'tool_calls', "
            "and without --to rows are copied as they are"
        )
    if to == "openai" and turns and (tools or _is_plain(record, own)):
        kept = {key: record[key] for key in OPENAI_KEYS if record.get(key) is not None}
        return kept | {
            "messages": [
                {key: turn[key] for key in OPENAI_MESSAGE_KEYS if turn.get(key) is not None}
                for turn in turns
            ]
        }
    written = {"messages": turns} if tools else FORMATS[to].write(row)
    if FORMATS[to].closed:
        return written
    taken = {*_columns_of(record, columns), *FORMATS[to].keys}
    return written | {key: value for key, value in record.items() if key not in taken}


def _messages_in(record: Record, columns: Columns) -> list[Any]:
    """Return the turns of a record where all have ``role`` and no other keys of text than ``content``; none otherwise."""
    held = [record[key] for key in ("prompt", "completion") if isinstance(record.get(key), list)]
    column = _column_of(record, columns)
    if column in record and not ("messages" not in record and held):
        held = [_turns_in(record[column], column)[0]]
    turns = [turn for part in held for turn in part]
    plain = all("role" in turn and not turn.keys() & {"value", "parts"} for turn in turns)
    return turns if plain else []


def _columns_of(record: Record, columns: Columns) -> tuple[str, ...]:
    """Return the columns of a record that hold its conversation."""
    name = format_of(record, columns)
    if name == OWN_COLUMNS:
        return tuple(columns.values())
    if name in FORMATS and name != "alpaca":
        return FORMATS[name].keys
    if name == "alpaca":
        return (*FORMATS[name].keys, "system", "history")
    return _column_of(record, columns), "system"


def _prompt_completion(record: Record, columns: Columns, where: str) -> Row:
    prompt, completion = record["prompt"], record["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        return (
            *_turns(prompt, f"{where}, prompt"),
            *_turns(completion, f"{where}, completion"),
        )
    return _mapped(record, columns, where)


def _alpaca(record: Record, where: str) -> Row:
    columns = {role: name for role, name in ALPACA_COLUMNS.items() if role != "input"}
    asked_last = _mapped(record, ALPACA_COLUMNS if "input" in record else columns, where)
    system = text_of(record, "system", where) if "system" in record else ""
    turns = [Message(role="system", content=system)] if system else []
    history = record.get("history") or []
    if isinstance(history, str) and history.lstrip().startswith("["):
        history = parsed(history, f"{where}, 'history'")
    if not isinstance(history, list):
        raise DataError(
            f"{where}, 'history': expected a list of exchanges, found {type(history).__name__}"
        )
    for number, pair in enumerate(history):
        place = f"{where}, history[{number}]"
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise DataError(
                f"{place}: expected a list of a question and its answer, found {pair!r:.40}"
            )
        turns.append(Message(role="user", content=text(pair[0], place)))
        turns.append(Message(role="assistant", content=text(pair[1], place)))
    return (*turns, *asked_last)


def _mapped(record: Record, columns: Columns, where: str) -> Row:
    prompt = text_of(record, columns.get("prompt", "prompt"), where)
    completion = text_of(record, columns.get("completion", "completion"), where)
    extra = text_of(record, columns["input"], where) if "input" in columns else ""
    question = f"{prompt}\n\n{extra}" if extra.strip() else prompt
    return Message(role="user", content=question), Message(role="assistant", content=completion)


def _chat(record: Record, column: str, where: str) -> Row:
    turns, _ = _turns_in(record[column], f"{where}, {column!r}")
    system: list[Message] = []
    if record.get("systemInstruction") is not None:
        system = list(
            _turns(
                [{"role": "system", **_as_object(record["systemInstruction"], where)}],
                f"{where}, systemInstruction",
            )
        )
    elif (
        column != "messages"
        and "system" in record
        and (content := text_of(record, "system", where))
    ):
        system = [Message(role="system", content=content)]
    return (*system, *_turns(turns, f"{where}, {column}"))


def _as_object(instruction: object, where: str) -> Mapping[str, Any]:
    """Return Vertex' ``systemInstruction``, whose role may be missing or anything, without it."""
    if not isinstance(instruction, Mapping) or "parts" not in instruction:
        raise DataError(f"{where}, systemInstruction: needs 'parts', a list of {{\"text\": ...}}")
    return {"parts": instruction["parts"]}


def _turns_in(value: object, where: str) -> tuple[list[Any], Spelling]:
    """Return a conversation as a list of turns, however a file spells it."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        return _turns_in(parsed(value, where), where)[0], Spelling.TEXT
    if (
        isinstance(value, Mapping)
        and value
        and all(isinstance(item, list) for item in value.values())
    ):
        if len({len(item) for item in value.values()}) > 1:
            raise DataError(
                f"{where}: its columns {', '.join(map(repr, value))} are not equally long"
            )
        turns = [
            dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)
        ]
        return turns, Spelling.COLUMNS
    if not isinstance(value, list):
        raise DataError(f"{where}: expected a list of messages, found {type(value).__name__}")
    return value, Spelling.LIST


def _turns(items: Sequence[object], where: str) -> Iterator[Message]:
    for number, item in enumerate(items):
        yield from _turn(item, f"{where}[{number}]")


def _turn(item: object, where: str) -> Iterator[Message]:
    """Yield a turn as a message, and what it calls of tools as another one."""
    keys = item.keys() if isinstance(item, Mapping) else ()
    role_key = next((key for key in ROLE_KEYS if key in keys), None)
    text_key = next((key for key in TEXT_KEYS if key in keys), None)
    called = [item[key] for key in CALL_KEYS if item.get(key)] if isinstance(item, Mapping) else []
    if not isinstance(item, Mapping) or role_key is None or not (text_key or called):
        raise DataError(
            f"{where}: a message needs 'role' and 'content', 'from' and 'value', or 'role' and 'parts'"
        )
    name = item[role_key]
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise DataError(f"{where}: {role_key} {name!r}; use one of {', '.join(ROLES)}")
    value = None if text_key is None else item[text_key]
    content, thought, tools = _content(value, where, text_key or "content")
    apart = next(
        filter(None, (_thought(item.get(key), f"{where}, {key!r}") for key in REASONING_KEYS)), ""
    )
    called += tools
    # A call without words is no empty answer.
    if role != "tool" and (content or not called):
        yield Message(
            role=role,
            content=content,
            reasoning="\n\n".join(filter(None, (apart, thought))) if role == "assistant" else "",
            learnt=_mark(item, where) if role == "assistant" else None,
        )
    elif role == "tool":
        called = [content, *called]
    if called:
        yield Message(role="tool", content="\n".join(filter(None, map(_texts, called))))


def _content(value: object, where: str, key: str) -> tuple[str, str, list[Any]]:
    """Return the text of a turn, the thinking among its parts, and the parts that call tools or answer for them."""
    if not isinstance(value, list):
        if key == "parts":
            raise DataError(f"{where}: needs 'parts', a list of {{\"text\": ...}}")
        return text(value, f"{where}, {key!r}"), "", []
    texts: list[str] = []
    thoughts: list[str] = []
    tools: list[Any] = []
    for number, part in enumerate(value):
        place = f"{where}, {key}[{number}]"
        if isinstance(part, str):
            texts.append(text(part, place))
        elif not isinstance(part, Mapping):
            raise DataError(
                f"{place}: a part is a text or an object with one, not {type(part).__name__}"
            )
        elif str(part.get("type")) in TOOL_PARTS or part.keys() & TOOL_PARTS:
            tools.append(dict(part))
        elif part.get("type") == "thinking" or part.get("thought") is True:
            thoughts.append(_texts(part.get("thinking", part.get("text"))))
        elif "text" in part:
            texts.append(text_of(part, "text", place))
        else:
            raise DataError(
                f"{place}: a part without text ({', '.join(map(repr, part)) or 'empty'}); only texts can be read"
            )
    return "".join(texts), "\n\n".join(thoughts), tools


TOOL_PARTS = frozenset(
    (
        "tool_use",
        "tool_result",
        "functionCall",
        "functionResponse",
        "function_call",
        "function_response",
    )
)
"""The types (Anthropic) or keys (Gemini) of parts that call a tool or hold its result."""


def _thought(value: object, where: str) -> str:
    """Return the thinking that a key of a turn holds: a text, or a list of pieces; a switch holds none."""
    return text(value, where) if isinstance(value, str) else _texts(value)


def _texts(value: object) -> str:
    """Return all texts inside a value, a line each; JSON inside a text, as in the arguments of a call, is opened."""
    texts: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            inside = _json_inside(item)
            if inside is None:
                texts.append(item)
            else:
                waiting.append(inside)
        elif isinstance(item, Mapping):
            waiting.extend(reversed(list(item.values())))
        elif isinstance(item, list | tuple):
            waiting.extend(reversed(item))
    return "\n".join(filter(None, texts))


def _json_inside(value: str) -> dict[str, Any] | list[Any] | None:
    """Return the object or list that a text is the JSON of; None where it is none."""
    if not value.lstrip().startswith(("{", "[")):
        return None
    try:
        inside = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return inside if isinstance(inside, dict | list) else None


def _mark(turn: Mapping[str, Any], where: str) -> bool | None:
    """Return whether a turn is marked as to be learnt; None without a mark. An answer of which pieces are not learnt is not.

    Raises:
        DataError: a mark is neither 0 nor 1, neither false nor true.
    """
    marks: list[bool] = []
    for key, meaning in MARKS.items():
        value = turn.get(key)
        if value is None or (
            key == "loss" and not isinstance(value, bool)
        ):  # a number is a measured loss
            continue
        if value not in (0, 1) or isinstance(value, str):
            raise DataError(f"{where}: {key} {value!r}; an answer is learnt (1) or not (0)")
        marks.append(bool(value) is meaning)
    for key in DETAILS:
        pieces = turn.get(key)
        if pieces is not None and not (
            isinstance(pieces, list) and all(isinstance(piece, Mapping) for piece in pieces)
        ):
            raise DataError(f"{where}: {key} must be a list of pieces with 'train'")
        if pieces and not all(piece.get("train", True) for piece in pieces):
            marks.append(False)
    return all(marks) if marks else None


def _desired(record: Record) -> bool | None:
    """Return what a file for KTO says of a completion, as a truth value or, in CSV, as its word; None where it says nothing."""
    value = record.get(DESIRED)
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _not_learnt(row: Row) -> Row:
    """Return a row whose last answer is marked as not to be learnt."""
    return (*row[:-1], replace(row[-1], learnt=False)) if row else row


def chat(row: Row) -> list[dict[str, Any]]:
    """Return a row as a list of ``{"role": ..., "content": ...}``, with thinking and marks where there are some."""
    return [
        {"role": turn.role, "content": turn.content}
        | ({REASONING_KEYS[0]: turn.reasoning} if turn.reasoning else {})
        | ({} if turn.learnt is None else {"weight": int(turn.learnt)})
        for turn in row
    ]


def unmarked(row: Row) -> Row:
    """Return a row without the marks of what is to be learnt."""
    return tuple(turn if turn.learnt is None else replace(turn, learnt=None) for turn in row)


def _bare(row: Row) -> list[dict[str, Any]]:
    """Return a row as messages without the thinking, which OpenAI's service does not know."""
    return chat(tuple(replace(turn, reasoning="") for turn in row))


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


def _as_alpaca(row: Row) -> dict[str, Any]:
    """Return a row as LLaMA-Factory's Alpaca, which has a system prompt and earlier exchanges."""
    turns = row[1:] if row[0].role == "system" else row
    if [turn.role for turn in turns] != ["user", "assistant"] * (len(turns) // 2):
        raise DataError("a row whose turns are out of order does not fit into alpaca")
    texts = [turn.content for turn in turns]
    earlier = [list(pair) for pair in zip(texts[:-2:2], texts[1:-2:2], strict=True)]
    return {
        **in_columns(turns[-2:], ALPACA_COLUMNS),
        "system": row[0].content if row[0].role == "system" else "",
        "history": earlier,
    }


def _as_vertex(row: Row, column: str = "contents") -> dict[str, Any]:
    system = [turn for turn in row if turn.role == "system"]
    record: dict[str, Any] = {}
    if system:
        record["systemInstruction"] = {"role": "system", "parts": [{"text": system[0].content}]}
    record[column] = [
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
    "messages": Format(
        keys=("messages",),
        write=lambda row: {"messages": chat(row)},
        marks=True,
        reasoning=True,
        trl=True,
    ),
    "prompt-completion": Format(
        keys=("prompt", "completion"),
        write=lambda row: {
            "prompt": chat(unmarked(row[:-1])),
            "completion": chat(unmarked(row[-1:])),
        },
        reasoning=True,
        trl=True,
    ),
    "prompt-completion-text": Format(
        keys=("prompt", "completion"),
        write=partial(in_columns, columns=TEXT_COLUMNS, name="prompt-completion-text"),
        trl=True,
    ),
    "alpaca": Format(
        keys=("instruction", "input", "output"),
        write=partial(in_columns, columns=ALPACA_COLUMNS, name="alpaca"),
    ),
    "openai": Format(
        keys=("messages",),
        write=lambda row: {"messages": _bare(row)},
        closed=True,
        marks=True,
        trl=True,
    ),
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
    except (ValueError, RecursionError) as error:
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


AXOLOTL_MARK = "train"
"""The key that marks a turn for axolotl, if its configuration names the key."""


def marked_for_axolotl(record: Record) -> Record:
    """Return a record of ``messages`` whose marks axolotl reads, in place of those of other trainers."""
    turns = []
    for turn in record["messages"]:
        mark = _mark(turn, "a message")
        plain = {key: value for key, value in turn.items() if key not in MARKS}
        turns.append(plain if mark is None else plain | {AXOLOTL_MARK: mark})
    return {**record, "messages": turns}


def write_axolotl(out: Path, *, marks: bool = False) -> None:
    """Write the ``datasets`` section that makes axolotl read a ``messages`` file, and the ``marks`` of its turns if it has some."""
    entry = {
        "path": os.fspath(out),
        "ds_type": "json",
        "type": "chat_template",
        "field_messages": "messages",
        "message_property_mappings": {"role": "role", "content": "content"},
    }
    section = {"datasets": [entry | ({"message_field_training": AXOLOTL_MARK} if marks else {})]}
    write_whole(
        out.with_suffix(".axolotl.yaml"),
        [yaml.safe_dump(section, sort_keys=False, allow_unicode=True)],
    )
