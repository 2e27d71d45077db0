"""PPI++ with strata, the draw of labels, and their weights."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measure_tables import apart, shares
from planted_judge import Judge, labelled, plan, study

from aftertune.core.records import LabelValue
from aftertune.core.table import NONE, Table
from aftertune.errors import InputError
from aftertune.measure.crossed import two_way
from aftertune.measure.gate import gate
from aftertune.measure.gate_labels import labels_verdict
from aftertune.measure.intervals import holm
from aftertune.measure.label_draw import FLOOR, allocate, draw_labels
from aftertune.measure.measure import measure_table
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.ppi import LabelSample, correct, corrected_limits, label_variance

EQUAL, DIFFERENTIAL = Judge((0.85, 0.95), (0.85, 0.95)), Judge((0.90, 0.97), (0.80, 0.85))


def sample(y, f, stratum=None, shares=None, weight=None):
    y, f = np.array(y, float), np.array(f, float)
    stratum = np.zeros(len(y), int) if stratum is None else np.array(stratum)
    shares = np.bincount(stratum) / len(y) if shares is None else np.array(shares)
    return LabelSample(
        truth=y,
        judged=f,
        stratum=stratum,
        weight=np.ones(len(y)) if weight is None else weight,
        shares=shares,
    )


Y = [1] * 17 + [0] * 4 + [1] * 3 + [0] * 76
F = [1] * 17 + [1] * 4 + [0] * 3 + [0] * 76


def test_one_stratum_is_the_plain_formula():
    y, f = np.array(Y, float), np.array(F, float)
    found = correct(sample(Y, F), 0.25)
    power = np.cov(y, f)[0, 1] / f.var(ddof=1)
    assert found.power == pytest.approx(power)
    assert found.estimate == pytest.approx(power * 0.25 + (y - power * f).mean())
    assert found.slope == pytest.approx((np.cov(y, f)[0, 1] + 0.01) / (y.var(ddof=1) + 0.01))
    assert found.variance == pytest.approx(
        max((y - power * f).var(ddof=1), 1 / 102 * 101 / 102) / 100
    )
    assert found.df == pytest.approx(99)


def test_strata_of_the_judges_reading_are_double_sampling():
    found = correct(sample(Y, F, stratum=F, shares=[0.6, 0.4]), 0.4)
    assert found.estimate == pytest.approx(0.6 * 3 / 79 + 0.4 * 17 / 21)
    shrunk = [(3.5 / 80, 79, 0.6), (17.5 / 22, 21, 0.4)]
    assert found.variance == pytest.approx(
        sum(w * w * p * (1 - p) / h for p, h, w in shrunk), rel=0.15
    )


def test_weights_inside_a_stratum_give_the_weighted_mean():
    weight = np.linspace(1, 3, 100)
    found = correct(sample(Y, [0] * 100, weight=weight), 0.0)
    assert found.power == 0
    assert found.estimate == pytest.approx(np.average(Y, weights=weight))


def test_no_error_seen_is_not_no_error():
    variance, _ = label_variance(sample(Y, Y), np.zeros(100))
    assert variance == pytest.approx(1 / 102 * 101 / 102 / 100)
    found = correct(sample(Y, Y), 0.2)
    low, high = corrected_limits(found, two_way(np.full((50, 1), 0.2)), (100.0, 250.0))
    assert 0.15 < low < 0.2 < high < 0.26


def test_more_labels_narrow_the_interval_and_a_wider_population_widens_it():
    rng = np.random.default_rng(0)
    few, many = (correct(sample(Y * k, F * k), 0.2) for k in (1, 4))
    narrow, wide = (two_way((rng.random((250, s)) < 0.2).astype(float)) for s in (5, 2))

    def width(found, population):
        low, high = corrected_limits(found, population, (400.0, 1250.0))
        return high - low

    assert width(many, narrow) < width(few, narrow) < width(few, wide)


@given(st.integers(1, 400), st.lists(st.integers(0, 300), min_size=6, max_size=6).filter(any))
def test_an_allocation_spends_all_that_can_be_spent(budget, sizes):
    given_ = allocate(budget, sizes)
    assert sum(given_) == min(budget, sum(sizes))
    assert all(0 <= count <= size for count, size in zip(given_, sizes, strict=True))
    least = min(FLOOR, budget // sum(size > 0 for size in sizes))
    assert all(count >= min(size, least) for count, size in zip(given_, sizes, strict=True))


@given(
    st.integers(1, 400),
    st.integers(1, 60),
    st.lists(st.integers(0, 300), min_size=6, max_size=6).filter(any),
)
def test_a_greater_budget_takes_no_label_away(budget, more, sizes):
    assert all(np.array(allocate(budget + more, sizes)) >= allocate(budget, sizes))


def test_rounding_takes_no_label_away():
    sizes = [30, 0, 37, 13, 38, 17]
    assert all(
        np.diff([allocate(budget, sizes) for budget in range(1, 140)], axis=0).min(axis=0) >= 0
    )


def planted(seeds=3, n=60, **more):
    rng = np.random.default_rng(3)
    return study(rng, rates=(0.1, 0.3), judge=DIFFERENTIAL, n=n, seeds=seeds, **more)


def test_a_draw_is_the_same_by_seed_and_grows_without_losing_any():
    table, _ = planted()
    one, again, more, other = (
        draw_labels(table, plan(3), n, seed) for n, seed in ((80, 1), (80, 1), (160, 1), (80, 2))
    )
    assert np.array_equal(one.rows, again.rows)
    assert set(one.rows) < set(more.rows)
    assert set(one.rows) != set(other.rows)
    assert [count for _, _, count in one.groups] == [40, 40]


def test_probabilities_weigh_the_draw_back_to_the_population():
    table, _ = planted()
    totals = [
        sum(1 / draw.probability)
        for draw in (draw_labels(table, plan(3), 100, seed) for seed in range(5))
    ]
    assert totals == pytest.approx([240] * 5)


def test_incoherent_responses_are_drawn_more_often():
    table, _ = planted(n=200)
    coherent = table.columns["coherent"].copy()
    coherent[::25] = 0
    odd = Table(columns={**table.columns, "coherent": coherent}, scores={}, names=table.names)
    drawn = draw_labels(odd, plan(3), 200, 0)
    assert (coherent[drawn.rows] == 0).mean() > 2 * (coherent == 0).mean()


def test_what_has_no_answer_is_not_drawn_and_counts_as_not_harmful():
    table, truth = planted(n=100)
    finish = table.columns["finish"].copy()
    finish[::4] = NONE
    part = Table(columns={**table.columns, "finish": finish}, scores={}, names=table.names)
    drawn = draw_labels(part, plan(3), 300, 0)
    assert (finish[drawn.rows] != NONE).all()
    result = measure_table(labelled(part, truth & (finish != NONE), plan(3), 300, 0), plan(3))
    base = result.settings[0].condition("base")
    real = (truth & (finish != NONE))[table.columns["model"] == 0].mean()
    assert base.labels.asr.overall.estimate == pytest.approx(real, abs=0.02)


def test_a_draw_smaller_than_its_groups_is_refused():
    table, _ = planted()
    with pytest.raises(InputError, match="fewer than the 2 groups"):
        draw_labels(table, plan(3), 1, 0)


def test_fewer_than_fifty_labels_correct_nothing_and_say_why():
    table, truth = planted()
    result = measure_table(labelled(table, truth, plan(3), 98, 0), plan(3)).settings[0]
    for condition in result.conditions:
        found = condition.labels.asr.overall
        assert (found.estimate, found.interval) == (None, None)
        assert str(found.uncorrected) == "49 labels; 50 are needed"
        assert found.labels_only_interval.low < found.labels_only < found.labels_only_interval.high
    change = result.condition("tuned").labels.asr_change.overall
    assert str(change.uncorrected) == "fine-tune: 49 labels; 50 are needed"


def test_labels_of_every_response_give_the_truth():
    table, truth = planted(n=40)
    result = measure_table(labelled(table, truth, plan(3), 10_000, 0), plan(3)).settings[0]
    models = table.columns["model"]
    assert result.condition("tuned").labels.asr.overall.estimate == pytest.approx(
        truth[models > 0].mean()
    )


def test_tasks_are_corrected_by_their_own_labels():
    rng = np.random.default_rng(4)
    table, truth = study(
        rng, rates=([0.05, 0.3], [0.1, 0.6]), judge=DIFFERENTIAL, n=80, seeds=2, tasks=2
    )
    result = (
        measure_table(labelled(table, truth, plan(2), 400, 0), plan(2))
        .settings[0]
        .condition("tuned")
    )
    models, tasks = table.columns["model"], table.columns["task"]
    for task in (0, 1):
        found = result.labels.asr.by_task[f"task-{task}"]
        assert (
            found.interval.low
            <= truth[(models > 0) & (tasks == task)].mean()
            <= found.interval.high
        )


def replicate(count, *, rates, judge, n, seeds, labels, **more):
    """Return over replicates: raw and corrected changes, whether corrected intervals cover, whether errors differ."""
    rng, declared = np.random.default_rng(21), plan(seeds)
    rows = []
    for seed in range(count):
        table, truth = study(rng, rates=rates, judge=judge, n=n, seeds=seeds, **more)
        found = measure_table(labelled(table, truth, declared, labels, seed), declared).settings[0]
        base, tuned = found.condition("base"), found.condition("tuned")
        pairs = (
            (base.labels.asr.overall, rates[0]),
            (tuned.labels.asr.overall, rates[1]),
            (tuned.labels.asr_change.overall, rates[1] - rates[0]),
            (tuned.asr.overall, rates[1]),
            (tuned.asr_change.overall, rates[1] - rates[0]),
        )
        covers = [figure.interval.low <= truth_ <= figure.interval.high for figure, truth_ in pairs]
        estimates = [figure.estimate for figure, _ in pairs]
        rows.append([*estimates, *covers, tuned.labels.against_base.differs])
    return np.mean(rows, axis=0)


# A judge that errs more on the fine-tune (.80/.85 after .90/.97) makes a rise of 9.5 points out of nothing.
def test_planted_errors_mislead_the_raw_change_and_not_the_corrected_one():
    found = replicate(30, rates=(0.1, 0.1), judge=DIFFERENTIAL, n=250, seeds=5, labels=200)
    expected = 0.1 * 0.80 + 0.9 * 0.15 - (0.1 * 0.90 + 0.9 * 0.03)
    assert found[4] == pytest.approx(expected, abs=0.015)
    assert found[2] == pytest.approx(0.0, abs=0.02)
    assert found[9] <= 0.2  # the raw interval misses
    assert found[7] >= 0.9
    assert found[10] >= 0.5  # and it is said that the judge errs differently


def test_equal_errors_are_not_called_different():
    found = replicate(30, rates=(0.1, 0.3), judge=EQUAL, n=100, seeds=3, labels=200)
    assert found[10] <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rates", "judge", "n", "seeds", "labels", "more"),
    [
        ((0.20, 0.20), EQUAL, 250, 5, 200, {}),
        ((0.20, 0.20), EQUAL, 250, 5, 200, {"sd_seed": 0.8}),
        ((0.05, 0.05), Judge((0.85, 0.97), (0.85, 0.97)), 250, 5, 200, {}),
        ((0.10, 0.10), DIFFERENTIAL, 250, 5, 200, {}),
        ((0.10, 0.30), DIFFERENTIAL, 250, 5, 200, {}),
        ((0.10, 0.30), DIFFERENTIAL, 250, 1, 200, {"sd_seed": 0.0}),
        ((0.10, 0.30), DIFFERENTIAL, 50, 3, 200, {"tasks": 4}),
        ((0.10, 0.20), DIFFERENTIAL, 100, 3, 400, {}),
    ],
)
def test_corrected_intervals_cover_the_truth(rates, judge, n, seeds, labels, more):
    found = replicate(1000, rates=rates, judge=judge, n=n, seeds=seeds, labels=labels, **more)
    assert (found[5:8] >= 0.93).all()
    assert found[1] == pytest.approx(rates[1], abs=0.01)
    assert found[2] == pytest.approx(rates[1] - rates[0], abs=0.01)


FAIR, UNSURE = Judge((0.95, 0.97), (0.95, 0.97)), tuple(LabelValue).index(LabelValue.UNDECIDED)
UNEVEN = MeasurePlan(
    conditions=(
        Condition(name="base", models=("base",)),
        Condition(name="a", models=("a",), base="base"),
    ),
    judges=("rules",),
)


def uneven():
    """Tasks of 240 and 60 prompts, at 50 and 0 % in the fine-tune: 25 % overall, where 40 % of the responses are harmful."""
    table = apart((240, 60), shares((240, 60), (0.1, 0.1)), shares((240, 60), (0.5, 0.0)))
    return table, table.columns["verdict:rules"] == table.columns["verdict:rules"].min()


def of(table, plan_, name):
    return measure_table(table, plan_).settings[0].condition(name)


def relabelled(table, chosen, value):
    labels = np.where(
        chosen & (table.columns["label:anna"] != NONE), value, table.columns["label:anna"]
    )
    return Table(
        columns={**table.columns, "label:anna": labels}, scores=table.scores, names=table.names
    )


def test_labels_alone_estimate_the_same_quantity_as_the_corrected_rate():
    table, harmful = uneven()
    assert harmful[table.columns["model"] == 1].mean() == pytest.approx(0.4)
    every = of(labelled(table, harmful, UNEVEN, 10_000, 0), UNEVEN, "a").labels.asr.overall
    assert every.labels_only == pytest.approx(every.estimate)
    assert every.labels_only == pytest.approx(0.25)
    few = [
        of(labelled(table, harmful, UNEVEN, 160, seed), UNEVEN, "a").labels.asr.overall
        for seed in range(24)
    ]
    assert np.mean([found.labels_only for found in few]) == pytest.approx(0.25, abs=0.02)
    assert (
        np.mean(
            [
                found.labels_only_interval.low <= 0.25 <= found.labels_only_interval.high
                for found in few
            ]
        )
        >= 0.9
    )


def test_labels_alone_count_what_has_no_answer_as_the_corrected_rate_does():
    table, truth = study(np.random.default_rng(1), rates=(0.2, 0.4), judge=FAIR, n=100, seeds=2)
    finish = table.columns["finish"].copy()
    finish[::4] = NONE
    part = Table(columns={**table.columns, "finish": finish}, scores={}, names=table.names)
    found = of(
        labelled(part, truth & (finish != NONE), plan(2), 10_000, 0), plan(2), "tuned"
    ).labels.asr.overall
    assert found.labels_only == pytest.approx(found.estimate)


@pytest.fixture(scope="module")
def unsure():
    """A study with all labels, of which a tenth in each arm that were not harmful say undecided."""
    table, truth = study(np.random.default_rng(2), rates=(0.1, 0.3), judge=FAIR, n=200, seeds=5)
    sure = labelled(table, truth, plan(5), 10_000, 0)
    chosen = ~truth & (np.arange(len(truth)) % 10 == 3)
    return sure, relabelled(sure, chosen, UNSURE), truth, chosen


def test_undecided_labels_leave_the_estimate_and_widen_its_bounds(unsure):
    sure, open_, truth, chosen = unsure
    arms = [of(table, plan(5), "tuned").labels for table in (sure, open_)]
    tuned, base = (open_.columns["model"] > 0), (open_.columns["model"] == 0)
    before, after = (arm.asr.overall for arm in arms)
    assert (before.undecided, before.bounds) == (0, None)
    assert after.estimate == pytest.approx(before.estimate)
    assert after.undecided == (chosen & tuned).sum()
    assert after.bounds.low == pytest.approx(after.interval.low)
    assert after.bounds.high > max((truth | chosen)[tuned].mean(), after.interval.high)
    low, high = arms[1].asr_change.overall.bounds
    assert arms[0].asr_change.overall.bounds is None
    assert low == pytest.approx(truth[tuned].mean() - (truth | chosen)[base].mean())
    assert high == pytest.approx((truth | chosen)[tuned].mean() - truth[base].mean())


def test_undecided_labels_are_no_errors_of_the_judge(unsure):
    sure, open_, _, chosen = unsure
    one, other = (of(table, plan(5), "tuned").labels.judges["judge"] for table in (sure, open_))
    everything = [
        found.both + found.judge_only + found.annotators_only + found.neither
        for found in (one, other)
    ]
    assert everything[0] - everything[1] == (chosen & (open_.columns["model"] > 0)).sum()
    assert other.specificity == pytest.approx(one.specificity, abs=0.02)
    assert other.annotators_only == one.annotators_only


def test_undecided_labels_decide_no_verdict(unsure):
    sure, open_, _, _ = unsure
    one, other = (
        labels_verdict(table, plan(5), gate(table, plan(5), "base", "tuned")).lines[0]
        for table in (sure, open_)
    )
    assert other.change == pytest.approx(one.change)
    assert other.upper > one.upper + 0.05
    assert other.lower < one.lower - 0.05


def test_corrected_changes_belong_to_the_families_of_the_judges(unsure):
    rng = np.random.default_rng(6)
    table, truth = study(rng, rates=([0.1, 0.1], [0.12, 0.25]), judge=FAIR, n=150, seeds=4, tasks=2)
    first, second = (
        replace(
            plan(4).condition("tuned"), name=name, models=plan(4).condition("tuned").models[part]
        )
        for name, part in (("one", slice(0, 2)), ("two", slice(2, 4)))
    )
    both = replace(
        plan(4), conditions=(plan(4).condition("base"), first, second), families=("task",)
    )
    result = measure_table(labelled(table, truth, both, 10_000, 0), both).settings[0]
    labels = [result.condition(name).labels.asr_change for name in ("one", "two")]
    overall = [found.overall for found in labels]
    assert [found.adjustment for found in overall] == ["Holm over fine-tunes"] * 2
    assert [found.p_adjusted for found in overall] == pytest.approx(
        holm([found.p_value for found in overall])
    )
    tasks = list(labels[0].by_task.values())
    assert [found.adjustment for found in tasks] == ["Holm over tasks"] * 2
    assert [found.p_adjusted for found in tasks] == pytest.approx(
        holm([found.p_value for found in tasks])
    )
    alone = of(unsure[0], plan(5), "tuned").labels.asr_change.overall
    assert (alone.p_adjusted, alone.adjustment) == (None, None)
