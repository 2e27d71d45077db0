"""Labels correct every figure that stands on enough of them: sets, hazards, guards, judges and over-refusal."""

import numpy as np
import pytest
from planted_judge import Judge
from planted_study import BENIGN, FALSE_BLOCKS, GUARD, declared, planted, with_labels

from aftertune.errors import InputError
from aftertune.measure.consistency import consistency
from aftertune.measure.label_draw import draw_labels
from aftertune.measure.measure import measure
from aftertune.measure.outcomes import BENIGN_STRATA, strata

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
    found = measure(with_labels(study, plan, labels, benign, 0), plan).settings[0]
    return found.condition("base"), found.condition("tuned")


def real(study, chosen, truth=None):
    """Return the true share of some rows."""
    return (study.truth if truth is None else truth)[chosen].mean()


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
    assert (strata(study.table, plan)[other] >= len(BENIGN_STRATA)).all()
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
            measure(with_labels(study, plan, labels, benign, seed), plan)
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
