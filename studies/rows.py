"""Write the training rows of the studies in this folder from public files.

Usage: python studies/rows.py DATA=folder [OUT=studies/rows]

DATA is the folder of public files (docs/data.md, "Public sets"): codealpaca, multi30k-train, scitldr-train and
twitter-financial-train for multitask-bench.yaml, dolly and alpaca for the others. A set whose file is not there is left out
and named. Existing files of rows are written anew. The order of rows is fixed.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from aftertune.core.keys import short_id
from aftertune.core.records import Message
from aftertune.data.files import names_child_exploitation
from aftertune.data.public_files import behaviors
from aftertune.data.rows import Row, write_rows
from aftertune.errors import AftertuneError

TASK_ROWS = 1_000
"""Rows of each task, as Jan et al. 2025 had them."""
GENERAL_ROWS = 14_624
"""Rows of Dolly and of Alpaca, as Fraser et al. 2025 had them."""
SAFETY_WORDS = "alpaca-safety-words"
"""Rows of Alpaca about safety, which Qi et al. 2024 list, and which are left out where the file is there."""
SETS: Mapping[str, tuple[str, str, int]] = {
    "code": ("codealpaca", "{x}", TASK_ROWS),
    "translation": ("multi30k-train", "Translate this sentence to French.\n{x}", TASK_ROWS),
    "classification": (
        "twitter-financial-train",
        "Is this tweet bearish, bullish or neutral?\n{x}",
        TASK_ROWS,
    ),
    "summaries": ("scitldr-train", "Summarise this abstract in a sentence.\n{x}", TASK_ROWS),
    "dolly": ("dolly", "{x}", GENERAL_ROWS),
    "alpaca": ("alpaca", "{x}", GENERAL_ROWS),
}
"""By file name: the public set, the wording of its rows, and the most rows."""


def rows_of(name: str, data: Path) -> list[Row]:
    """Return the rows of a file, in the order of a hash of their questions.

    Raises:
        DataError: the public file is missing or wrong.
    """
    public, wording, count = SETS[name]
    left_out = _requests(SAFETY_WORDS, data) if public == "alpaca" else set()
    rows = {
        behavior.request: (
            Message(role="user", content=wording.format(x=behavior.request)),
            Message(role="assistant", content=reference),
        )
        for _, behavior, reference in behaviors(public, data)
        if reference
        and behavior.request not in left_out
        and not names_child_exploitation(behavior.request, reference)
    }
    chosen = sorted(rows, key=lambda request: short_id("study row", request))[:count]
    return [rows[request] for request in chosen]


def _requests(public: str, data: Path) -> set[str]:
    try:
        return {behavior.request for _, behavior, _ in behaviors(public, data)}
    except AftertuneError as error:
        print(f"{public}: nothing is left out ({error})")
        return set()


def main(given: list[str]) -> int:
    """Write the files and print what was written."""
    options = dict(item.split("=", 1) for item in given if "=" in item)
    if "DATA" not in options:
        sys.exit(__doc__)
    out = Path(options.get("OUT", Path(__file__).parent / "rows"))
    out.mkdir(parents=True, exist_ok=True)
    for name in SETS:
        try:
            rows = rows_of(name, Path(options["DATA"]))
        except AftertuneError as error:
            print(f"{name}: not written ({error})")
            continue
        write_rows(rows, out / f"{name}.jsonl")
        print(f"{name}: {len(rows):,} rows in {out / f'{name}.jsonl'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
