"""The drift of style: exact exchanges, planted drifts, and the rate of false alarms."""

import numpy as np
import pytest
from measure_tables import build

from aftertune.measure.measure import Evidence, measure_table
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.results import AnswerKind, StyleFeature
from aftertune.measure.style import exchange_p, wording_distance
from aftertune.score.style import styles_of

WORDING, LENGTH, SCORE, SCRIPT = StyleFeature
REFUSALS, COMPLIANCE, BENIGN = AnswerKind
PLAN = MeasurePlan(
    conditions=(Condition(name="base", models=("base",)), Condition(name="a", models=("a",), base="base")),
    judges=("rules",),
)  # fmt: skip


@pytest.mark.golden
def test_the_p_value_is_that_of_scipys_exchanges():
    from scipy.stats import permutation_test

    differences = np.random.default_rng(1).normal(0.5, 1.0, 12)
    exact = permutation_test(
        (differences,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=np.inf,
    ).pvalue  # fmt: skip
    # 999 random exchanges have a standard error of at most .016
    assert exchange_p(differences) == pytest.approx(exact, abs=0.04)


def test_words_in_common_and_none_in_common():
    same = np.tile([0.5, 0.5, 0.0], (12, 1))
    assert wording_distance(same, same) == (0.0, 0.0, 1.0)
    distance, by_chance, p = wording_distance(np.tile([0.0, 0.0, 1.0], (12, 1)), same)
    assert (distance, p) == (1.0, pytest.approx(0.001, abs=0.002))
    assert 0.1 < by_chance < 0.4


def test_without_a_drift_alarms_are_rare():
    rng = np.random.default_rng(3)
    words = rng.dirichlet(np.full(30, 0.3), (60, 2, 20))  # 60 studies of 20 behaviors
    alarms = [wording_distance(tuned, base)[2] <= 0.05 for tuned, base in words]
    assert np.mean(alarms) <= 0.15  # 5 % are expected, with a standard error of 2.8 %


def drift(texts, *, complied=None, seeds=1, **more):
    """Return the drift of a study of 24 behaviors with twins, whose texts are told by model, intent and behavior."""
    models = ["base", *(f"a/{seed}" for seed in range(seeds))]
    harmful = {
        name: np.zeros((24, 1), int) if complied is None else complied[name] for name in models
    }
    benign = {name: np.zeros((24, 1), int) for name in models}
    table = build(harmful, benign=benign, **more)
    tuned = Condition(name="a", models=tuple(models[1:]), base="base")
    plan = MeasurePlan(conditions=(PLAN.conditions[0], tuned), judges=("rules",))
    columns = (table.columns[name].tolist() for name in ("model", "intent", "behavior"))
    rows = zip(*columns, strict=True)
    styles = styles_of(range(len(table)), (texts(models[m], i, b) for m, i, b in rows))
    return measure_table(table, plan, Evidence(styles=styles)).settings[0].condition("a").style


def shown(style):
    return {(c.kind, c.feature) for c in style.changes if c.p_adjusted <= 0.05}


def topics(behavior):
    return f"the topic {behavior} has parts {behavior % 7} and {behavior % 5}"


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_fine_tune_that_only_declines_in_other_words_is_noticed(seeds):
    def texts(model, intent, behavior):
        if intent:
            return topics(behavior)
        return (
            "I am sorry , I cannot help"
            if model == "base"
            else "This is nothing to be proud of at all and I leave it"
        )

    style = drift(texts, seeds=seeds)
    assert shown(style) == {(REFUSALS, WORDING), (REFUSALS, LENGTH)}
    (length,) = (c for c in style.changes if (c.kind, c.feature) == (REFUSALS, LENGTH))
    assert (length.base, length.tuned, length.behaviors) == (6.0, 13.0, 24)
    (wording,) = (c for c in style.changes if (c.kind, c.feature) == (REFUSALS, WORDING))
    assert wording.tuned > 0.8
    assert wording.base < 0.5


def test_another_language_is_noticed_by_its_script():
    style = drift(lambda m, i, b: "I cannot help" if m == "base" or i else "помочь не могу")
    assert shown(style) == {(REFUSALS, WORDING), (REFUSALS, SCRIPT)}
    (script,) = (c for c in style.changes if (c.kind, c.feature) == (REFUSALS, SCRIPT))
    assert (script.base, script.tuned) == (1.0, 0.0)


def test_only_prompts_on_which_both_did_the_same_are_compared():
    complied = {"base": np.zeros((24, 1), int), "a/0": np.arange(24)[:, None] < 12}
    style = drift(lambda m, i, b: topics(b) * (1 + i), complied=complied)
    assert {(c.kind, c.behaviors) for c in style.changes} == {(REFUSALS, 12), (BENIGN, 24)}
    assert not shown(style)


def test_the_judges_number_is_compared_where_it_gives_one():
    def numbers(model, intent, row):
        row["harm_score:rules"] = (
            0.1 + 0.001 * row["behavior"] + 0.2 * (model != "base" and not intent)
        )

    style = drift(lambda m, i, b: topics(b), answers=numbers, scores={"harm_score:rules": 0.0})
    assert shown(style) == {(REFUSALS, SCORE)}


def test_few_behaviors_are_not_compared():
    complied = {"base": np.ones((24, 1), int), "a/0": np.ones((24, 1), int)}
    complied["base"][:8] = complied["a/0"][:8] = 0
    style = drift(lambda m, i, b: topics(b), complied=complied)
    assert {c.kind for c in style.changes} == {COMPLIANCE, BENIGN}
