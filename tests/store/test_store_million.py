import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "bench"
BENCH = FOLDER / "store.py"


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


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_store_merged_from_eight_parts_lacks_nothing_and_keeps_to_its_memory():
    """The stage that plans the whole study ends with an error where a call or a score is missing."""
    run = subprocess.run(
        [sys.executable, FOLDER / "growth.py", "3000", "30000"],
        capture_output=True,
        text=True,
        check=True,
    )
    peaks = re.findall(r"30,000 (\w+) .* peak ([0-9.]+) GiB", run.stdout)
    assert [stage for stage, _ in peaks] == ["merge", "plan", "table", "measure"]
    assert max(float(peak) for _, peak in peaks) < 1
