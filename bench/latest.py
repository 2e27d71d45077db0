"""The figures of all benchmarks in one flat object, ``bench/latest.json``."""

import json
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("latest.json")


def keep(figures: Mapping[str, float | None]) -> None:
    """Put figures in the place of older ones of their names, beside those of the other benchmarks."""
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    FILE.write_text(
        json.dumps({**known, **figures}, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
