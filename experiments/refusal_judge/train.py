"""Train the classifier of the judge `refusal`.

    python experiments/refusal_judge/train.py [--check]

Rows come from `english.yaml` (written for this), the safety rows that ship with Aftertune, the
functions of the installed Python, and three public sets under AFTERTUNE_DATA (refusal_card.md names their licences).
Everything is drawn from one seed, so that the same files give the same weights. Needs scikit-learn.

--check trains on four fifths of the sentences and reports what the rest gives, and writes nothing.
"""

import argparse
import ast
import csv
import json
import os
import random
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from aftertune.core.records import Intent
from aftertune.data.bundled.safety import SAFETY_V1, safety_rows
from aftertune.score.refusal import features, own_words

HERE = Path(__file__).parent
WEIGHTS = HERE.parents[1] / "src/aftertune/score/refusal_weights.json"
SEED, WRITTEN, STRENGTH, LEAST, FEWEST = 11, 6000, 4.0, 0.02, 3
"""Seed; written rows of a label; inverse of the L2 penalty; smallest weight that is kept; rows that a feature needs."""
SHARES = (0.35, 0.35, 0.2, 0.1)
"""Written answers: plain; with a caution; with words against something at the end; with words of a refusal."""
Labelled = tuple[str, bool]


class Material:
    """The sentences of english.yaml with their slots; ``part`` chooses the sentences that a fold trains on or is tested on."""

    def __init__(self, rng: random.Random, part: str = "all") -> None:
        self.rng = rng
        text = yaml.safe_load((HERE / "english.yaml").read_text())
        self.slots = text["slots"]
        self.refusals, self.answers = (
            {name: chosen(lines, part) for name, lines in text[label].items()}
            for label in ("refusals", "answers")
        )

    def sentence(self, lines: Sequence[str]) -> str:
        """Return a sentence with its slots filled, its first letter large."""
        filled = re.sub(
            r"\{(\w+)\}", lambda slot: self.rng.choice(self.slots[slot[1]]), self.rng.choice(lines)
        )
        return filled[0].upper() + filled[1:]

    def refusal(self) -> str:
        """Return an answer that declines, by a refusal or by words against what was wanted."""
        of = self.refusals
        first = self.sentence(of["hard"] if self.rng.random() < 0.35 else of["soft"])
        rest = [
            self.sentence(of["soft"] if self.rng.random() < 0.25 else of["more"])
            for _ in range(self.rng.choice((0, 0, 1, 1, 2, 3, 4)))
        ]
        before = [self.sentence(of["middle"])] if self.rng.random() < 0.15 else []
        return " ".join([*before, first, *rest])

    def answer(self) -> str:
        """Return an answer that does what was asked, plainly, with a caution, or with words of a refusal."""
        of = self.answers
        kind = self.rng.choices(range(4), SHARES)[0]
        parts = [self.sentence(of["open"])]
        parts += [self.sentence(of["body"]) for _ in range(self.rng.choice((0, 1, 1, 2, 3)))]
        if kind == 1:
            parts += [self.sentence(of["caution"]) for _ in range(self.rng.choice((1, 2)))]
        if kind == 2:
            parts += [self.sentence(self.refusals["soft"])]
        if kind == 3:
            parts = [self.sentence(of["near"]), *parts[1:2]]
        return self.rng.choice((" ", " ", "\n\n")).join(parts)


def chosen(lines: Sequence[str], part: str) -> list[str]:
    """Return the lines of a part: every fifth is held out."""
    numbered = enumerate(lines)
    if part == "all":
        return list(lines)
    return [line for number, line in numbered if (number % 5 == 4) == (part == "held out")]


def written(part: str, count: int) -> Iterator[Labelled]:
    """Yield rows of english.yaml."""
    material = Material(random.Random(SEED), part)  # noqa: S311
    for _ in range(count):
        yield material.refusal(), True
        yield material.answer(), False


def bundled(rng: random.Random) -> Iterator[Labelled]:
    """Yield safety rows that ship: refusals, and proper answers of the four tasks."""
    rows = [(row.answer, row.intent is Intent.HARMFUL) for row in safety_rows(SAFETY_V1)]
    yield from rng.sample(rows, 2000)


def programs(rng: random.Random) -> Iterator[Labelled]:
    """Yield functions of the installed Python's standard library: answers of the task code."""
    texts = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-m]*.py")):
        source = path.read_text(errors="ignore")
        functions = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
        texts += [ast.get_source_segment(source, node) or "" for node in functions]
    yield from ((text, False) for text in rng.sample(texts, 400))


def public(rng: random.Random, data: Path) -> Iterator[Labelled]:
    """Yield texts of public sets, which refuse nothing: abstracts, headlines, neutral sentences."""
    with (data / "scitldr/train.jsonl").open() as lines:
        abstracts = [" ".join(json.loads(line)["source"]) for line in lines]
    with (data / "twitter_financial/sent_valid.csv").open(newline="") as file:
        headlines = [row["text"] for row in csv.DictReader(file)]
    neutral = [
        line.strip(" -")
        for path in sorted((data / "toxigen").glob("demonstrations__neutral_*"))
        for line in path.read_text().splitlines()
        if line.strip(" -")
    ]
    for texts, count in ((abstracts, 800), (headlines, 400), (neutral, 300)):
        yield from ((text, False) for text in rng.sample(texts, min(count, len(texts))))


def matrix(rows: Sequence[Labelled], places: dict[str, int], *, grow: bool) -> csr_matrix:
    """Return the rows' features, as `Weights.logit` counts them; new features get a place where ``grow``."""
    columns, values, ends = [], [], [0]
    for text, _ in rows:
        for names, value in features(own_words(text)):
            for name in sorted(names):
                place = places.setdefault(name, len(places)) if grow else places.get(name)
                if place is not None:
                    columns.append(place)
                    values.append(value)
        ends.append(len(columns))
    return csr_matrix((values, columns, ends), shape=(len(rows), len(places)))


def fit(rows: Sequence[Labelled]) -> dict[str, Any]:
    """Return bias and weights."""
    places: dict[str, int] = {}
    counts = matrix(rows, places, grow=True)
    frequent = np.asarray((counts > 0).sum(axis=0)).ravel() >= FEWEST
    labels = np.array([label for _, label in rows])
    model = LogisticRegression(C=STRENGTH, max_iter=2000, class_weight="balanced")
    model.fit(counts[:, frequent], labels)
    names = [name for name, place in places.items() if frequent[place]]
    weights = {
        name: round(float(weight), 3)
        for name, weight in zip(names, model.coef_[0], strict=True)
        if abs(weight) >= LEAST
    }
    return {"bias": round(float(model.intercept_[0]), 3), "weights": dict(sorted(weights.items()))}


def main() -> None:
    """Train, and write the weights or report the held-out sentences."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    rng = random.Random(SEED)  # noqa: S311 - rows are drawn, no secrets
    rows = [*written("trained" if check else "all", WRITTEN), *bundled(rng), *programs(rng)]
    rows += public(rng, Path(os.environ["AFTERTUNE_DATA"]))
    table = fit(rows)
    print(f"{len(rows):,} rows, {len(table['weights']):,} weights, bias {table['bias']}")
    if not check:
        WEIGHTS.write_text(json.dumps(table, ensure_ascii=False, separators=(",", ":")) + "\n")
        print(f"{WEIGHTS.name}: {WEIGHTS.stat().st_size:,} bytes")
        return
    held_out = list(written("held out", 1000))
    places = {name: place for place, name in enumerate(table["weights"])}
    logits = matrix(held_out, places, grow=False) @ np.array(list(table["weights"].values()))
    refused, truth = logits + table["bias"] > 0, np.array([label for _, label in held_out])
    print(
        f"held-out sentences: sensitivity {refused[truth].mean():.3f}, specificity {(~refused[~truth]).mean():.3f}"
    )


if __name__ == "__main__":
    main()
