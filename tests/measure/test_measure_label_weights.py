"""Labels stand for their share of a figure; what people leave undecided is bounds, not a label; families are adjusted."""

from dataclasses import replace

import numpy as np
import pytest
from measure_tables import apart, shares
from planted_judge import Judge, labelled, plan, study

from aftertune.core.records import LabelValue
from aftertune.core.table import NONE, Table
from aftertune.measure.gate_labels import labels_verdict
from aftertune.measure.intervals import holm
from aftertune.measure.measure import measure
from aftertune.measure.plan import Condition, MeasurePlan

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
    return measure(table, plan_).settings[0].condition(name)


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
        labels_verdict(table, plan(5), "base", "tuned").lines[0] for table in (sure, open_)
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
    result = measure(labelled(table, truth, both, 10_000, 0), both).settings[0]
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
