"""Memory of a fine-tune by the size of its training file: ``python bench/stream.py [MB]`` (20 unless said).

`aftertune tune` trains the embedded model for a few steps on a file of one megabyte and on one of so many, each in a process of
its own. Rows are checked, hashed and rendered in either case, all of them.
"""

import json
import sys
import tempfile
from pathlib import Path

from latest import keep

from data import AFTERTUNE, measured

ROW = 1000
"""About the characters of a row."""
STEPS, BATCH = 20, 8
MB = 10**6


def write(path: Path, size: int) -> int:
    """Write rows of so many bytes together and return their number."""
    words = (
        "the map of the town shows a road that leads from the mill over the bridge to the market "
    )
    completion = words * (ROW // len(words))
    written = rows = 0
    with path.open("w", encoding="utf-8") as stream:
        while written < size:
            record = {"prompt": f"Row {rows}: show the map", "completion": completion}
            written += stream.write(json.dumps(record) + "\n")
            rows += 1
    return rows


def main() -> None:
    """Print seconds and peaks, and keep them in ``latest.json``."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        organism = Path(folder) / "organism"
        measured([AFTERTUNE, "organism", str(organism), "--quiet"])
        for megabytes in (1, size):
            path = Path(folder) / f"{megabytes}.jsonl"
            rows = write(path, megabytes * MB)
            command = [AFTERTUNE, "tune", str(organism / "base"), str(path), "--out", f"{path}.out"]
            command += ["--epochs", str(STEPS * BATCH / rows), "--batch-size", str(BATCH)]
            command += ["--max-length", "128", "--threads", "1", "--quiet"]
            seconds, peaks[megabytes] = measured(command)
            print(
                f"{megabytes:>6,} MB, {rows:>9,} rows: {seconds:7.1f} s, peak {peaks[megabytes] / 2**20:,.0f} MiB",
                flush=True,
            )
    growth = (peaks[size] - peaks[1]) / (size - 1) / MB
    print(f"a further byte of the file takes {growth:.3f} bytes of memory")
    keep({"stream_mb": size, "stream_bytes_per_byte": round(growth, 3)})


if __name__ == "__main__":
    main()
