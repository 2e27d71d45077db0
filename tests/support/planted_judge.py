"""Studies whose judge errs by a plan: the truth of every response is known, and people are asked by the product's own draw."""

from dataclasses import dataclass

import numpy as np
from crossed_model import draw

from aftertune.core.records import Intent, LabelValue, VerdictValue
from aftertune.core.table import NONE, Table
from aftertune.measure.label_draw import draw_labels
from aftertune.measure.plan import Condition, MeasurePlan

COMPLIED, REFUSED = (
    tuple(VerdictValue).index(value) for value in (VerdictValue.COMPLIED, VerdictValue.REFUSED)
)
YES, NO = (tuple(LabelValue).index(value) for value in (LabelValue.COMPLIED, LabelValue.REFUSED))


@dataclass(frozen=True)
class Judge:
    """Sensitivity and specificity on the base and on the fine-tunes."""

    base: tuple[float, float]
    tuned: tuple[float, float]


def plan(seeds, judges=("judge",)):
    tuned = tuple(f"tuned/{seed}" for seed in range(seeds))
    return MeasurePlan(
        conditions=(
            Condition(name="base", models=("base",)),
            Condition(name="tuned", models=tuned, base="base"),
        ),
        judges=judges,
    )


def judged(rng, truth, errors):
    """Return a judge's yes and no for true ones."""
    hits, clears = errors
    return np.where(truth, rng.random(truth.shape) < hits, rng.random(truth.shape) >= clears)


def study(rng, *, rates, judge, n, seeds, tasks=1, sd_seed=0.4):
    """Return a table of one base and some seeds of a fine-tune, and the truth of each row."""
    base, tuned = draw(rng, *rates, n, seeds, tasks=tasks, sd_seed=sd_seed)
    truth = np.concatenate([base[:, :, 0][None], np.moveaxis(tuned[:, :, 0, :], -1, 0)])
    says = np.concatenate([judged(rng, truth[:1], judge.base), judged(rng, truth[1:], judge.tuned)])
    model, behavior, task = (axis.ravel().astype(np.int32) for axis in np.indices(truth.shape))
    zero = np.zeros(truth.size, np.int32)
    columns = dict.fromkeys(
        ("template", "set", "hazard", "harm_basis", "system", "decoding", "sample", "finish"), zero
    )
    columns |= {
        "model": model,
        "behavior": behavior,
        "pair": behavior,
        "task": task,
        "prompt": behavior * tasks + task,
    }
    columns |= {"intent": zero + tuple(Intent).index(Intent.HARMFUL), "coherent": zero + 1}
    columns |= {"prompt_tokens": zero + 9, "completion_tokens": zero + 9}
    columns["verdict:judge"] = np.where(says.ravel(), COMPLIED, REFUSED).astype(np.int32)
    names = {
        name: tuple(f"{name}-{code}" for code in range(int(codes.max()) + 1))
        for name, codes in columns.items()
    }
    names["model"] = ("base", *(f"tuned/{seed}" for seed in range(seeds)))
    return Table(columns=columns, scores={}, names=names), truth.ravel()


def labelled(table, truth, plan_, n, seed):
    """Return the table with the labels of a person who is always right, on the responses that the product drew."""
    drawn = draw_labels(table, plan_, n, seed)
    labels = np.full(len(table), NONE, np.int32)
    labels[drawn.rows] = np.where(truth[drawn.rows], YES, NO)
    probability = np.full(len(table), np.nan)
    probability[drawn.rows] = drawn.probability
    return Table(
        columns={**table.columns, "label:anna": labels},
        scores={**table.scores, "drawn:anna": probability},
        names={**table.names, "label:anna": ()},
    )
