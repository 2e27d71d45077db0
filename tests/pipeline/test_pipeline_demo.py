"""``aftertune demo`` as a user meets it: twice the same bytes, and its three hints can be typed as they stand."""

import json
import os
import shlex

import pytest
from tiny_study import environment, finish, start

LIMIT = 1500


@pytest.fixture(scope="module")
def demos(tmp_path_factory, organism_folder):
    """Two demonstrations in fresh folders; the base is found in the user's ordinary cache."""
    env = environment(os.environ.get("XDG_CACHE_HOME", ""))
    done = []
    for name in ("first", "second"):
        folder = tmp_path_factory.mktemp(name)
        code, out, err = finish(start("demo", "--json", "told.json", env=env, cwd=folder), LIMIT)
        assert code == 0, err
        done.append((folder, out))
    return done


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT)
def test_two_demonstrations_are_one(demos):
    (first, printed), (second, again) = demos
    assert (first / "told.json").read_bytes() == (second / "told.json").read_bytes()
    assert printed == again
    told = json.loads((first / "told.json").read_text())
    assert told["finding"]
    assert (first / "aftertune-runs" / "demo" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT)
def test_the_hints_can_be_typed(demos, tiny_cache):
    folder, printed = demos[0]
    hints = [
        line.strip() for line in printed.partition("Try next:")[2].splitlines() if line.strip()
    ]
    assert [hint.split()[:2] for hint in hints] == [
        ["aftertune", name] for name in ("mix", "tune", "check")
    ]
    codes = [
        finish(start(*shlex.split(hint)[1:], env=environment(tiny_cache), cwd=folder), LIMIT)[0]
        for hint in hints
    ]
    assert codes[:2] == [0, 0]
    assert codes[2] in {0, 3, 4}
