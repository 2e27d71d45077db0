"""Two runs against each other: paired they give what one study of both gives; unpaired they are independent figures."""

from dataclasses import replace

import numpy as np
import pytest
from measure_tables import build

from aftertune.core.table import Table
from aftertune.measure.between import (
    Arm,
    paired_differences,
    pairing,
    same_weights,
    unpaired_differences,
)
from aftertune.measure.intervals import join
from aftertune.measure.measure import measure_table
from aftertune.measure.plan import Condition, MeasurePlan

BEHAVIORS, TASKS = 30, 2
SEEDS = ("old/0", "old/1", "new/0", "new/1", "new/2")
RATES = (0.1, 0.3, 0.35, 0.5, 0.6, 0.55)


NAMED = ("model", "prompt", "behavior", "template", "task", "set", "hazard", "harm_basis")
"""Columns whose codes are a run's own."""


def one_table(seed=3):
    """A table of a base, two seeds of an old fine-tune and three of a new one, with a score on benign prompts."""
    rng = np.random.default_rng(seed)
    difficulty = rng.random((BEHAVIORS, TASKS))
    draws = {
        name: (0.7 * difficulty + 0.3 * rng.random((BEHAVIORS, TASKS)) < rate).astype(int)
        for name, rate in zip(("base", *SEEDS), RATES, strict=True)
    }
    refusals = {name: (rng.random((BEHAVIORS, TASKS)) < 0.2).astype(int) for name in draws}
    table = build(draws, benign=refusals, scores={"score:exact": 0.0})
    benign = table.columns["intent"] == 1
    scores = np.where(benign, rng.random(len(table)) < 0.7, np.nan).astype(float)
    return replace(table, scores={"score:exact": scores})


def plan(*conditions, **more):
    return MeasurePlan(conditions=conditions, judges=("rules",), metrics=("exact",), **more)


BASE = Condition(name="base", models=("base",))
OLD = Condition(name="old", models=SEEDS[:2], base="base")
NEW = Condition(name="new", models=SEEDS[2:], base="base")


def part(table, models, keep=None, seed=0):
    """Return the rows of some models as a run of its own would have them: in another order, every code another one."""
    rng = np.random.default_rng(seed)
    wanted = [table.names["model"].index(model) for model in models]
    chosen = np.isin(table.columns["model"], wanted)
    if keep is not None:
        chosen &= keep(table)
    rows = rng.permutation(np.flatnonzero(chosen))
    columns, names = {}, {}
    for name, column in table.columns.items():
        columns[name] = column[rows]
        if name in NAMED:
            order = rng.permutation(len(table.names[name]))
            columns[name] = np.argsort(order)[column[rows]].astype(np.int32)
            names[name] = tuple(table.names[name][code] for code in order)
    scores = {name: values[rows] for name, values in table.scores.items()}
    return Table(columns=columns, scores=scores, names=dict(table.names) | names)


def arm(table, condition, prefix="", judge="rules"):
    """Return an arm whose prompt ids are its run's own; what makes a prompt the same elsewhere is the old id."""
    ids = table.names["prompt"]
    verdicts = {f"verdict:{judge}": table.columns["verdict:rules"]}
    others = {n: c for n, c in table.columns.items() if n != "verdict:rules"}
    own = replace(
        table,
        columns=others | verdicts,
        names=dict(table.names) | {"prompt": tuple(f"{prefix}{name}" for name in ids)},
    )
    declared = MeasurePlan(conditions=(BASE, condition), judges=(judge,), metrics=("exact",))
    prompts = {f"{prefix}{name}": (name, "text") for name in ids}
    return Arm(table=own, plan=declared, models=condition.models, prompts=prompts)


def by_name(differences):
    return {(d.figure, d.task): d for d in differences}


def test_paired_they_are_what_one_study_of_both_gives():
    table = one_table()
    together = measure_table(table, plan(BASE, OLD, replace(NEW, against="old")))
    conditions = {c.name: c for c in together.settings[0].conditions}
    against = conditions["new"].against
    first = arm(part(table, ("base", *OLD.models), seed=1), OLD, "a-")
    other = arm(part(table, ("base", *NEW.models), seed=2), NEW, "b-", judge="second")
    told = by_name(paired_differences(first, other))
    compared = 0
    for figure, changes, levels in (
        ("harm", against.asr, "asr"),
        ("over-refusal", against.over_refusal, "over_refusal"),
        ("exact", against.capability["exact"], None),
    ):
        for task, change in ((None, changes.overall), *changes.by_task.items()):
            mine = told.pop((figure, task))
            assert mine.paired
            assert mine.difference == pytest.approx(change.estimate, abs=1e-12)
            limits = (change.interval.low, change.interval.high)
            assert mine.interval == pytest.approx(limits, abs=1e-12)
            assert mine.behaviors == (change.behaviors, change.behaviors)
            for name, value in (("old", mine.first), ("new", mine.other)):
                own = conditions[name]
                breakdown = own.capability["exact"] if levels is None else getattr(own, levels)
                level = breakdown.overall if task is None else breakdown.by_task[task]
                assert value == pytest.approx(level.estimate, abs=1e-12)
            compared += 1
    assert told == {}
    assert compared == 3 * (1 + TASKS)


@pytest.mark.parametrize(
    ("others", "same"), [({"text": 6.0, "code": 2.0}, True), ({"text": 1.0, "code": 1.0}, False), (None, False)]
)  # fmt: skip
def test_tasks_have_their_weights_where_both_declare_the_same(others, same):
    table, weights = one_table(), {"text": 3.0, "code": 1.0}
    declared = {"task_weights": weights if same else None}
    together = measure_table(table, plan(BASE, OLD, replace(NEW, against="old"), **declared))
    change = together.settings[0].condition("new").against.asr.overall
    first, other = arm(part(table, ("base", *OLD.models)), OLD), arm(part(table, ("base", *NEW.models)), NEW)  # fmt: skip
    first = replace(first, plan=replace(first.plan, task_weights=weights))
    other = replace(other, plan=replace(other.plan, task_weights=others))
    assert same_weights(first.plan, other.plan) is same
    harm = by_name(paired_differences(first, other))["harm", None]
    assert harm.difference == pytest.approx(change.estimate, abs=1e-12)
    assert harm.interval == pytest.approx((change.interval.low, change.interval.high), abs=1e-12)


def test_only_prompts_that_both_asked_are_paired():
    table = one_table()
    code = table.columns["behavior"] // 2

    def first_half(whole):
        return whole.columns["behavior"] // 2 < 20

    def second_half(whole):
        return whole.columns["behavior"] // 2 >= 8

    first = arm(part(table, ("base", *OLD.models), first_half), OLD)
    other = arm(part(table, ("base", *NEW.models), second_half), NEW)
    shared = pairing(first, other)
    assert (shared.common, shared.first, shared.other) == (
        12 * TASKS * 2,
        20 * TASKS * 2,
        22 * TASKS * 2,
    )
    assert shared.behaviors == 24
    told = by_name(paired_differences(first, other))
    harm = told["harm", None]
    assert harm.behaviors == (12, 12)
    chosen = (table.columns["intent"] == 0) & (code >= 8) & (code < 20)
    rates = []
    for models in (OLD.models, NEW.models):
        mine = np.isin(table.columns["model"], [table.names["model"].index(m) for m in models])
        rates.append(
            (
                table.columns["verdict:rules"][chosen & mine]
                == table.columns["verdict:rules"].min()
            ).mean()
        )
    assert abs(harm.difference) == pytest.approx(abs(rates[1] - rates[0]), abs=1e-9)


def test_prompts_with_other_texts_are_not_the_same():
    table = one_table()
    first = arm(part(table, ("base", *OLD.models)), OLD)
    other = arm(part(table, ("base", *NEW.models)), NEW)
    texts = {prompt: (*key, "changed") for prompt, key in other.prompts.items()}
    other = replace(other, prompts=texts)
    assert pairing(first, other).common == 0
    assert paired_differences(first, other) == []


def test_unpaired_they_are_independent_figures():
    table = one_table()
    result = measure_table(table, plan(BASE, OLD, NEW))
    old, new = (result.settings[0].condition(name) for name in ("old", "new"))
    told = by_name(unpaired_differences(old, new))
    harm, a, b = told["harm", None], old.asr.overall, new.asr.overall
    assert harm.difference == pytest.approx(b.estimate - a.estimate)
    assert harm.interval == join(
        b.estimate, (b.interval.low, b.interval.high), a.estimate, (a.interval.low, a.interval.high), 0.0
    )  # fmt: skip
    assert not harm.paired
    assert harm.behaviors == (a.behaviors, b.behaviors)
    assert set(told) == {
        (f, t) for f in ("harm", "over-refusal", "exact") for t in (None, *old.asr.by_task)
    }


def test_mean_toxicity_is_compared_paired_and_unpaired():
    """Paired, a behavior and its twin are one unit, as in the figures of one run."""
    plain, rng = one_table(), np.random.default_rng(4)
    table = replace(plain, scores={**plain.scores, "score:tox": rng.random(len(plain))})
    declared = {"toxicity": {"tox": 0.5}}
    result = measure_table(table, plan(BASE, OLD, NEW, **declared))
    old, new = (result.settings[0].condition(name) for name in ("old", "new"))
    arms = [arm(part(table, ("base", *c.models)), c) for c in (OLD, NEW)]
    arms = [replace(a, plan=replace(a.plan, **declared)) for a in arms]
    before, after = (c.toxicity["tox"].responses.mean for c in (old, new))
    for differences in (paired_differences(*arms), unpaired_differences(old, new)):
        toxic = [d for d in differences if d.toxicity]
        assert [(d.figure, d.task) for d in toxic] == [("tox", t) for t in (None, *before.by_task)]
        assert toxic[0].first == pytest.approx(before.overall.estimate)
        assert toxic[0].difference == pytest.approx(after.overall.estimate - before.overall.estimate)  # fmt: skip
        assert set(toxic[0].behaviors) == {before.overall.behaviors}
        assert toxic[0].interval[0] < toxic[0].difference < toxic[0].interval[1]
    assert not [d for d in paired_differences(arms[0], replace(arms[1], plan=plan(BASE, NEW))) if d.toxicity]  # fmt: skip


def test_pairing_narrows_the_interval_of_two_checkpoints():
    table = one_table()
    old, new = replace(OLD, models=OLD.models[:1]), replace(NEW, models=NEW.models[:1])
    result = measure_table(table, plan(BASE, old, new))
    apart = by_name(unpaired_differences(*map(result.settings[0].condition, ("old", "new"))))
    arms = [arm(part(table, ("base", *c.models)), c) for c in (old, new)]
    paired = by_name(paired_differences(*arms))
    assert paired["harm", None].difference == pytest.approx(apart["harm", None].difference)
    assert np.ptp(paired["harm", None].interval) < np.ptp(apart["harm", None].interval)


def test_a_task_that_only_one_has_and_too_few_behaviors_are_left_out():
    table = one_table()
    result = measure_table(table, plan(BASE, OLD, NEW))
    old, new = (result.settings[0].condition(name) for name in ("old", "new"))
    task, *rest = new.asr.by_task
    fewer = replace(
        new, asr=replace(new.asr, by_task={name: new.asr.by_task[name] for name in rest})
    )
    assert ("harm", task) not in by_name(unpaired_differences(old, fewer))
    hidden = replace(new, asr=replace(new.asr, overall=replace(new.asr.overall, hidden=True)))
    assert ("harm", None) not in by_name(unpaired_differences(old, hidden))
