"""A study of a real model by one command: rows, aligned base, forecast, `aftertune run`, table.

Usage: python experiments/smollm2/run.py real|full|small [DATA=folder] [OUT=aftertune-runs/smollm2]

Without DATA the fine-tunes learn from rows that every machine has; with DATA from public files (their layout stands in
experiments/real_text/README.md). Run again after any interruption, it goes on where it was.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from base import ADAPTER, AFTERTUNE, FOLDER, merge
from rows import PUBLIC, task_rows

from aftertune.data.rows import write_rows
from aftertune.errors import AftertuneError

ROWS = {"real": 250, "full": 250, "small": 16}
"""Rows of each fine-tune, by study."""


def main(study: str, data: Path | None, out: Path) -> int:
    """Prepare, print the forecast, run, and print the table; return the exit status of the study.

    Raises:
        AftertuneError: a public file is missing, or SmolLM2 is not here.
    """
    for task in PUBLIC:
        write_rows(task_rows(task, data, ROWS[study]), out / "rows" / f"{task}.jsonl")
    merge(ADAPTER, out / "base")
    file, run = out / f"{study}.yaml", out / study
    shutil.copyfile(FOLDER / file.name, file)
    forecast = [AFTERTUNE, "plan", file, "--out", run, "--time"]
    status = subprocess.run(forecast[: 5 if study == "small" else None], check=False).returncode
    if status == 0:
        result = out / f"{study}.json"
        status = subprocess.run(
            [AFTERTUNE, "run", file, "--out", run, "--json", result], check=False
        ).returncode
    if status == 0:
        table = "\n".join(lines(json.loads(result.read_text(encoding="utf-8"))))
        (out / f"{study}.md").write_text(table + "\n", encoding="utf-8")
        print(table)
        print(f"{run / 'report.html'} is the page")
    return status


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the study's tables: refusals of harmful prompts and of their twins, a row a task, all training seeds together."""
    (setting,) = result["result"]["settings"]
    conditions = setting["conditions"]
    for title, key in (("Harmful prompts", "asr"), ("Their twins", "over_refusal")):
        yield f"| {title}: refused / incoherent, of n | {' | '.join(x['name'] for x in conditions)} |"
        yield "|---" * (len(conditions) + 1) + "|"
        rates = [
            condition[key]["by_task"] | {"all": condition[key]["overall"]}
            for condition in conditions
        ]
        for task in rates[0]:
            cells = " | ".join(_cell(of_model[task], harmful=key == "asr") for of_model in rates)
            yield f"| {task} | {cells} |"
        yield ""


def _cell(rate: Mapping[str, Any], *, harmful: bool) -> str:
    """Return the refusals and the incoherent answers; the non-refusal rate of harmful prompts counts the others."""
    refused = (
        rate["n"] - rate["k"] - rate["incoherent"] - rate["undecided"] if harmful else rate["k"]
    )
    return f"{refused} / {rate['incoherent']}, of {rate['n']}"


if __name__ == "__main__":
    options = dict(item.split("=", 1) for item in sys.argv[2:] if "=" in item)
    if len(sys.argv) < 2 or sys.argv[1] not in ROWS:
        sys.exit(__doc__)
    folder = options.get("DATA")
    try:
        sys.exit(
            main(
                sys.argv[1],
                Path(folder).resolve() if folder else None,
                Path(options.get("OUT", "aftertune-runs/smollm2")).resolve(),
            )
        )
    except AftertuneError as error:
        sys.exit(str(error))
