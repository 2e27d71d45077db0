"""Recompute the main figures of a run from its Parquet export, with numpy and pyarrow: nothing of Aftertune is imported.

    aftertune export RUN --to parquet -o answers.parquet
    python examples/recompute.py answers.parquet

Prints JSON: for each setting and condition the rates of harmful and of refused responses, overall and by task, and their
changes against the base on the prompts that both were asked. Responses are averaged inside a behavior first, then
behaviors inside a task, tasks, training seeds. Changes of a single checkpoint have the 95 % interval of result.json too.
"""

import json
import math
import sys
from statistics import NormalDist

import numpy as np
import pyarrow.parquet as pq

SIDES = {"asr": ("harmful", "harmful"), "over_refusal": ("benign", "over-refused")}
"""Figure -> the intent of its prompts, and the outcome that it counts."""
Z = NormalDist().inv_cdf(0.975)


def t_quantile(df):
    """Return the upper 2.5 % quantile of Student's t: with t = sqrt(df) tan(x) its density is proportional to cos(x)^(df - 1)."""
    x = np.linspace(-np.pi / 2, np.pi / 2, 400_001)[1:-1]
    share = np.cumsum(np.cos(x) ** (df - 1))
    return math.sqrt(df) * math.tan(np.interp(0.975, (share - share[0] / 2) / share[-1], x))


def cells(rows, models):
    """Return the mean of each behavior in each task under each model: behaviors x tasks x models, NaN where it was not asked."""
    places = [sorted({row[key] for row in rows}) for key in ("behavior", "task")] + [models]
    hits, n = np.zeros((2, *map(len, places)))
    index = [{name: number for number, name in enumerate(names)} for names in places]
    for row in rows:
        place = index[0][row["behavior"]], index[1][row["task"]], index[2][row["model"]]
        hits[place] += row["hit"]
        n[place] += 1
    with np.errstate(invalid="ignore"):
        return hits / n, int(hits.sum()), int(n.sum())


def wilson(p, n):
    """Return Wilson's score interval of a share."""
    middle, shrink = (p + Z * Z / (2 * n)), 1 + Z * Z / n
    half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return (0.0 if p <= 0 else (middle - half) / shrink), (
        1.0 if p >= 1 else (middle + half) / shrink
    )


def effective(rows, responses):
    """Return the number of independent draws whose mean would vary as much (Korn and Graubard 1998)."""
    p, variance, ratio = rows.mean(), rows.var(ddof=1) / len(rows), Z / t_quantile(len(rows) - 1)
    if not (0 < p < 1 and variance > 1e-20):
        return max(1.0, min(len(rows), responses) * ratio**2)
    return max(1.0, min(p * (1 - p) / variance, responses) * ratio**2)


def interval(tuned, base, responses):
    """Return the 95 % interval of a paired change (MOVER; Newcombe's method 10 where a row is one response)."""
    p, q, n = tuned.mean(), base.mean(), len(tuned)
    spread = math.sqrt(tuned.var() * base.var())
    r = ((tuned - p) * (base - q)).mean() / spread if spread > 1e-15 else 0.0
    if responses == n and r > 0:
        a, b, c = (tuned * base).sum(), (tuned * (1 - base)).sum(), ((1 - tuned) * base).sum()
        r = max(a * (n - a - b - c) - b * c - n / 2, 0.0) / (n * n * spread)
    sizes = (n, n) if responses == n else (effective(tuned, responses), effective(base, responses))
    (low1, high1), (low0, high0) = wilson(p, sizes[0]), wilson(q, sizes[1])
    down = (p - low1) ** 2 - 2 * r * (p - low1) * (high0 - q) + (high0 - q) ** 2
    up = (high1 - p) ** 2 - 2 * r * (high1 - p) * (q - low0) + (q - low0) ** 2
    return [max(p - q - math.sqrt(max(down, 0)), -1.0), min(p - q + math.sqrt(max(up, 0)), 1.0)]


def rate(rows):
    """Return a rate with its counts."""
    means, k, n = cells(rows, sorted({row["model"] for row in rows}))
    return {"estimate": float(np.nanmean(np.nanmean(means, axis=0), axis=0).mean()), "k": k, "n": n}


def change(tuned, base):
    """Return the change between two conditions on the prompts that all their models were asked."""
    asked = [
        {r["prompt_id"] for r in arm if r["model"] == m}
        for arm in (tuned, base)
        for m in {r["model"] for r in arm}
    ]
    common = set.intersection(*asked)
    tuned, base = ([row for row in arm if row["prompt_id"] in common] for arm in (tuned, base))
    if not common:
        return None
    after, before = rate(tuned), rate(base)
    told = {"estimate": after["estimate"] - before["estimate"], "tuned": after, "base": before}
    arms = [cells(arm, sorted({row["model"] for row in arm}))[0] for arm in (tuned, base)]
    if arms[0].shape[2] == 1 and not any(np.isnan(arm).any() for arm in arms) and len(arms[0]) > 1:
        told["interval"] = interval(*(arm[:, :, 0].mean(axis=1) for arm in arms), after["n"])
    return told


def by_task(function, *arms):
    """Return a figure overall and by task."""
    tasks = sorted({row["task"] for row in arms[0]})
    split = {
        task: function(*([row for row in arm if row["task"] == task] for arm in arms))
        for task in tasks
    }
    return {"overall": function(*arms), "by_task": split}


def main(path):
    """Print the figures of a file."""
    names = [
        "model",
        "condition",
        "base",
        "prompt_id",
        "behavior",
        "task",
        "intent",
        "attack",
        "system",
        "decoding",
        "outcome",
    ]
    rows, told = pq.read_table(path, columns=names).to_pylist(), {}
    rows = [
        row for row in rows if row["attack"] == "none"
    ]  # rates under attacks are figures of their own
    home = {row["model"]: row["condition"] for row in rows}
    for setting in sorted({(row["system"], row["decoding"].split(" seed=")[0]) for row in rows}):
        here = [
            row for row in rows if (row["system"], row["decoding"].split(" seed=")[0]) == setting
        ]
        of_setting = told.setdefault(" | ".join(setting), {})
        for condition in dict.fromkeys(row["condition"] for row in here):
            base = {
                home[row["base"]] for row in here if row["condition"] == condition and row["base"]
            }
            for figure, (intent, outcome) in SIDES.items():
                asked = [
                    {**row, "hit": row["outcome"] == outcome}
                    for row in here
                    if row["intent"] == intent
                ]
                own, was = (
                    [row for row in asked if row["condition"] in names]
                    for names in ({condition}, base)
                )
                figures = of_setting.setdefault(condition, {})
                if own:
                    figures[figure] = by_task(rate, own)
                if own and was:
                    figures[f"{figure}_change"] = by_task(change, own, was)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
