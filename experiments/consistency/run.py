"""Whether another lab finds what a consistency report says: one crossed study after the other with new training seeds.

Usage: python experiments/consistency/run.py OUT=consistency_out [STUDIES=30]

Every study has 5 training seeds x 3 samples x 2 temperatures x 3 templates x 2 judges x 4 tasks on one organism base.
They run as one study of all their seeds and are measured apart; each of them then predicts all the others. Run again
after any interruption, it goes on where it was, and only measures where all is done (``labs.svg`` shows the first two
studies as two labs).
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from aftertune.core.table import Table
from aftertune.measure.components import predicted
from aftertune.measure.consistency import consistency
from aftertune.measure.consistency_results import Consistency
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.report.document import read_document
from aftertune.report.figures import COLOURS, INK, ROW_INCHES, drawn, plain
from aftertune.result import open_finished

SEEDS, POINTS = 5, 10


def main(given: list[str]) -> int:
    """Run the studies, count, and print; return the exit status of the first command that fails."""
    named = dict(word.split("=", 1) for word in given)
    out, studies = Path(named.get("OUT", "consistency_out")), int(named.get("STUDIES", "30"))
    out.mkdir(parents=True, exist_ok=True)
    (out / "study.yaml").write_text(yaml.safe_dump(study(studies * SEEDS), sort_keys=False))
    aftertune = Path(sys.executable).with_name("aftertune")
    todo = (["organism", out / "organism"], ["run", out / "study.yaml", "--out", out / "run"])
    for words in () if finished(out / "run", studies * SEEDS) else todo:
        status = subprocess.run(
            [aftertune, *words, "-q"], check=False, stdout=subprocess.DEVNULL
        ).returncode
        if status:
            return status
    found = measured(out / "run", studies)
    print("\n".join(lines(found)))
    (out / "labs.svg").write_text(two_labs(found[0], found[1]) if len(found) > 1 else "")
    return 0


def finished(folder: Path, seeds: int) -> bool:
    """Whether a run of so many training seeds and its base has an answer to everything."""
    if not (folder / "result.json").is_file():
        return False
    document = read_document(folder / "result.json")
    return len(document.models) == seeds + 1 and document.result.answered == document.result.jobs


def study(seeds: int) -> dict[str, object]:
    """Return the study of all seeds together."""
    training = {
        "epochs": 3.0,
        "learning_rate": 6e-4,
        "batch_size": 16,
        "max_length": 128,
        "warmup_ratio": 0.05,
        "adam_beta2": 0.98,
    }
    return {
        "name": "crossed",
        "models": [{"name": "base", "reference": "./organism/base"}],
        "fine_tunes": [
            {
                "name": "code", "base": "base", "method": "full", "data": "./organism/data/code.jsonl",
                "training": training, "seeds": list(range(1, seeds + 1)),
            }
        ],
        "prompts": [{"set": "organism", "loader": "organism"}],
        "judges": ["organism", "rules"],
        "decoding": {"temperatures": [0.3, 0.9], "samples": 3, "max_new_tokens": 32},
        "engine": {"threads": 1, "device": "cpu"},
    }  # fmt: skip


def measured(folder: Path, studies: int) -> list[list[Consistency]]:
    """Return the consistency of every study's fine-tune: its overall figure, then its tasks."""
    with open_finished(folder) as run:
        plan, table = run.plan, run.table()
    base, whole = plan.conditions
    found = []
    for number in range(studies):
        seeds = slice(number * SEEDS, (number + 1) * SEEDS)
        condition = replace(
            whole, models=whole.models[seeds], training_seeds=whole.training_seeds[seeds]
        )
        found.append(
            one_study(table, replace(plan, conditions=(base, condition)), (base, condition))
        )
    return found


def one_study(
    table: Table, plan: MeasurePlan, conditions: Sequence[Condition]
) -> list[Consistency]:
    """Measure one study by itself, from its own models' rows."""
    codes = [
        table.names["model"].index(model) for condition in conditions for model in condition.models
    ]
    rows = np.isin(table.columns["model"], codes)
    own = Table(
        columns={name: column[rows] for name, column in table.columns.items()},
        scores={name: column[rows] for name, column in table.scores.items()},
        names=table.names,
    )
    return [entry for entry in consistency(own, plan).entries if entry.base is not None]


def lines(found: list[list[Consistency]]) -> Iterator[str]:
    """Yield how often what one study says of the others is so."""
    yield (
        f"{len(found)} studies of {SEEDS} training seeds, each against all the others ({len(found) * (len(found) - 1)} ordered "
        "pairs a row, which share studies)"
    )
    yield (
        "| | ASR | seed SD, all seeds | means within R | mean within prediction | single seed within prediction | "
        f"two seeds over {POINTS} points apart: said / seen | significant again: said / seen |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for entries in zip(*found, strict=True):
        yield "| " + " | ".join([entries[0].task or "overall", *counted(entries)]) + " |"


def counted(entries: Sequence[Consistency]) -> Iterator[str]:
    """Yield the cells of one task."""
    rates = np.array([entry.seed_rates for entry in entries])
    means = rates.mean(axis=1)
    pairs = [(one, other) for one, other in product(range(len(entries)), repeat=2) if one != other]
    yield f"{100 * rates.mean():.1f} %"
    yield f"{100 * rates.std(ddof=1):.1f}"
    yield share(
        [abs(means[one] - means[other]) <= entries[one].limits.of_means for one, other in pairs]
    )
    yield share([inside(means[other], band(entries[one])) for one, other in pairs])
    yield share(
        [
            inside(rate, entries[one].limits.predicted)
            for one, other in pairs
            for rate in rates[other]
        ]
    )
    said = np.mean([entry.limits.differing[str(POINTS)] for entry in entries])
    apart = (
        np.abs(np.subtract.outer(rates.ravel(), rates.ravel()))[np.triu_indices(rates.size, 1)]
        > POINTS / 100
    )
    yield f"{100 * said:.1f} % / {100 * apart.mean():.1f} %"
    shown = [entry.reproduction.significant for entry in entries]
    again = [shown[other] is not None for one, other in pairs if shown[one] is not None]
    of = [p for p in shown if p is not None]
    yield f"{100 * np.mean(of):.1f} % / {100 * np.mean(again):.1f} %" if of else "none significant"


def two_labs(one: Sequence[Consistency], other: Sequence[Consistency]) -> str:
    """Return a figure of both labs' seeds and means, and of where the first says that the second one's mean will lie."""
    rows = list(enumerate(zip(one, other, strict=True)))

    def draw(axes: Any) -> None:
        for place, (here, there) in rows:
            low, high = (100 * end for end in band(here))
            axes.barh(place, high - low, left=low, height=0.8, color=COLOURS[0], alpha=0.18)
            for entry, colour, shift in ((here, COLOURS[0], -0.15), (there, COLOURS[1], 0.15)):
                rates = [100 * rate for rate in entry.seed_rates]
                axes.plot(
                    rates,
                    [place + shift] * len(rates),
                    "o",
                    markersize=2.5,
                    color=colour,
                    alpha=0.6,
                )
                axes.plot(
                    [sum(rates) / len(rates)], [place + shift], "|", markersize=9, color=colour
                )
            apart = 100 * abs(np.mean(here.seed_rates) - np.mean(there.seed_rates))
            told = f"{apart:.1f} apart, limit {100 * here.limits.of_means:.1f}"
            axes.annotate(
                told,
                (high, place),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
                color=INK,
            )
        axes.set_yticks([place for place, _ in rows], [entry.task or "overall" for entry in one])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        plain(
            axes,
            "ASR, percent; dots: two labs' seeds; band: the other's mean as the first expects it",
        )

    return drawn("two-labs", ROW_INCHES * (len(rows) + 3), draw)


def band(entry: Consistency) -> tuple[float, float]:
    """Return where another lab's mean of as many training seeds lies, 95 %; everywhere where seeds do not differ."""
    found = predicted(entry.rate.estimate, entry.components, entry.components.seeds)
    return found or (0.0, 1.0)


def inside(value: float, limits: tuple[float, float]) -> bool:
    """Whether a value lies within limits."""
    return limits[0] - 1e-12 <= value <= limits[1] + 1e-12


def share(held: Sequence[bool]) -> str:
    """Return a share of true ones in percent."""
    return f"{100 * np.mean(held):.1f} %"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
