"""The YAML reader remembers the line of every key, so that an error can point at it.

Plain scalars follow YAML 1.2: ``1e-4`` is a number, ``no`` and ``on`` are text, a date is text.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import yaml

from aftertune.errors import StudyError

Step = str | int
Where = tuple[Step, ...]
"""The way to a value from the top of the file: keys and list positions."""

NODES_MAX = 100_000
"""Values in one file, aliases expanded: a few lines of nested aliases could otherwise fill the memory."""

SCALARS = {
    "tag:yaml.org,2002:null": re.compile(r"^(?:~|null|Null|NULL|)$"),
    "tag:yaml.org,2002:bool": re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
    "tag:yaml.org,2002:int": re.compile(r"^[-+]?[0-9]+$"),
    "tag:yaml.org,2002:float": re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"
    ),
}

PLAIN: Mapping[str, Callable[[str], object]] = {
    "null": lambda _: None,
    "bool": lambda word: word.lower() == "true",
    "int": int,
    "float": float,
}


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2 in place of those of YAML 1.1."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {  # noqa: RUF012  # PyYAML's own way
        None: list(SCALARS.items())
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """The values of a file, with the line of each."""

    file: str
    """The name that errors begin with."""
    data: object
    lines: Mapping[Where, int] = field(default_factory=lambda: MappingProxyType({}))
    """The line of each key and list item; empty for data that comes from no file."""

    def error(self, where: Where, message: str) -> StudyError:
        """Return the one-line error ``file:line: key: message``; a key that is not there has its parent's line."""
        near = where
        while near and near not in self.lines:
            near = near[:-1]
        line = self.lines.get(near)
        parts = [
            self.file if line is None else f"{self.file}:{line}",
            spelled(where),
            " ".join(message.split()),
        ]
        return StudyError(": ".join(part for part in parts if part))


def spelled(where: Where) -> str:
    """Return the path to a value in one string: ``fine_tunes[0].training.epochs``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    return text.removeprefix(".")


def nearest(word: str, words: Iterable[str]) -> str:
    """Return ``did you mean 'x'? `` if one of ``words`` is near, else nothing."""
    near = difflib.get_close_matches(word, list(words), n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def read_yaml(path: Path) -> Placed:
    """Read a YAML file.

    Raises:
        StudyError: no such file, not UTF-8, broken YAML, a key twice, or nothing in it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(
            f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise StudyError(
            f"{path}:{line}: broken YAML ({what}); check indentation, colons and quotes there"
        ) from error
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())
        raise StudyError(f"{path}: broken YAML ({what}); remove that character") from error
    except RecursionError as error:
        raise StudyError(f"{path}: nested too deeply; a study needs few levels") from error
    if root is None:
        raise StudyError(
            f"{path}:1: the file is empty; `aftertune schema` prints the keys that it may hold"
        )
    return _Reading(str(path)).placed(root)


class _Reading:
    """A reading turns a tree of YAML nodes into plain values and notes their lines."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[Where, int] = {}
        self.open: set[int] = set()
        """Nodes that are being read: meeting one again inside itself is a loop of aliases."""

    def placed(self, root: yaml.Node) -> Placed:
        self.lines[()] = root.start_mark.line + 1
        return Placed(file=self.file, data=self.value(root, ()), lines=self.lines)

    def value(self, node: yaml.Node, where: Where) -> object:
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, where)
        if id(node) in self.open or len(self.lines) > NODES_MAX:
            raise self.error(
                node,
                where,
                "its aliases contain themselves or grow too large; write the values out",
            )
        self.open.add(id(node))
        plain = (
            self.mapping(node, where)
            if isinstance(node, yaml.MappingNode)
            else self.sequence(node, where)
        )
        self.open.discard(id(node))
        return plain

    def mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, object]:
        plain: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.error(
                    key_node, where, "a key must be a plain word; quote it if it holds brackets"
                )
            if key in plain:
                raise self.error(
                    key_node, (*where, key), "the key stands here twice; keep one of the two"
                )
            self.lines[*where, key] = key_node.start_mark.line + 1
            plain[key] = self.value(value_node, (*where, key))
        return plain

    def sequence(self, node: yaml.Node, where: Where) -> list[object]:
        plain = []
        for position, item in enumerate(node.value):
            self.lines[*where, position] = item.start_mark.line + 1
            plain.append(self.value(item, (*where, position)))
        return plain

    def scalar(self, node: yaml.ScalarNode, where: Where) -> object:
        kind, text = node.tag.rpartition(":")[2], str(node.value)
        if node.tag not in SCALARS and kind != "str":
            raise self.error(
                node, where, f"the tag {node.tag} is not used here; write a plain value"
            )
        try:
            return PLAIN.get(kind, str)(text)
        except ValueError as error:
            raise self.error(node, where, f"{text!r} is no {kind}; write a plain value") from error

    def error(self, node: yaml.Node, where: Where, message: str) -> StudyError:
        return Placed(file=self.file, data=None, lines={where: node.start_mark.line + 1}).error(
            where, message
        )
