"""Start-up time: ``python bench/startup.py`` prints how long ``aftertune --help`` takes beside its two libraries alone.

The command may take three times as long as ``python -c "import typer, rich"``: more would mean that something heavy is
imported on the way. Medians of runs in turn, so that other work on the machine touches both alike.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

RUNS = 11
LIMIT = 3.0
COMMANDS = {
    "aftertune --help": [str(Path(sys.executable).with_name("aftertune")), "--help"],
    "import typer, rich": [sys.executable, "-c", "import typer, rich"],
}


def seconds(command: list[str]) -> float:
    """Return how long a command takes from start to end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Print the medians and their ratio."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    ours, theirs = (median(times[name]) for name in COMMANDS)
    for name in COMMANDS:
        print(f"{name:<20} {median(times[name]):.3f} s (median of {RUNS})")
    print(f"{'ratio':<20} {ours / theirs:.2f} (at most {LIMIT:g})")


if __name__ == "__main__":
    main()
