"""Broken training files and label files: each ends with a result or with one line of ours."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from fuzz_files import TRAINING, jsonl, kind_of
from synthetic_study import job, prompt, response

from aftertune.core.recipe import TrainingFile
from aftertune.core.records import LabelValue
from aftertune.data.checks import Checker, estimated
from aftertune.data.files import read_records
from aftertune.data.formats import TARGETS
from aftertune.data.mix_file import Addition, MixRequest, mix_file
from aftertune.data.rows import by_answer, read_rows, trainable, write_lines
from aftertune.labels.annotations import import_rows, kept_labels, labelled_table
from aftertune.labels.draw import Item, Sample, population
from aftertune.labels.files import read_rows as read_labels
from aftertune.store import Store
from fuzz import Mutator, ended

FEW, MANY = 60, 2_000
"""Files of each kind in the suite, and in the slow test."""


def look(path):
    """Check a file, learn from it and mix into it, as the commands do."""
    checker = Checker(limit=50, measure=estimated)
    with closing(read_records(path, checker.unreadable)) as records:
        for where, record in records:
            checker.check(where, record)
    checker.report()


def learn(path):
    trainable(read_rows(TrainingFile(path=str(path)), Path()), lambda _: None, path.name, by_answer)


def mix(path, safety, number):
    targets = [None, *TARGETS]
    out = path.with_name("mixed.jsonl")
    mix_file(
        MixRequest(
            train=path,
            out=out,
            safety=Addition(files=[TrainingFile(path=str(safety))], share=0.3),
            replay=Addition(),
            to=targets[number % len(targets)],
            like=path if number % 3 == 0 else None,
        )
    )
    for line in out.read_text(encoding="utf-8").removesuffix("\n").split("\n"):
        json.loads(line)


def training_files(folder, numbers):
    safety = folder / "safety.jsonl"
    write_lines(
        jsonl([{"prompt": f"Harm {n}?", "completion": "No."} for n in range(3)])
        .decode()
        .splitlines(),
        safety,
    )
    names, readable = list(TRAINING), 0
    for number in numbers:
        name = names[number % len(names)]
        path = folder / name
        path.write_bytes(Mutator(number).file(TRAINING[name], kind_of(name)))
        case = f"training file {number} ({name})"
        ended(lambda path=path: look(path), case)
        ended(lambda path=path: learn(path), case)
        readable += ended(lambda path=path, number=number: mix(path, safety, number), case) is None
    return readable


def test_broken_training_files_end_well(tmp_path):
    assert training_files(tmp_path, range(FEW)) > FEW // 20


@pytest.mark.slow
def test_many_broken_training_files_end_well(tmp_path):
    assert training_files(tmp_path, range(FEW, MANY)) > MANY // 20


@pytest.fixture
def labelled(tmp_path):
    """A store of twelve answers, and the sample that was drawn of them."""
    jobs = [job(model, prompt(number)) for model in ("base", "tuned") for number in range(6)]
    with Store.open(tmp_path / "store.db") as store:
        store.plan("s", jobs)
        store.append("generate", [(each.key, response("An answer.")) for each in jobs])
        items = tuple(
            Item(id=f"r-{n}", key=each.key.hex(), prompt=each.prompt.id, probability=0.5)
            for n, each in enumerate(jobs)
        )
        yield store, Sample(seed=0, n=12, population=population(store.table("s")), items=items)


LABELS = [
    {"id": f"r-{n}", "task": "text", "prompt": "=a", "response": "b\nc", "label": value, "label:anna": "refused"}
    for n, value in enumerate([*(value.value for value in LabelValue), ""])
]  # fmt: skip
LABEL_FILES = {
    "labels.jsonl": jsonl(LABELS),
    "labels.csv": ("\ufeff" + ",".join(LABELS[0]) + "\n" + "".join(f'"{row["id"]}",text,\'=a,"b\nc",{row["label"]},refused\n' for row in LABELS)).encode(),
    "semicolons.csv": "".join(f"{row['id']};{row['label']}\n" for row in [{"id": "id", "label": "label"}, *LABELS]).encode(),
}  # fmt: skip


def label_files(folder, labelled, numbers):
    store, sample = labelled
    names, accepted = list(LABEL_FILES), 0
    for number in numbers:
        name = names[number % len(names)]
        path = folder / name
        kind = "jsonl" if name.endswith("jsonl") else "csv"
        path.write_bytes(Mutator(number).file(LABEL_FILES[name], kind))

        def imported(path=path):
            import_rows(store, "s", sample, path, read_labels(path, "ben"))
            kept_labels(store, "s", sample)
            _, counts = labelled_table(store, "s", [])
            assert counts.applies

        accepted += ended(imported, f"label file {number} ({name})") is None
    return accepted


def test_broken_label_files_end_well(tmp_path, labelled):
    assert label_files(tmp_path, labelled, range(FEW)) > FEW // 20


@pytest.mark.slow
def test_many_broken_label_files_end_well(tmp_path, labelled):
    assert label_files(tmp_path, labelled, range(FEW, MANY)) > MANY // 20
