"""Figures under attacks: golden values of the change of the change and of the worst attack, and its coverage."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from measure_tables import build, incoherent
from scipy.stats import t

from aftertune.core.table import Table
from aftertune.measure.attacks import Candidate, measure_attacks, worst_of
from aftertune.measure.contrasts import MeanT
from aftertune.measure.crossed import two_way
from aftertune.measure.intervals import holm, wilson
from aftertune.measure.noise import run_variance, wider
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.results import CHANGE_OF_CHANGE, SHARE

PLAN = MeasurePlan(
    conditions=(Condition(name="base", models=("base",)), Condition(name="tuned", models=("s1", "s2"), base="base")),
    judges=("rules",),
    min_cell=5,
)  # fmt: skip
RNG = np.random.default_rng(5)
# behaviors x tasks x samples of yes and no, by attack and model
ANSWERS = {
    attack: {
        model: (RNG.random((12, 2, 2)) < rate).astype(int)
        for model, rate in zip(("base", "s1", "s2"), rates, strict=True)
    }
    for attack, rates in {"none": (0.1, 0.2, 0.3), "first": (0.3, 0.7, 0.8), "second": (0.2, 0.3, 0.4)}.items()
}  # fmt: skip


def joined(**tables):
    """Put the tables of several attacks into one; their behaviors are the same, their prompts are not."""
    columns, size, prompts = {}, 0, ()
    for code, table in enumerate(tables.values()):
        own = dict(table.columns)
        own["prompt"] = own["prompt"] + size
        own["attack"] = np.full(len(table), code, np.int32)
        size += len(table.names["prompt"])
        prompts += tuple(f"{name}-{code}" for name in table.names["prompt"])
        columns = {name: [*columns.get(name, ()), column] for name, column in own.items()}
    names = {**next(iter(tables.values())).names, "attack": tuple(tables), "prompt": prompts}
    return Table(
        columns={name: np.concatenate(parts) for name, parts in columns.items()},
        scores={},
        names=names,
    )


def table(answers=None, benign=None):
    asked = partial(build, samples=2, benign=benign, answers=answers)
    return joined(**{attack: asked(models) for attack, models in ANSWERS.items()})


def test_the_change_of_the_change_is_the_two_way_t_of_the_contrast():
    (setting,) = measure_attacks(table(), PLAN)
    own = {
        attack: {model: values.mean(axis=(1, 2)) for model, values in models.items()}
        for attack, models in ANSWERS.items()
    }

    def contrast(attack, seed):
        return (own[attack][seed] - own[attack]["base"]) - (own["none"][seed] - own["none"]["base"])

    assert setting.attacks == ("first", "second")
    p_values = {}
    for attack in setting.attacks:
        x = np.stack([contrast(attack, seed) for seed in ("s1", "s2")], axis=1)
        change = setting.condition("tuned").attacks[attack].change_of_change.overall
        assert change.estimate == pytest.approx(x.mean())
        # Written out anew: mean squares of the layout, Satterthwaite's df, and the floor for few seeds.
        n, s = x.shape
        rows, columns = x.mean(axis=1), x.mean(axis=0)
        msp = s * rows.var(ddof=1)
        mss = n * columns.var(ddof=1)
        rest = x - rows[:, None] - columns + x.mean()
        msi = (rest**2).sum() / ((n - 1) * (s - 1))
        total = max(msp + mss - msi, msp, mss)
        df = total**2 / (msp**2 / (n - 1) + mss**2 / (s - 1) + msi**2 / ((n - 1) * (s - 1)))
        half = t.ppf(0.975, min(max(df, 1.0), n - 1)) * np.sqrt(total / (n * s))
        beyond = max(0.0, mss - 0.25 * msi)
        least = np.sqrt((t.ppf(0.975, 1) ** 2 * beyond + 1.959964**2 * msp) / (n * s))
        half = max(half, least)
        assert change.interval.low == pytest.approx(max(-2, x.mean() - half), abs=1e-6)
        assert change.interval.high == pytest.approx(min(2, x.mean() + half), abs=1e-6)
        p_values[attack] = change.p_value
        assert change.adjustment == "Holm over attacks"
    adjusted = [
        setting.condition("tuned").attacks[name].change_of_change.overall.p_adjusted
        for name in setting.attacks
    ]
    assert adjusted == pytest.approx(holm(list(p_values.values())))


def test_rates_and_changes_under_an_attack_are_those_of_its_own_rows():
    (setting,) = measure_attacks(table(benign=ANSWERS["second"]), PLAN)
    tuned = setting.condition("tuned").attacks["first"]
    yes = sum(ANSWERS["first"][seed].sum() for seed in ("s1", "s2"))
    assert (tuned.asr.overall.k, tuned.asr.overall.n) == (yes, 2 * 48)
    assert set(tuned.asr.by_task) == {"text", "code"}
    change = (
        np.mean([ANSWERS["first"][s].mean() for s in ("s1", "s2")])
        - ANSWERS["first"]["base"].mean()
    )
    assert tuned.asr_change.overall.estimate == pytest.approx(change)
    effect = (
        change
        + ANSWERS["first"]["base"].mean()
        - np.mean([ANSWERS["none"][s].mean() for s in ("s1", "s2")])
    )
    assert tuned.effect.overall.estimate == pytest.approx(effect)
    assert tuned.over_refusal.overall.estimate == pytest.approx(
        np.mean([ANSWERS["second"][s].mean() for s in ("s1", "s2")])
    )
    base = setting.condition("base").attacks["first"]
    assert (base.asr_change, base.change_of_change) == (None, None)


def test_unsure_responses_widen_the_bounds_and_not_the_estimate():
    plain = measure_attacks(table(), PLAN)[0].condition("tuned").attacks["first"]

    def babble(_model, intent, row):
        # safe answers of the third behavior, everywhere
        if intent == 0 and row["behavior"] == 4 and row["verdict:rules"] == 1:
            incoherent(row)

    unsure = measure_attacks(table(babble), PLAN)[0].condition("tuned").attacks["first"]
    before, after = plain.change_of_change.overall, unsure.change_of_change.overall
    assert after.estimate == pytest.approx(before.estimate)
    shares = {
        attack: [(1 - ANSWERS[attack][model][2]).mean() / 12 for model in ("base", "s1", "s2")]
        for attack in ANSWERS
    }
    raised = np.mean(shares["first"][1:]) + shares["none"][0]
    lowered = shares["first"][0] + np.mean(shares["none"][1:])
    assert after.bounds == pytest.approx((before.estimate - lowered, before.estimate + raised))


def test_behaviors_that_an_attack_lacks_are_left_out_of_both_sides():
    few = build({model: values[:8] for model, values in ANSWERS["first"].items()}, samples=2)
    whole = build(ANSWERS["none"], samples=2)
    few = replace(few, names={**few.names, "behavior": whole.names["behavior"]})
    (setting,) = measure_attacks(joined(none=whole, first=few), PLAN)
    effect = setting.condition("base").attacks["first"].effect.overall
    assert effect.behaviors == 8
    expected = ANSWERS["first"]["base"][:8].mean() - ANSWERS["none"]["base"][:8].mean()
    assert effect.estimate == pytest.approx(expected)


def test_a_change_of_the_change_may_be_above_one():
    # Without attack the fine-tune refuses what its base answered, under the attack it answers what its base refused.
    turned = {
        attack: {
            model: np.repeat((np.arange(12) < count).astype(int), 2).reshape(12, 2)
            for model, count in zip(("base", "s1", "s2"), counts, strict=True)
        }
        for attack, counts in {"none": (12, 1, 1), "first": (0, 11, 11)}.items()
    }
    (setting,) = measure_attacks(joined(**{name: build(own) for name, own in turned.items()}), PLAN)
    tuned = setting.condition("tuned")
    change = tuned.attacks["first"].change_of_change.overall
    for figure in (change, tuned.worst_gain):
        assert figure.estimate == pytest.approx(2 - 2 / 12)
        assert 1 < figure.interval.low < figure.estimate <= figure.interval.high <= 2
    assert tuned.worst_gain.at_most == pytest.approx(tuned.worst_gain.interval.high)
    assert tuned.worst.interval.high <= tuned.worst.at_most <= 1

    beyond = Candidate(estimate=1.5, limits=lambda _: (1.2, 2.3), unsure=0.4, seeds=1)
    worst = worst_of({"a": beyond}, CHANGE_OF_CHANGE)
    assert (worst.interval.low, worst.interval.high, worst.at_most) == (1.2, 2.0, 2.0)


def test_the_effect_of_a_run_widens_an_attacks_effect():
    """Three replicates, of which one answers more under the attack as a whole."""
    rng, replicates = np.random.default_rng(8), 3
    rates = {"none": (0.2, 0.2, 0.2), "first": (0.3, 0.3, 0.9)}
    answers = {
        attack: {
            model: (rng.random((40, 1, replicates)) < of_runs).astype(int)
            for model in ("base", "s1")
        }
        for attack, of_runs in rates.items()
    }

    def as_replicates(_model, _intent, row):
        row |= {"decoding": row["sample"], "sample": 0}

    names = [f"decoding-{number}" for number in range(replicates)]
    plan = replace(
        PLAN,
        conditions=(PLAN.conditions[0], replace(PLAN.conditions[1], models=("s1",))),
        decoding_settings=dict.fromkeys(names, "T=0"),
        replicates={name: number for number, name in enumerate(names) if number},
    )
    asked = partial(build, samples=replicates, answers=as_replicates)
    whole = joined(**{attack: asked(models) for attack, models in answers.items()})
    (setting,) = measure_attacks(whole, plan)
    figures = setting.condition("tuned").attacks["first"]
    effect, x = figures.effect.overall, (answers["first"]["s1"] - answers["none"]["s1"])[:, 0, :]
    runs = run_variance(x.astype(float), 1.0)
    assert runs.run > 0
    alone = MeanT(x=two_way(x.mean(axis=1, keepdims=True), len(x)))
    limits = wider(alone.interval(0.05), x.mean(), runs.added(0.05))
    assert effect.estimate == pytest.approx(x.mean())
    assert effect.noise.replicates == replicates
    assert effect.noise.run_sd == pytest.approx(np.sqrt(runs.run))
    assert (effect.interval.low, effect.interval.high) == pytest.approx((limits[0], min(1.0, limits[1])))  # fmt: skip
    assert effect.interval.low < alone.interval(0.05)[0] - 0.1
    assert figures.change_of_change.overall.noise.replicates == replicates


def candidate(k, n):
    return Candidate(estimate=k / n, limits=partial(wilson, k / n, n), unsure=0.0, seeds=1)


@pytest.mark.golden
def test_the_worst_of_three():
    candidates = {"a": candidate(10, 40), "b": candidate(22, 40), "c": candidate(18, 40)}
    worst = worst_of(candidates, SHARE)
    assert (worst.attack, worst.attacks, worst.estimate) == ("b", 3, 22 / 40)
    # Wilson at .05 / 3 below, at .05 above (R: binom::binom.wilson with conf.level 1 - .05 / 3, and .95).
    assert worst.interval.low == pytest.approx(wilson(22 / 40, 40, 0.05 / 3)[0])
    assert worst.interval.low == pytest.approx(0.3672, abs=5e-4)
    assert worst.interval.high == pytest.approx(0.6929, abs=5e-4)
    assert worst_of({"a": None}, SHARE) is None


@pytest.mark.parametrize(("rates", "least"), [((0.3,) * 6, 0.94), ((0.1,) * 5 + (0.6,), 0.94)])
def test_the_interval_of_the_worst_covers_the_largest_true_figure(rates, least):
    rng, draws = np.random.default_rng(3), 1500
    inside = 0
    for _ in range(draws):
        counts = rng.binomial(40, rates)
        worst = worst_of({str(i): candidate(int(k), 40) for i, k in enumerate(counts)}, SHARE)
        inside += worst.interval.low <= max(rates) <= worst.interval.high
    assert inside / draws >= least
