"""The mutator: the same number gives the same file, and what it gives differs from what it was given."""

import json

import pytest

from aftertune.errors import DataError
from fuzz import Mutator, ended

LINES = "".join(
    json.dumps({"prompt": f"Ask {n}", "completion": ["Say", {"n": n}]}) + "\n" for n in range(4)
)
VALID = {
    "jsonl": LINES,
    "json": LINES.splitlines()[0],
    "csv": "id,label\n1,refused\n2,complied\n",
    "yaml": "name: a\nmodels:\n  - {name: base}\n",
    "bytes": LINES,
}


@pytest.mark.parametrize("kind", VALID)
def test_a_number_gives_one_file_and_numbers_give_many(kind):
    valid = VALID[kind].encode()
    files = [Mutator(number).file(valid, kind) for number in range(60)]
    assert files == [Mutator(number).file(valid, kind) for number in range(60)]
    assert len({*files, valid}) > 50


def test_a_case_ends_well_with_an_error_of_ours_alone():
    assert ended(lambda: None, "nothing") is None

    def refused():
        raise DataError("a.jsonl, line 1: broken JSON")

    def broken():
        raise KeyError("role")

    assert isinstance(ended(refused, "a file"), DataError)
    with pytest.raises(AssertionError, match="file 7: KeyError: 'role'"):
        ended(broken, "file 7")
