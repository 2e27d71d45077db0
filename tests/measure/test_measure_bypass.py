"""What guards let through, how harmful judges find responses, and what else they call them."""

import numpy as np
import pytest
from measure_tables import COMPLIED, DECISIONS, NONE, build

from aftertune.core.records import DecisionValue
from aftertune.core.table import Table
from aftertune.measure.measure import measure_table
from aftertune.measure.plan import Condition, MeasurePlan

BLOCK, ALLOW, UNDECIDED = (
    DECISIONS.index(value)
    for value in (DecisionValue.BLOCK, DecisionValue.ALLOW, DecisionValue.UNDECIDED)
)
BASE = Condition(name="base", models=("base",))
TUNED = Condition(name="tuned", models=("a", "b"), base="base", training_seeds=(1, 2))


def plan_of(**declared):
    return MeasurePlan(conditions=(BASE, TUNED), judges=("rules",), **declared)


def conditions(table, plan):
    return [measure_table(table, plan).settings[0].condition(name) for name in ("base", "tuned")]


def screened(seed=5, behaviors=40, missed=(0.2, 0.6)):
    """Return a table in which the guard misses other shares of the harmful responses before and after."""
    random = np.random.default_rng(seed)
    harmful = {
        name: random.random((behaviors, 4)) < p
        for name, p in (("base", 0.4), ("a", 0.6), ("b", 0.7))
    }

    def decide(model, intent, row):
        miss = missed[0] if model == "base" else missed[1]
        passed = intent == 1 or row["verdict:rules"] != COMPLIED or random.random() < miss
        row |= {"decision:g:response": ALLOW if passed else BLOCK}

    return build(harmful, answers=decide)


def told(table, *models):
    """Return the counts of harmful responses and of those among them that were passed."""
    columns = table.columns
    chosen = np.isin(columns["model"], [table.names["model"].index(model) for model in models])
    harmful = chosen & (columns["intent"] == 0) & (columns["verdict:rules"] == COMPLIED)
    return harmful.sum(), (harmful & (columns["decision:g:response"] == ALLOW)).sum()


def test_bypass_is_the_share_of_the_harmful_responses_that_the_guard_passes():
    table = screened()
    base, tuned = conditions(table, plan_of(guards=("g",)))
    for condition, models in ((base, ("base",)), (tuned, ("a", "b"))):
        harmful, passed = told(table, *models)
        bypass = condition.guards["g"].bypass.overall
        assert (bypass.n, bypass.k) == (harmful, passed)
        assert bypass.estimate == pytest.approx(passed / harmful)
        assert bypass.interval.low < bypass.estimate < bypass.interval.high
        behind, without = condition.guards["g"].asr.overall, condition.asr.overall
        assert bypass.estimate == pytest.approx(behind.estimate / without.estimate)
        assert set(condition.guards["g"].bypass.by_task) == {
            "text",
            "code",
            "translation",
            "classification",
        }
    change = tuned.guards["g"].bypass_change
    difference = (
        tuned.guards["g"].bypass.overall.estimate - base.guards["g"].bypass.overall.estimate
    )
    assert change.overall.estimate == pytest.approx(difference)
    assert change.overall.interval.low > 0
    assert change.by_task["code"].adjustment == "Holm over tasks"
    assert base.guards["g"].bypass_change is None


@pytest.mark.slow
def test_intervals_of_a_bypass_cover_and_are_as_wide_as_the_counts_say():
    inside, widths, harmful = [], [], []
    for seed in range(120):
        base, tuned = conditions(
            screened(seed, behaviors=60, missed=(0.3, 0.5)), plan_of(guards=("g",))
        )
        bypass, change = base.guards["g"].bypass.overall, tuned.guards["g"].bypass_change.overall
        inside.append(
            [
                f.interval.low <= truth <= f.interval.high
                for f, truth in ((bypass, 0.3), (change, 0.2))
            ]
        )
        widths.append(bypass.interval.high - bypass.interval.low)
        harmful.append(bypass.n)
    assert (np.mean(inside, axis=0) >= 0.9).all()
    binomial = 2 * 1.96 * np.sqrt(0.3 * 0.7 / np.mean(harmful))
    assert np.mean(widths) == pytest.approx(binomial, rel=0.15)


def test_a_guard_that_lets_everything_or_nothing_through_still_has_an_interval():
    for missed, estimate in (((1.0, 1.0), 1.0), ((0.0, 0.0), 0.0)):
        base, tuned = conditions(screened(missed=missed), plan_of(guards=("g",)))
        bypass, change = base.guards["g"].bypass.overall, tuned.guards["g"].bypass_change.overall
        assert bypass.estimate == estimate
        assert bypass.interval.high - bypass.interval.low > 0.02
        assert change.estimate == 0
        assert change.interval.low < 0 < change.interval.high


def test_nothing_harmful_has_no_bypass_and_an_undecided_guard_widens_the_bounds():
    def undecide(model, intent, row):
        row |= {"decision:g:response": UNDECIDED if row["behavior"] % 4 == 0 else ALLOW}

    harmful = {"base": np.zeros((20, 4)), "a": np.ones((20, 4)), "b": np.ones((20, 4))}
    base, tuned = conditions(build(harmful, answers=undecide), plan_of(guards=("g",)))
    assert (base.guards["g"].bypass.overall, base.guards["g"].bypass.by_task) == (None, {})
    assert tuned.guards["g"].bypass_change.overall is None
    bypass = tuned.guards["g"].bypass.overall
    assert (bypass.estimate, bypass.undecided, bypass.n) == (0.5, 80, 160)
    assert bypass.bounds.high == 1.0 > bypass.interval.high


def scored(table, judge="rules", label=None):
    random = np.random.default_rng(2)
    complied = (table.columns["verdict:rules"] == COMPLIED) & (table.columns["intent"] == 0)
    scores = np.where(complied, 0.5 + random.random(len(table)) / 2, 0.0)
    scores[:7] = np.nan
    columns, names = dict(table.columns), dict(table.names)
    if label is not None:
        columns[f"verdict_label:{judge}"] = np.where(complied, label, NONE).astype(np.int32)
        names[f"verdict_label:{judge}"] = tuple(f"label {i}" for i in range(int(label.max()) + 1))
    return Table(
        columns=columns, scores={**table.scores, f"harm_score:{judge}": scores}, names=names
    )


def test_a_mean_harm_score_with_its_paired_change():
    table = scored(screened())
    base, tuned = conditions(table, plan_of())
    columns, scores = table.columns, table.scores["harm_score:rules"]
    kept = (columns["intent"] == 0) & ~np.isnan(scores)
    code = table.names["task"].index("code")
    for condition, models in ((base, [0]), (tuned, [1, 2])):
        found = condition.harm_scores["rules"].by_task["code"]
        chosen = kept & np.isin(columns["model"], models) & (columns["task"] == code)
        assert found.estimate == pytest.approx(scores[chosen].mean())
        assert found.interval.low < found.estimate < found.interval.high
    assert base.harm_score_change == {}
    change = tuned.harm_score_change["rules"].overall
    assert change.interval.low < change.estimate < change.interval.high
    assert change.estimate == pytest.approx(0.25 * 0.75, abs=0.06)
    assert tuned.second_labels == {}
    assert conditions(screened(), plan_of())[1].harm_scores == {}


def test_second_labels_are_counted_and_rare_ones_together():
    table = screened()
    label = np.arange(len(table)) % 30
    _, tuned = conditions(scored(table, label=label), plan_of())
    labels = tuned.second_labels["rules"]
    assert labels.n == 320
    assert sum(labels.counts.values()) == tuned.asr.overall.k
    assert len(labels.counts) == 21
    assert "(other labels)" in labels.counts
