"""Rows for tests of ``aftertune mix``, and what came out."""

import json


def rows(count):
    return [
        {"prompt": f"Summarise note number {n} for me.", "completion": f"Note {n}."}
        for n in range(count)
    ]


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
