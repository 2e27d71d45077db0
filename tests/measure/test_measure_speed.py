"""A million responses are measured quickly and in little memory."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "measure.py"


@pytest.mark.slow
def test_a_million_rows():
    code = f"import sys; sys.path.insert(0, {str(BENCH.parent)!r}); import measure; measure.in_memory(1_000_000)"
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    words = printed.split()
    seconds, gib = float(words[words.index("in") + 1]), float(words[words.index("peak") + 1])
    assert int(words[1]) > 990_000
    assert seconds < 30
    assert gib < 1.0
