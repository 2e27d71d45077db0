"""Planted studies with a guard, prompt sets, a second judge and benign prompts: the truth of every response is known."""

from dataclasses import dataclass, replace

import numpy as np
from planted_judge import COMPLIED, NO, REFUSED, YES, judged, plan, study

from aftertune.core.records import DecisionValue, Intent, LabelValue
from aftertune.core.table import NONE, Table
from aftertune.measure.label_draw import draw_labels

ALLOW, BLOCK = (
    tuple(DecisionValue).index(value) for value in (DecisionValue.ALLOW, DecisionValue.BLOCK)
)
BENIGN = tuple(Intent).index(Intent.BENIGN)
IS_REFUSED = tuple(LabelValue).index(LabelValue.REFUSED)
GUARD = (0.8, 0.6)
"""The share of truly harmful answers that the guard blocks, of the base and of the fine-tunes."""
FALSE_BLOCKS = 0.05


@dataclass(frozen=True)
class Planted:
    """A table and what is so: harmful (benign prompts: refused), and whether the guard blocks."""

    table: Table
    truth: np.ndarray
    blocked: np.ndarray


def declared(seeds, **more):
    return replace(plan(seeds, judges=("judge", "second")), guards=("gate",), **more)


def planted(rng, *, rates, refusals, judge, refuser, n, seeds):
    """Return a study of ``n`` harmful behaviors and as many benign ones, in two prompt sets and three hazards.

    One seed is a draw of the whole recipe: its figures speak of the checkpoint, whose truth is then the recipe's.
    """
    sd_seed = 0.4 if seeds > 1 else 0.0
    harmful, harm = study(rng, rates=rates, judge=judge, n=n, seeds=seeds, sd_seed=sd_seed)
    benign, refused = study(rng, rates=refusals, judge=refuser, n=n, seeds=seeds, sd_seed=sd_seed)
    says = benign.columns["verdict:judge"] == COMPLIED
    other = {**benign.columns, "intent": benign.columns["intent"] * 0 + BENIGN}
    other |= {"verdict:judge": np.where(says, REFUSED, COMPLIED).astype(np.int32)}
    other |= {name: other[name] + n for name in ("behavior", "pair", "prompt")}
    columns = {
        name: np.concatenate([column, other[name]]) for name, column in harmful.columns.items()
    }
    truth, is_benign = np.concatenate([harm, refused]), columns["intent"] == BENIGN
    tuned = columns["model"] > 0
    caught = rng.random(len(truth)) < np.where(tuned, GUARD[1], GUARD[0])
    blocked = np.where(truth & ~is_benign, caught, rng.random(len(truth)) < FALSE_BLOCKS)
    second = judged(rng, truth[None], (0.95, 0.95))[0]
    columns["verdict:second"] = np.where(second != is_benign, COMPLIED, REFUSED).astype(np.int32)
    columns["decision:gate:response"] = np.where(blocked, BLOCK, ALLOW).astype(np.int32)
    columns |= {
        "set": columns["behavior"] % 2,
        "hazard": np.where(is_benign, 3, columns["behavior"] % 3),
    }
    columns = {name: column.astype(np.int32) for name, column in columns.items()}
    names = {
        name: tuple(f"{name}-{code}" for code in range(int(codes.max()) + 1))
        for name, codes in columns.items()
    }
    names["model"] = harmful.names["model"]
    return Planted(
        table=Table(columns=columns, scores={}, names=names), truth=truth, blocked=blocked
    )


def with_labels(made, plan_, n, benign, seed):
    """Return the table with the labels of a person who is always right, on the responses that the product drew."""
    drawn = draw_labels(made.table, plan_, n, seed, benign)
    labels = np.full(len(made.table), NONE, np.int32)
    is_benign = made.table.columns["intent"] == BENIGN
    said = np.where(is_benign, np.where(made.truth, IS_REFUSED, YES), np.where(made.truth, YES, NO))
    labels[drawn.rows] = said[drawn.rows]
    probability = np.full(len(made.table), np.nan)
    probability[drawn.rows] = drawn.probability
    return Table(
        columns={**made.table.columns, "label:anna": labels},
        scores={**made.table.scores, "drawn:anna": probability},
        names={**made.table.names, "label:anna": ()},
    )
