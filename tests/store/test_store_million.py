import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "store.py"


def limits(responses: int) -> tuple[float, float]:
    """Write a synthetic store; return the seconds and the peak GiB of opening, joining and measuring it."""
    run = subprocess.run(
        [sys.executable, BENCH, str(responses)], capture_output=True, text=True, check=True
    )
    reading = run.stdout.partition("open and join")[2]
    seconds = re.search(r"open, join and measure .*: ([0-9.]+) s", reading)
    peak = re.search(r"peak ([0-9.]+) GiB", reading)
    return float(seconds[1]), float(peak[1])


def test_a_store_of_ten_thousand_responses_is_read_and_measured():
    seconds, peak = limits(10_000)
    assert seconds < 60
    assert peak < 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_store_of_a_million_responses_is_read_and_measured_within_a_minute_and_two_gib():
    seconds, peak = limits(1_000_000)
    assert seconds < 60
    assert peak < 2
