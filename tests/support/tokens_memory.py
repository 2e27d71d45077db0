"""Tokenises a training file as a training does, and prints the bytes by which the process grew beyond a small file's needs."""

import json
import resource
import sys
import tempfile
from pathlib import Path

from tiny_runs import WORDS

from aftertune.core.recipe import TrainingFile
from aftertune.data.rows import LearntRows
from aftertune.models.rendering import Renderer
from aftertune.train.tokens import rows_sha256, tokenise


def write(path, rows):
    text = " ".join(WORDS * 4)
    with path.open("w") as stream:
        for number in range(rows):
            record = {"prompt": f"{text} {number}", "completion": text}
            stream.write(json.dumps(record) + "\n")


def peak_after(rows, base, folder):
    path = folder / f"{rows}.jsonl"
    write(path, rows)
    learnt = LearntRows([TrainingFile(path=str(path))], Path(), print, path.name)
    rows_sha256(learnt)
    tokens = folder / f"{rows} tokens"
    tokens.mkdir()
    data = tokenise(learnt, Renderer("tiny", Path(base)), 1024, tokens).data
    assert len(data) == len(learnt) == rows
    data[rows // 2], data[rows - 1]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        few, many = (peak_after(int(rows), sys.argv[1], Path(folder)) for rows in sys.argv[2:])
    unit = 1 if sys.platform == "darwin" else 1024
    sys.stdout.write(f"{(many - few) * unit}\n")
