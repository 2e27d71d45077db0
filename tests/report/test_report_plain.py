"""Records become plain values and come back; what does not fit is named with its place."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Literal, TypeVar

import pytest

from aftertune.errors import InputError
from aftertune.report.document import from_plain, read_json, to_plain

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Leaf:
    k: int
    share: float


@dataclass(frozen=True)
class Parts(Generic[T]):
    overall: T | None
    by_task: Mapping[str, T] = field(default_factory=dict)


@dataclass(frozen=True)
class Tree:
    name: str
    leaves: tuple[Leaf, ...]
    parts: Parts[Leaf]
    colour: Colour
    rule: Literal["fixed", "exact"] = "fixed"
    limits: tuple[float, float] | None = None
    anything: object = None
    again: "Tree | None" = None
    sure: bool = True


def tree(**changes):
    leaf = Leaf(k=1, share=0.5)
    parts = Parts(overall=leaf, by_task={"a.b": leaf})
    fields = {"name": "x", "leaves": (leaf, leaf), "parts": parts, "colour": Colour.RED}
    return Tree(**fields | changes)


def test_a_record_comes_back_from_its_json():
    whole = tree(limits=(0.0, 1.0), anything={"a": [1]}, again=tree())
    assert from_plain(Tree, json.loads(json.dumps(to_plain(whole))), "f") == whole


def test_a_whole_number_is_a_number_and_fields_with_defaults_may_be_missing():
    plain = to_plain(tree())
    del plain["limits"], plain["again"]
    plain["leaves"][0]["share"] = 1
    plain["of another version"] = 1
    assert from_plain(Tree, plain, "f") == tree(leaves=(Leaf(k=1, share=1.0), Leaf(k=1, share=0.5)))


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (("leaves", 1, "k"), "7", r"leaves\[1\]\.k: .* valid integer, not '7'"),
        (("leaves", 1, "k"), True, r"leaves\[1\]\.k: .* valid integer, not True"),
        (("leaves", 1, "k"), 1.5, r"leaves\[1\]\.k: .* valid integer, not 1\.5"),
        (("leaves",), {}, "leaves: .* array, not {}"),
        (("leaves", 0), None, r"leaves\[0\]: .* object, not None"),
        (("parts", "by_task", "a.b", "share"), "x", r"parts\.by_task\['a\.b'\]\.share: .* valid number, not 'x'"),
        (("colour",), "green", "colour: .* 'red' or 'blue', not 'green'"),
        (("colour",), [], "colour: .* 'red' or 'blue', not .*"),
        (("rule",), "odd", "rule: .* 'fixed' or 'exact', not 'odd'"),
        (("limits",), [1], r"limits\[1\]: is missing"),
        (("limits",), [1, None], r"limits\[1\]: .* valid number, not None"),
        (("sure",), 1, "sure: .* boolean, not 1"),
        (("name",), "y" * 99, None),
        (("name",), ["\x1b" * 99], "name: .* valid string, not .{57}\\.\\.\\."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_its_place(place, value, problem):
    plain = to_plain(tree())
    *path, last = place
    inner = plain
    for step in path:
        inner = inner[step]
    inner[last] = value
    if problem is None:
        assert from_plain(Tree, plain, "f").name == value
        return
    with pytest.raises(InputError, match=f"^f: {problem}$"):
        from_plain(Tree, plain, "f")


def test_half_a_surrogate_pair_becomes_a_question_mark():
    assert from_plain(Tree, to_plain(tree(name="x\udcff")), "f").name == "x?"


def test_a_missing_field_is_named():
    plain = to_plain(tree())
    del plain["leaves"][0]["share"]
    with pytest.raises(InputError, match=r"^f: leaves\[0\]\.share: is missing$"):
        from_plain(Tree, plain, "f")
    with pytest.raises(InputError, match=r"^f: .* object, not \[\]$"):
        from_plain(Tree, [], "f")


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"a": NaN}', b"[" * 10**5, b"1" * 5000])
def test_what_is_not_json_is_told_in_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json: is not JSON") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path / "a.json")
