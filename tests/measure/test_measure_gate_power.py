"""The chances of a gate's verdicts before anything is asked: through the gate's own lines, against independent draws."""

import numpy as np
import pytest
from measure_tables import build

from aftertune.measure.gate import gate
from aftertune.measure.gate_power import (
    Losses,
    Quantity,
    World,
    crossed,
    gate_power,
    lines_of,
    verdict_on,
    verdicts,
)
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.power import Assumptions, assumed_spread, location, slope
from aftertune.measure.results import GateVerdict, Side

ALPHA, MARGINS = 0.05, (0.05, 0.10)


def both_sides(n, tasks=1, answers=1, losses=(0.1, 0.05), margins=MARGINS):
    return [
        crossed(side, name, margins, (n, tasks, answers), loss)
        for side, name, loss in zip(
            (Side.HARM, Side.OVER_REFUSAL), ("ASR", "over-refusal rate"), losses, strict=True
        )
    ]


def power_of(quantities, seeds=1, **assumed):
    return gate_power(
        quantities, World(assumed=Assumptions(**assumed), seeds=seeds), ALPHA, 10, 0.8
    )


@pytest.mark.parametrize(
    ("tasks", "seeds", "answers", "rates"),
    [
        (1, 1, 1, (0.05, 0.05)),
        (1, 1, 1, (0.05, 0.5)),
        (2, 1, 1, (0.3, 0.4)),
        (4, 3, 1, (0.05, 0.3)),
        (2, 3, 2, (0.05, 0.5)),
    ],
)
def test_the_lines_and_the_verdicts_are_those_of_the_gate(tasks, seeds, answers, rates):
    rng, n = np.random.default_rng([tasks, seeds]), 80
    names = ["base", *(f"tuned-{number}" for number in range(seeds))]
    hits = [
        {
            name: rng.random((n, tasks, answers)) < (before if name == "base" else after)
            for name in names
        }
        for before, after in ((rates[0], rates[1]), (0.1, 0.1))
    ]
    plan = MeasurePlan(
        conditions=(
            Condition(name="base", models=("base",)),
            Condition(name="tuned", models=tuple(names[1:]), base="base"),
        ),
        judges=("rules",),
    )
    result = gate(build(hits[0], benign=hits[1], samples=answers), plan, "base", "tuned")
    quantities = both_sides(n, tasks, answers)
    losses = [
        Losses(
            base=of_side["base"].sum(axis=2).reshape(-1, 1).astype(float),
            tuned=np.stack(
                [of_side[name].sum(axis=2).ravel().astype(float) for name in names[1:]], axis=1
            ),
        )
        for of_side in hits
    ]
    lines = {
        quantity.name: list(lines_of(quantity, list(quantity.parts()), drawn))
        for quantity, drawn in zip(quantities, losses, strict=True)
    }
    for side, of_quantity in zip(result.sides, lines.values(), strict=True):
        assert [line.lower - line.margin for line in side.lines] == [
            line.excess(ALPHA) for line in of_quantity
        ]
        assert [line.passes for line in side.lines] == [line.passes(ALPHA) for line in of_quantity]
    assert [side.verdict for side in result.sides] == list(verdicts(lines, ALPHA).values())
    assert result.verdict is verdict_on(quantities, losses, ALPHA)


def test_answers_are_drawn_with_the_assumed_rates_and_spread():
    quantity = crossed(Side.HARM, "ASR", MARGINS, (4000, 2, 2), 0.1)
    world = World(assumed=Assumptions(), seeds=3)
    rng = np.random.default_rng(1)
    draws = [world.draw(rng, quantity) for _ in range(12)]
    arms = [draw.losses(quantity, (0.2, 0.3), world.sd) for draw in draws]
    n = quantity.answers[:, None]
    base, tuned = (
        np.mean([(arm / n).reshape(4000, 2, -1).mean(axis=(0, 2)) for arm in of_model], axis=0)
        for of_model in zip(*((losses.base, losses.tuned) for losses in arms), strict=True)
    )
    assert base == pytest.approx([0.1, 0.1], abs=0.005)
    assert tuned == pytest.approx([0.2, 0.3], abs=0.03)
    alone = World(assumed=Assumptions(), seeds=1)
    losses = alone.draw(rng, quantity).losses(quantity, (0.2, 0.2), alone.sd)
    change = ((losses.tuned - losses.base) / n).reshape(4000, 2).mean(axis=1)
    spread = assumed_spread(Assumptions(), tasks=2, samples=2, base_samples=2)
    assert change.var() == pytest.approx(spread.behaviors + spread.both, rel=0.1)


def test_the_slope_turns_the_spread_of_a_rate_into_that_of_its_logit():
    grown = 1e-4 / (location(0.2, 2.1) - location(0.1999, 2.1))
    assert slope(0.2, 2.1) == pytest.approx(grown, rel=1e-3)


def test_a_spotless_base_passes_from_the_smallest_design_on():
    few, enough = (power_of(both_sides(n, tasks=2, losses=(1e-5, 1e-5))) for n in (53, 54))
    assert few.passes < 0.05
    assert enough.passes > 0.95
    assert few.spotless == enough.enough == 54
    assert 54 <= few.enough <= 57


def test_chances_rise_with_the_numbers_and_come_out_again():
    few, many = (power_of(both_sides(n)) for n in (100, 600))
    assert few == power_of(both_sides(100))
    for fewer, more in zip(few.quantities, many.quantities, strict=True):
        assert fewer.passes < more.passes
        assert 0.05 < more.smallest_change < fewer.smallest_change
    assert few.passes <= min(quantity.passes for quantity in few.quantities)
    assert few.enough > 100


def test_the_smallest_change_and_the_number_that_is_enough_hold_in_other_draws():
    power = power_of(both_sides(120))
    rng, world, replicates = np.random.default_rng(5), World(assumed=Assumptions(), seeds=1), 150

    def share(n, rates, wanted):
        quantities, hits = both_sides(n), 0
        for _ in range(replicates):
            losses = [
                world.draw(rng, quantity).losses(quantity, (rate,), world.sd)
                for quantity, rate in zip(quantities, rates, strict=True)
            ]
            hits += verdict_on(quantities, losses, ALPHA) is wanted
        return hits / replicates

    risen = 0.1 + power.quantities[0].smallest_change
    assert share(120, (risen, 0.05), GateVerdict.FAIL) == pytest.approx(0.8, abs=0.15)
    assert share(power.enough, (0.1, 0.05), GateVerdict.PASS) == pytest.approx(0.8, abs=0.15)


def test_without_twins_or_with_few_behaviors_nothing_passes():
    alone = power_of(both_sides(200, losses=(1e-5, 1e-5))[:1])
    assert (alone.passes, alone.enough, alone.decides_safety) == (0.0, None, False)
    few = power_of(both_sides(9, losses=(1e-5, 1e-5), margins=(0.4, 0.4)))
    assert few.passes == 0.0


def test_training_seeds_that_differ_keep_a_pass_away_whatever_the_number():
    apart = power_of(both_sides(100, losses=(0.2, 0.2)), seeds=2, seed_sd=0.08)
    assert apart.enough is None
    assert power_of(both_sides(100), seeds=3, seed_sd=1e-6).enough is not None


def test_a_base_without_room_never_passes():
    full = power_of(both_sides(100, losses=(0.97, 0.05)))
    assert full.passes < 0.05
    assert full.enough is None
    assert full.quantities[0].smallest_change is None


def test_another_size_keeps_the_tasks_of_the_behaviors():
    uneven = Quantity(
        side=Side.HARM,
        name="ASR",
        margin=0.05,
        task_margin=0.1,
        behavior=np.array([0, 0, 1]),
        task=np.array([0, 1, 1]),
        answers=np.array([1, 2, 3]),
        losses=(0.1, 0.2),
    )
    larger = uneven.of_size(5)
    assert larger.behavior.tolist() == [0, 0, 1, 2, 2, 3, 4, 4]
    assert larger.task.tolist() == [0, 1, 1, 0, 1, 1, 0, 1]
    assert larger.answers.tolist() == [1, 2, 3, 1, 2, 3, 1, 2]
    assert uneven.loss == pytest.approx(0.15)
