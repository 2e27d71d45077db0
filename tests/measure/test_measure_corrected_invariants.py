"""What holds of corrected figures whatever the labels: their intervals hold them, and no order or name matters."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_judge import COMPLIED, Judge, labelled, plan, study
from planted_study import declared, planted, with_labels

from aftertune.core.table import NONE, Table
from aftertune.measure.crossed import crossed_wilson, two_way
from aftertune.measure.gate_labels import labels_verdict
from aftertune.measure.measure import measure
from aftertune.measure.ppi import (
    LabelSample,
    correct,
    corrected_difference,
    corrected_limits,
    scaled_difference,
)
from aftertune.measure.results import Missing

LEVELS = (0.2, 0.05, 0.01)
SHARES = st.sampled_from([0.0, 0.01, 0.3, 0.7, 0.99, 1.0])
ERRORS = st.tuples(SHARES, SHARES)
UNEQUAL = Judge((0.90, 0.97), (0.80, 0.85))


@st.composite
def arms(draw):
    """One arm: labels in one to three strata (some with a single one), and the judge's matrix of twelve behaviors."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    stratum = np.repeat(np.arange(len(sizes)), sizes)
    judged = (rng.random(len(stratum)) < draw(SHARES)).astype(float)
    hits, clears = draw(ERRORS)
    truth = np.where(rng.random(len(stratum)) < np.where(judged > 0, hits, 1 - clears), 1.0, 0.0)
    sample = LabelSample(
        truth=truth,
        judged=judged,
        stratum=stratum,
        weight=rng.uniform(0.1, 3, len(stratum)),
        shares=rng.dirichlet(np.ones(len(sizes))),
    )
    return sample, (rng.random((12, draw(st.sampled_from([1, 2, 5])))) < draw(SHARES)).astype(float)


@given(arms())
def test_the_interval_of_a_rate_holds_it_and_widens_with_the_level(arm):
    sample, matrix = arm
    found, population = correct(sample, float(matrix.mean())), two_way(matrix)
    estimate = min(1.0, max(0.0, found.estimate))
    sizes = sample.size, matrix.size
    limits = [
        corrected_limits(
            found, population, sizes, alpha, crossed_wilson(population, matrix.size, alpha)
        )
        for alpha in LEVELS
    ]
    for alpha, (low, high) in zip(LEVELS, limits, strict=True):
        lower, higher = corrected_limits(found, population, sizes, alpha)
        assert lower <= low
        assert high <= higher
    assert all(0 <= low <= estimate <= high <= 1 for low, high in limits)
    for (low, high), (lower, higher) in pairwise(limits):
        assert lower <= low + 1e-12
        assert high <= higher + 1e-12


@given(arms(), arms())
def test_the_interval_of_a_change_holds_it_and_widens_with_the_level(one, other):
    (tuned, matrix), (base, was) = one, other
    both = correct(tuned, float(matrix.mean())), correct(base, float(was[:, 0].mean()))
    population = two_way(scaled_difference(matrix, was[:, :1], (both[0].slope, both[1].slope)))
    change = min(1.0, max(-1.0, both[0].estimate - both[1].estimate))
    limits = [corrected_difference(both, population, alpha) for alpha in LEVELS]
    assert all(-1 <= low <= change <= high <= 1 for low, high in limits)
    for (low, high), (lower, higher) in pairwise(limits):
        assert lower <= low
        assert high <= higher


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.sampled_from([1, 2, 3]), SHARES, SHARES, ERRORS, ERRORS)
def test_people_who_agree_with_the_judge_change_no_estimate(seed, seeds, was, now, before, after):
    rates = tuple(min(1 - 1e-6, max(1e-6, rate)) for rate in (was, now))
    rng = np.random.default_rng(seed)
    table, _ = study(rng, rates=rates, judge=Judge(before, after), n=40, seeds=seeds, tasks=2)
    says = table.columns["verdict:judge"] == COMPLIED
    full = labelled(table, says, plan(seeds), 10_000, 0)
    for condition in measure(full, plan(seeds)).settings[0].conditions:
        for dimension in ("by_task", "by_hazard"):
            corrected, raw = (
                getattr(each, dimension) for each in (condition.labels.asr, condition.asr)
            )
            assert {
                name: found.estimate for name, found in corrected.items() if not found.uncorrected
            } == pytest.approx(
                {
                    name: raw[name].estimate
                    for name, found in corrected.items()
                    if not found.uncorrected
                }
            )
        assert condition.labels.asr.overall.estimate == pytest.approx(
            condition.asr.overall.estimate
        )
        judge = condition.labels.judges["judge"]
        assert (judge.judge_only, judge.annotators_only, judge.bias) == (0, 0, 0)


def told(table, plan_):
    """Return everything that labels say, rounded: sums in another order differ in their last digits."""
    conditions = measure(table, plan_).settings[0].conditions
    found = (
        [condition.labels.to_json() for condition in conditions],
        labels_verdict(table, plan_, "base", "tuned"),
    )
    return json.loads(
        json.dumps([found[0], found[1].to_json()]),
        parse_float=lambda text: round(float(text), 7) + 0.0,
    )


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 999))
def test_neither_the_order_of_the_rows_nor_the_names_of_the_seeds_matter(seed):
    rng, plan_ = np.random.default_rng(seed), declared(3)
    made = planted(
        rng, rates=(0.1, 0.3), refusals=(1e-6, 0.1), judge=UNEQUAL, refuser=UNEQUAL, n=60, seeds=3
    )
    table = with_labels(made, plan_, 250, 150, seed)
    order = rng.permutation(len(table))
    shuffled = Table(
        columns={name: column[order] for name, column in table.columns.items()},
        scores={name: column[order] for name, column in table.scores.items()},
        names=table.names,
    )
    renamed = np.array([0, 3, 1, 2], np.int32)[table.columns["model"]]
    other = Table(
        columns={**table.columns, "model": renamed}, scores=table.scores, names=table.names
    )
    assert told(shuffled, plan_) == told(other, plan_) == told(table, plan_)


def test_a_judge_that_sees_nothing_corrects_no_recipe():
    """Its rates vary with no training seed, so that the interval of three seeds would cover .75 to .89 of the truths."""
    rng, blind = np.random.default_rng(5), Judge((0.0, 1.0), (0.0, 1.0))
    table, truth = study(rng, rates=(0.2, 0.3), judge=blind, n=100, seeds=3)
    found = measure(labelled(table, truth, plan(3), 300, 0), plan(3)).settings[0]
    base, tuned = (found.condition(name).labels for name in ("base", "tuned"))
    assert base.asr.overall.estimate == pytest.approx(
        truth[table.columns["model"] == 0].mean(), abs=0.1
    )
    assert tuned.asr.overall.estimate is None
    assert tuned.asr.overall.uncorrected.missing is Missing.SLOPE
    assert tuned.asr.overall.labels_only == pytest.approx(
        truth[table.columns["model"] > 0].mean(), abs=0.1
    )
    assert (
        str(tuned.asr_change.overall.uncorrected) == f"fine-tune: {tuned.asr.overall.uncorrected}"
    )
    assert tuned.against_base is not None
    assert not tuned.against_base.differs
    verdict = labels_verdict(labelled(table, truth, plan(3), 300, 0), plan(3), "base", "tuned")
    assert verdict.reasons == (f"overall: fine-tune: {tuned.asr.overall.uncorrected}",)
    assert verdict.exit_code == 4


def test_rare_harm_that_a_judge_overstates_is_not_blurred():
    """Wilson's effective n alone ends at .10: it takes the judge's false alarms for the spread of the harm."""
    rng, judge = np.random.default_rng(6), Judge((0.9, 0.94), (0.9, 0.94))
    table, truth = study(rng, rates=(0.01, 0.01), judge=judge, n=150, seeds=3)
    found = (
        measure(labelled(table, truth, plan(3), 400, 0), plan(3))
        .settings[0]
        .condition("tuned")
        .labels.asr.overall
    )
    assert 0 < found.estimate < 0.03
    assert found.interval.high < 0.05


def test_a_kind_of_response_that_nobody_labelled_is_told_in_words():
    rng = np.random.default_rng(6)
    table, truth = study(rng, rates=(0.1, 0.3), judge=UNEQUAL, n=100, seeds=1)
    full = labelled(table, truth, plan(1), 10_000, 0)
    said = full.columns["label:anna"].copy()
    said[full.columns["verdict:judge"] == COMPLIED] = NONE
    part = Table(columns={**full.columns, "label:anna": said}, scores=full.scores, names=full.names)
    found = measure(part, plan(1)).settings[0].condition("tuned").labels.asr.overall
    assert found.uncorrected.missing is Missing.STRATUM
    assert found.estimate is None
