"""The whole study by one command: build what is missing, run `aftertune run`, print the table.

Usage: python experiments/real_text/run.py DATA=folder [OUT=real_text_out]

Run again after any interruption, it goes on where it was.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from build import arguments, build

from aftertune.errors import AftertuneError


def main(given: list[str]) -> int:
    """Build, run, and print; return the exit status of `aftertune run`."""
    data, out = arguments(given)
    build(data, out)
    aftertune = Path(sys.executable).with_name("aftertune")
    status = subprocess.run(
        [aftertune, "run", out / "study.yaml", "--out", out / "run", "--json", out / "result.json"],
        check=False,
    ).returncode
    if status == 0:
        table = "\n".join(lines(json.loads((out / "result.json").read_text())))
        (out / "table.md").write_text(table + "\n")
        print(table)
    return status


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the study's tables: a row a prompt set, a column a condition, all training seeds together."""
    (setting,) = result["result"]["settings"]
    conditions = setting["conditions"]
    for title, key in (
        ("Harmful prompts: not refused", "asr"),
        ("Harmless prompts: refused", "over_refusal"),
    ):
        yield f"{title} / incoherent, of n responses"
        yield ""
        yield f"| set | n base, tuned | {' | '.join(condition['name'] for condition in conditions)} |"
        yield "|---" * (len(conditions) + 2) + "|"
        for name in conditions[0][key]["by_set"]:
            rates = [condition[key]["by_set"][name] for condition in conditions]
            counts = " | ".join(f"{rate['k']} / {rate['incoherent']}" for rate in rates)
            yield f"| {name} | {rates[0]['n']}, {rates[-1]['n']} | {counts} |"
        yield ""


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AftertuneError as error:
        sys.exit(str(error))
