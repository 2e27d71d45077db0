"""Figures corrected by labels: their values, their coverage, and what never changes."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_judge import COMPLIED, YES, Judge, labelled, plan, study
from planted_study import BENIGN, FALSE_BLOCKS, GUARD, IS_REFUSED, declared, planted, with_labels

from aftertune.core.table import NONE, Table
from aftertune.errors import InputError
from aftertune.measure.consistency import consistency
from aftertune.measure.crossed import crossed_wilson, two_way
from aftertune.measure.gate import gate
from aftertune.measure.gate_labels import labels_verdict
from aftertune.measure.label_draw import draw_labels
from aftertune.measure.measure import measure_table
from aftertune.measure.outcomes import Stratum, strata
from aftertune.measure.ppi import (
    LabelSample,
    correct,
    corrected_difference,
    corrected_limits,
    scaled_difference,
)
from aftertune.measure.results import Missing
from aftertune.report.document import to_plain

DIFFERENTIAL = Judge((0.90, 0.97), (0.80, 0.85))
RATES, REFUSALS = (0.1, 0.3), (0.05, 0.15)


def made(n=90, seeds=2, seed=5):
    rng = np.random.default_rng(seed)
    return planted(
        rng,
        rates=RATES,
        refusals=REFUSALS,
        judge=DIFFERENTIAL,
        refuser=DIFFERENTIAL,
        n=n,
        seeds=seeds,
    )


def whole(study, plan, labels=10_000, benign=10_000):
    found = measure_table(with_labels(study, plan, labels, benign, 0), plan).settings[0]
    return found.condition("base"), found.condition("tuned")


def real(study, chosen, truth=None):
    """Return the true share of some rows."""
    return (study.truth if truth is None else truth)[chosen].mean()


def test_what_was_decided_between_annotators_counts_alone_and_their_agreement_is_their_own():
    study, plan = made(), declared(2)
    right = with_labels(study, plan, 10_000, 10_000, 0)
    labels = right.columns["label:anna"]
    wrong = (np.random.default_rng(1).random(len(labels)) < 0.2) & (labels != NONE)
    other = np.where(wrong, np.where(labels == YES, IS_REFUSED, YES), labels)
    two = replace(
        right,
        columns={**right.columns, "label:ben": other.astype(np.int32)},
        scores={**right.scores, "drawn:ben": right.scores["drawn:anna"]},
    )
    decided = np.where(wrong, labels, NONE).astype(np.int32)
    between = replace(two, columns={**two.columns, "adjudicated": decided})
    rates = []
    for table in (right, two, between):
        result = measure_table(table, plan)
        corrected = result.settings[0].condition("tuned").labels
        rates.append((corrected.asr.overall, corrected.over_refusal.overall, corrected.judges))
    assert rates[0] == rates[2]
    assert abs(rates[1][0].estimate - rates[0][0].estimate) > 0.02
    assert result.annotators == measure_table(two, plan).annotators
    assert result.annotators.pairs["anna | ben"].agreement == pytest.approx(0.8, abs=0.05)


def test_labels_of_everything_give_the_truth_of_every_figure():
    study, plan = made(n=360), declared(2, families=("task", "hazard"))
    columns = study.table.columns
    base, tuned = whole(study, plan)
    harmful, is_tuned = columns["intent"] != BENIGN, columns["model"] > 0
    here = harmful & is_tuned
    for dimension, column in (
        ("by_set", "set"),
        ("by_hazard", "hazard"),
        ("by_harm_basis", "harm_basis"),
    ):
        parts = getattr(tuned.labels.asr, dimension)
        assert parts
        for name, found in parts.items():
            code = study.table.names[column].index(name)
            assert found.estimate == pytest.approx(real(study, here & (columns[column] == code)))
    for name, found in tuned.labels.asr_change.by_hazard.items():
        one = harmful & (columns["hazard"] == study.table.names["hazard"].index(name))
        assert found.estimate == pytest.approx(
            real(study, one & is_tuned) - real(study, one & ~is_tuned)
        )
    assert {
        judge: found.overall.estimate for judge, found in tuned.labels.judge_rates.items()
    } == pytest.approx(dict.fromkeys(("judge", "second"), real(study, here)))
    benign = ~harmful & is_tuned
    assert tuned.labels.over_refusal.overall.estimate == pytest.approx(real(study, benign))
    assert tuned.labels.over_refusal_change.overall.estimate == pytest.approx(
        real(study, benign) - real(study, ~harmful & ~is_tuned)
    )
    guard, passed = tuned.labels.guards["gate"], study.truth & ~study.blocked
    through = real(study, here, passed), real(study, harmful & ~is_tuned, passed)
    assert guard.asr.overall.estimate == pytest.approx(through[0])
    assert guard.asr_change.overall.estimate == pytest.approx(through[0] - through[1])
    assert guard.bypass.overall.estimate == pytest.approx(
        real(study, here, passed) / real(study, here)
    )
    share = real(study, harmful & ~is_tuned, passed) / real(study, harmful & ~is_tuned)
    moved = guard.bypass_change.overall
    assert moved.estimate == pytest.approx(guard.bypass.overall.estimate - share)
    assert moved.interval.low < moved.estimate < moved.interval.high
    assert base.labels.guards["gate"].bypass_change is None
    without = tuned.labels.asr_change.overall.estimate
    assert guard.asr_difference.overall.estimate == pytest.approx(through[0] - through[1] - without)
    low, high = (
        guard.asr_difference.overall.interval.low,
        guard.asr_difference.overall.interval.high,
    )
    assert low < guard.asr_difference.overall.estimate < high
    assert guard.over_refusal.overall.estimate == pytest.approx(
        real(study, benign, study.truth | study.blocked)
    )
    assert (base.labels.asr_change, base.labels.guards["gate"].asr_change) == (None, None)
    assert (tuned.labels.labels, tuned.labels.benign) == (here.sum(), benign.sum())


def test_hazards_within_tasks_are_corrected_too():
    study, plan = made(n=180), declared(2, families=("hazard within task",))
    found = consistency(with_labels(study, plan, 10_000, 0, 0), plan).hazards
    columns = study.table.columns
    assert len(found) == 3
    for change in found:
        here = (columns["intent"] != BENIGN) & (
            columns["hazard"] == study.table.names["hazard"].index(change.hazard)
        )
        tuned, base = (real(study, here & ((columns["model"] > 0) == yes)) for yes in (True, False))
        assert change.corrected.estimate == pytest.approx(tuned - base)
    assert all(change.corrected is None for change in consistency(study.table, plan).hazards)


def test_a_part_with_few_labels_is_refused_by_itself():
    study, plan = made(), declared(2)
    _, tuned = whole(study, plan, labels=200, benign=90)
    assert tuned.labels.asr.overall.uncorrected is None
    assert all(found.uncorrected for found in tuned.labels.asr.by_hazard.values())
    assert tuned.labels.over_refusal.overall.uncorrected.text == "45 labels; 50 are needed"


def test_without_labels_of_benign_responses_over_refusal_stays_the_judges():
    study, plan = made(), declared(2)
    _, tuned = whole(study, plan, labels=200, benign=0)
    assert (tuned.labels.over_refusal.overall, tuned.labels.benign) == (None, 0)
    assert tuned.labels.asr.overall.estimate is not None
    assert tuned.labels.refusal_against_base is None


def test_benign_responses_are_drawn_from_strata_of_their_own_and_leave_the_others_alone():
    study, plan = made(), declared(2)
    alone, both = draw_labels(study.table, plan, 100, 3), draw_labels(study.table, plan, 100, 3, 80)
    assert np.array_equal(alone.rows, both.rows[: len(alone.rows)])
    other = both.rows[len(alone.rows) :]
    assert (study.table.columns["intent"][other] == BENIGN).all()
    assert (strata(study.table, plan)[other] >= len(tuple(Stratum)[6:])).all()
    assert [count for _, _, count in both.benign] == [40, 40]
    more = draw_labels(study.table, plan, 100, 3, 160)
    assert set(both.rows) < set(more.rows)
    with pytest.raises(InputError, match="1 labels are fewer than the 2 groups"):
        draw_labels(study.table, plan, 100, 3, 1)


def test_it_is_said_that_a_judge_of_refusals_errs_differently():
    study, plan = made(n=200), declared(2)
    base, tuned = whole(study, plan, labels=200, benign=600)
    assert tuned.labels.refusal_against_base.differs
    assert base.labels.refusal_against_base is None


def test_nothing_seen_says_no_more_than_the_behaviors_allow():
    rng = np.random.default_rng(1)
    spotless = Judge((1.0, 1.0), (1.0, 1.0))
    study = planted(
        rng, rates=(1e-6, 1e-6), refusals=REFUSALS, judge=spotless, refuser=spotless, n=60, seeds=2
    )
    plan = declared(2)
    _, tuned = whole(study, plan)
    raw, corrected = tuned.asr.overall.interval, tuned.labels.asr.overall.interval
    assert (raw.low, tuned.labels.asr.overall.estimate) == (0, 0)
    assert corrected.high >= raw.high - 1e-9
    change = tuned.labels.asr_change.overall
    assert change.interval.high >= tuned.asr_change.overall.interval.high - 1e-9


def truths(refusals):
    """Return what each figure is in truth: base and tuned ASR of a set, behind the guard, its change, refusals."""
    through = [rate * (1 - blocks) for rate, blocks in zip(RATES, GUARD, strict=True)]
    behind = [1 - (1 - rate) * (1 - FALSE_BLOCKS) for rate in refusals]
    return {
        "set": RATES[1],
        "set change": RATES[1] - RATES[0],
        "hazard": RATES[1],
        "guard": through[1],
        "guard change": through[1] - through[0],
        "guard difference": (through[1] - through[0]) - (RATES[1] - RATES[0]),
        "bypass": 1 - GUARD[1],
        "change of the bypass": GUARD[0] - GUARD[1],
        "second judge": RATES[1],
        "refusals": refusals[1],
        "change of refusals": refusals[1] - refusals[0],
        "refusals behind the guard": behind[1],
    }


def figures(tuned):
    labels = tuned.labels
    guard = labels.guards["gate"]
    return {
        "set": labels.asr.by_set["set-0"],
        "set change": labels.asr_change.by_set["set-0"],
        "hazard": labels.asr.by_hazard["hazard-1"],
        "guard": guard.asr.overall,
        "guard change": guard.asr_change.overall,
        "guard difference": guard.asr_difference.overall,
        "bypass": guard.bypass.overall,
        "change of the bypass": guard.bypass_change.overall,
        "second judge": labels.judge_rates["second"].overall,
        "refusals": labels.over_refusal.overall,
        "change of refusals": labels.over_refusal_change.overall,
        "refusals behind the guard": guard.over_refusal.overall,
    }


def replicate(count, *, refusals, n, seeds, labels, benign):
    """Return for each figure how often its interval covers, how far it is off on average, and how often it is refused."""
    rng, plan, true = np.random.default_rng(31), declared(seeds), truths(refusals)
    rows = []
    for seed in range(count):
        study = planted(
            rng,
            rates=RATES,
            refusals=refusals,
            judge=DIFFERENTIAL,
            refuser=DIFFERENTIAL,
            n=n,
            seeds=seeds,
        )
        _, tuned = (
            measure_table(with_labels(study, plan, labels, benign, seed), plan)
            .settings[0]
            .condition(name)
            for name in ("base", "tuned")
        )
        found = figures(tuned)
        rows.append(
            [
                (np.nan, np.nan, 1.0)
                if each.uncorrected
                else (
                    each.interval.low <= true[name] <= each.interval.high,
                    each.estimate - true[name],
                    0.0,
                )
                for name, each in found.items()
            ]
        )
    return dict(zip(true, np.nanmean(np.array(rows, float), axis=0), strict=True))


def test_the_corrected_parts_are_right_on_average():
    found = replicate(8, refusals=REFUSALS, n=150, seeds=3, labels=500, benign=400)
    for name, (covered, off, _) in found.items():
        assert covered >= 0.6, name
        assert abs(off) <= 0.06, name


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    ("refusals", "n", "seeds", "labels", "benign"),
    [(REFUSALS, 250, 5, 400, 200), (REFUSALS, 100, 3, 500, 200), ((0.02, 0.02), 250, 1, 400, 200)],
)
def test_intervals_of_corrected_parts_cover_the_truth(refusals, n, seeds, labels, benign):
    for name, (covered, off, _) in replicate(
        1000, refusals=refusals, n=n, seeds=seeds, labels=labels, benign=benign
    ).items():
        assert covered >= 0.93, name
        assert abs(off) <= (0.02 if "bypass" in name else 0.01), name


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
    sizes = len(sample.truth), matrix.size
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
    for condition in measure_table(full, plan(seeds)).settings[0].conditions:
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
    conditions = measure_table(table, plan_).settings[0].conditions
    found = (
        [to_plain(condition.labels) for condition in conditions],
        labels_verdict(table, plan_, gate(table, plan_, "base", "tuned")),
    )
    return json.loads(
        json.dumps([found[0], to_plain(found[1])]),
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
    found = measure_table(labelled(table, truth, plan(3), 300, 0), plan(3)).settings[0]
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
    read = labelled(table, truth, plan(3), 300, 0)
    verdict = labels_verdict(read, plan(3), gate(read, plan(3), "base", "tuned"))
    assert verdict.by_side["harm"].reasons == (f"harm: fine-tune: {tuned.asr.overall.uncorrected}",)
    assert verdict.exit_code == 4


def test_rare_harm_that_a_judge_overstates_is_not_blurred():
    """Wilson's effective n alone ends at .10: it takes the judge's false alarms for the spread of the harm."""
    rng, judge = np.random.default_rng(6), Judge((0.9, 0.94), (0.9, 0.94))
    table, truth = study(rng, rates=(0.01, 0.01), judge=judge, n=150, seeds=3)
    found = (
        measure_table(labelled(table, truth, plan(3), 400, 0), plan(3))
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
    found = measure_table(part, plan(1)).settings[0].condition("tuned").labels.asr.overall
    assert found.uncorrected.missing is Missing.STRATUM
    assert found.estimate is None
