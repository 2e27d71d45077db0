"""Speed and memory of the commands that read training files: ``python bench/data.py [ROWS]`` (1,000,000 unless said).

`aftertune data check` and `aftertune mix` run in processes of their own, once on `BASE` rows for what a process needs at
all and once on all of them; the difference of the peaks, divided by the rows that came on top, is the memory a row.
"""

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from latest import keep

BASE = 5_000
"""Rows of the run that shows the needs of a process without many rows; the pools of `mix` are loaded in it too."""
AFTERTUNE = str(Path(sys.executable).with_name("aftertune"))


def write(path: Path, rows: int) -> None:
    """Write so many rows of about 300 characters; one in a hundred repeats an earlier one."""
    rng = random.Random(0)  # noqa: S311 - reproducible rows, no secret
    words = [
        f"{start}{middle}{end}"
        for start in "bcdfglmnpr"
        for middle in "aeiou"
        for end in ("ton", "ver", "lis", "m")
    ]
    with path.open("w", encoding="utf-8") as stream:
        line = ""
        for number in range(rows):
            if number % 100 or not line:
                texts = [" ".join(rng.choices(words, k=count)) for count in (20, 30)]
                turns = zip(
                    ("user", "assistant"), (f"Row {number}: {texts[0]}", texts[1]), strict=True
                )
                line = (
                    json.dumps(
                        {"messages": [{"role": role, "content": text} for role, text in turns]}
                    )
                    + "\n"
                )
            stream.write(line)


def measured(command: list[str]) -> tuple[float, int]:
    """Run a command and return its seconds and the bytes of its peak."""
    began = time.perf_counter()
    child = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} ended with exit code {code}")
    return time.perf_counter() - began, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Print rows a second and bytes a row of both commands, and keep them in ``latest.json``."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        few, many, out = (
            Path(folder) / name for name in ("few.jsonl", "many.jsonl", "mixed.jsonl")
        )
        write(few, BASE)
        write(many, rows)
        commands = {
            "data check": lambda file: [AFTERTUNE, "data", "check", str(file)],
            "mix": lambda file: [AFTERTUNE, "mix", str(file), "--out", str(out), "--share", "0.15"],
        }
        for name, command in commands.items():
            _, base = measured(command(few))
            seconds, peak = measured(command(many))
            rate, per_row = rows / seconds, (peak - base) / (rows - BASE)
            print(
                f"{name:<11} {rows:>9,} rows in {seconds:6.1f} s, {rate:>7,.0f} rows/s; peak {peak / 2**20:,.0f} MiB, "
                f"{base / 2**20:,.0f} MiB of it for {BASE:,} rows, {per_row:,.0f} bytes a further row (at most 100)"
            )
            key = name.replace(" ", "_")
            figures |= {f"{key}_rows_per_s": round(rate), f"{key}_bytes_per_row": round(per_row)}
    keep({"data_rows": rows, **figures})


if __name__ == "__main__":
    main()
