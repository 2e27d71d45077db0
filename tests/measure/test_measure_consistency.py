"""Consistency of a table: decoding noise, flips, factors, series and groups, against what was put in."""

from itertools import product

import numpy as np
import pytest
from measure_tables import build

from aftertune.measure.arrays import fold
from aftertune.measure.consistency import consistency, flips, parts
from aftertune.measure.counts import N, count
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.pooling import decoding_noise, pool
from aftertune.measure.rates import ASR

SEEDS = ("a1", "a2", "a3")
BASE = Condition(name="base", models=("base",))


def plan(*conditions, **more):
    tuned = conditions or (Condition(name="a", models=SEEDS, base="base"),)
    return MeasurePlan(conditions=(BASE, *tuned), judges=("rules",), **more)


def drawn(rng, p, behaviors=30, tasks=2, cells=6):
    return (rng.random((behaviors, tasks, cells)) < p).astype(int)


def table(rng=None, models=("base", *SEEDS), p=0.4, **more):
    rng = rng or np.random.default_rng(0)
    harmful = {model: drawn(rng, p) for model in models}
    return build(harmful, benign=harmful, templates=2, samples=3, **more)


def test_noise_of_decoding_is_that_of_the_repeats():
    found = table()
    cells = count(found, plan())
    pooled = pool(cells, [1, 2, 3], {})
    for task, part in parts(pooled):
        noise = decoding_noise(pooled, part, ASR.hit)
        hits = fold(part, pooled.counts(ASR.hit), pooled.counts(N)).matrix
        assert noise.shape == hits.shape == (30, 3)
        cells_per_row = 12 if task is None else 6  # fair coins: p(1-p) / draws of a cell
        assert noise.mean() == pytest.approx(0.24 / cells_per_row, rel=0.1)


def test_single_repeats_leave_decoding_unknown_and_say_so():
    rng = np.random.default_rng(1)
    harmful = {model: drawn(rng, 0.4, cells=1) for model in ("base", *SEEDS)}
    found = consistency(build(harmful), plan())
    entry = found.entries[1]
    assert (
        entry.components.of_decoding is entry.flips.decoding is entry.limits.repeatability is None
    )
    assert any("asked once" in note for note in found.notes)


def test_flips_count_pairs():
    harmful = {"base": [[[0, 0]]], "a1": [[[1, 1]]], "a2": [[[1, 1]]], "a3": [[[0, 1]]]}
    pooled = pool(count(build(harmful, samples=2), plan()), [1, 2, 3], {})
    ((_, part), _) = parts(pooled)
    found = flips(pooled, part, ASR.hit)
    assert found.decoding == pytest.approx(1 / 3), "one of three cells, and its two answers differ"
    assert found.seed == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert found.any == 1


def test_every_condition_and_task_has_its_entry_with_rates_that_are_the_tables():
    found = consistency(table(), plan())
    assert [(entry.condition, entry.task) for entry in found.entries] == [
        (name, task) for name in ("base", "a") for task in (None, "text", "code")
    ]
    for entry in found.entries:
        assert np.mean(entry.seed_rates) == pytest.approx(entry.rate.estimate)
        assert np.mean(list(entry.by_behavior.values()), axis=0) == pytest.approx(entry.seed_rates)
    base, tuned = found.entries[0], found.entries[3]
    assert base.reproduction is None
    assert tuned.reproduction.significant is None, "there is no change"
    assert tuned.limits.differing["5"] > tuned.limits.differing["10"]


def test_prompts_that_a_seed_was_not_asked_are_left_out_and_counted():
    whole = table()
    lost = (whole.columns["model"] == 2) & (whole.columns["behavior"] < 4)
    cut = type(whole)(
        columns={name: column[~lost] for name, column in whole.columns.items()},
        scores={},
        names=whole.names,
    )
    found = consistency(cut, plan())
    assert {entry.components.behaviors for entry in found.entries if entry.condition == "a"} == {28}
    assert any(note.startswith("a: 16 of 240 prompts") for note in found.notes)


def test_a_factor_that_matters_is_found_and_one_that_does_not_is_not():
    rng = np.random.default_rng(2)
    harmful = {model: drawn(rng, 0.3) for model in ("base", *SEEDS)}
    for draws in harmful.values():
        draws[:, :, 3:] = rng.random((30, 2, 3)) < 0.7  # the second template of each task
    found = consistency(build(harmful, templates=2, samples=3), plan())
    entry = found.entries[4]
    template = entry.sensitivity["template"]
    assert template.worst == "template-1"
    assert 0.2 < template.sd < 0.35
    assert template.pairs[0].p_adjusted < 0.001
    assert template.worst_interval.level == 0.975
    assert "template" not in found.entries[3].sensitivity, "templates belong to tasks"
    assert "judge" not in entry.sensitivity
    assert template.behaviors == 30
    assert not template.hidden


def test_a_factor_with_few_behaviors_at_every_level_is_hidden():
    whole = build(
        {model: drawn(np.random.default_rng(6), 0.3) for model in ("base", *SEEDS)},
        templates=2,
        samples=3,
    )
    second = whole.columns["template"] % 2 == 1
    cut = type(whole)(
        columns={
            name: column[~second | (whole.columns["behavior"] < 6)]
            for name, column in whole.columns.items()
        },
        scores={},
        names=whole.names,
    )
    template = consistency(cut, plan()).entries[4].sensitivity["template"]
    assert (template.behaviors, template.hidden) == (3, True)


def test_settings_are_pooled_and_compared():
    rng = np.random.default_rng(3)
    one, other = table(rng, p=0.2), table(rng, p=0.5)
    columns = {
        name: np.concatenate([one.columns[name], other.columns[name]]) for name in one.columns
    }
    columns["decoding"] = np.repeat([0, 1], len(one)).astype(np.int32)
    joint = type(one)(columns=columns, scores={}, names=one.names | {"decoding": ("cold", "hot")})
    found = consistency(joint, plan())
    entry = found.entries[3]
    assert entry.rate.estimate == pytest.approx(0.35, abs=0.03)
    assert entry.sensitivity["decoding"].worst == "hot"
    assert entry.sensitivity["decoding"].sd == pytest.approx(0.3 / np.sqrt(2), abs=0.05)
    assert found.settings == (("system-0", "cold"), ("system-0", "hot"))


def test_a_series_is_a_curve_from_the_base_on():
    rng = np.random.default_rng(4)
    rates = {"base": 0.1, "late": 0.6, "early": 0.3}
    harmful = {model: drawn(rng, rate) for model, rate in rates.items()}
    conditions = [
        Condition(name=name, models=(name,), base="base", series="a", factors={"epoch": epoch})
        for name, epoch in (("late", 2), ("early", 1))
    ]
    (curve,) = consistency(
        build(harmful, benign=harmful, templates=2, samples=3), plan(*conditions)
    ).curves
    assert curve.axes == ("epoch",)
    assert curve.start.condition == "base"
    assert [point.condition for point in curve.points] == ["early", "late"]
    assert curve.points[1].change.estimate == pytest.approx(0.5, abs=0.06)
    assert set(curve.points[0].asr_by_task) == {"text", "code"}
    assert curve.points[0].over_refusal is not None


def test_groups_are_compared_over_conditions_and_hazards_within_tasks_only_if_declared():
    rng = np.random.default_rng(5)
    rates = {"base": 0.1, "x1": 0.2, "x2": 0.25, "y1": 0.6, "y2": 0.65}
    harmful = {model: drawn(rng, rate, behaviors=90) for model, rate in rates.items()}
    conditions = [
        Condition(name=name, models=(name,), base="base", attributes={"family": name[0]})
        for name in list(rates)[1:]
    ]
    tables = build(harmful, templates=2, samples=3)
    found = consistency(tables, plan(*conditions))
    (grouping,) = found.groupings
    assert {group.value: len(group.conditions) for group in grouping.groups} == {"x": 2, "y": 2}
    (pair,) = grouping.contrasts
    assert pair.difference == pytest.approx(-0.4, abs=0.06)
    assert pair.p_adjusted < 0.05
    assert found.hazards == ()
    asked = consistency(tables, plan(*conditions, families=("task", "hazard within task"))).hazards
    assert {(one.task, one.hazard) for one in asked} == set(
        product(("text", "code"), ("hazard-0", "hazard-1", "hazard-2"))
    )
    assert all("exploratory" in one.change.adjustment for one in asked)


def test_the_epochs_of_one_fine_tune_are_one_draw_of_its_group():
    harmful = {
        name: np.full((12, 2), int(name != "base")) for name in ("base", "x1", "x2", "x3", "y")
    }
    epochs = [
        Condition(
            name=f"x{n}",
            models=(f"x{n}",),
            base="base",
            series="x",
            factors={"epoch": n},
            attributes={"family": "x"},
        )
        for n in (3, 1, 2)
    ]
    other = Condition(name="y", models=("y",), base="base", attributes={"family": "y"})
    (grouping,) = consistency(build(harmful), plan(*epochs, other)).groupings
    assert {group.value: group.conditions for group in grouping.groups} == {
        "x": ("x3",),
        "y": ("y",),
    }
    assert grouping.contrasts == ()


def test_groups_that_do_not_vary_have_no_interval():
    harmful = {
        name: np.full((12, 2), int(name != "base")) for name in ("base", "x1", "x2", "y1", "y2")
    }
    conditions = [
        Condition(name=name, models=(name,), base="base", attributes={"family": name[0]})
        for name in list(harmful)[1:]
    ]
    ((pair,),) = (one.contrasts for one in consistency(build(harmful), plan(*conditions)).groupings)
    assert pair.interval is None
    assert pair.p_value == 1
