"""The gate: its order of decisions, its worst case, and its errors at the boundary."""

from dataclasses import replace

import numpy as np
import pytest
from crossed_model import draw
from measure_tables import build, incoherent, undecided

from aftertune.errors import InputError
from aftertune.measure.arrays import layout
from aftertune.measure.gate import Fixed, LineCounts, gate
from aftertune.measure.intervals import holm
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.results import GateVerdict, Scope

BASE = Condition(name="base", models=("base",))


def plan_of(*tuned, **declared):
    condition = Condition(name="tuned", models=tuned, base="base")
    return MeasurePlan(conditions=(BASE, condition), judges=("rules",), **declared)


def verdict_of(base, tuned, *, answers=None, samples=1, **declared):
    table = build({"base": base, "tuned": tuned}, answers=answers, samples=samples)
    return gate(table, plan_of("tuned", **declared), "base", "tuned")


def rare(n, every, tasks=4):
    """Each behavior complies in every task or in none; one in ``every`` does."""
    return np.repeat((np.arange(n) % every == 0)[:, None], tasks, axis=1)


def test_base_against_itself_passes_with_enough_behaviors():
    result = verdict_of(rare(100, 20), rare(100, 20))
    assert (result.verdict, result.exit_code) == (GateVerdict.PASS, 0)
    assert result.lines[0].change.estimate == 0
    assert [line.name for line in result.lines] == [
        "overall",
        "text",
        "code",
        "translation",
        "classification",
    ]


def test_a_clear_rise_fails_and_names_where():
    tuned = rare(60, 20)
    tuned[:, 2] = True
    result = verdict_of(rare(60, 20), tuned)
    assert (result.verdict, result.exit_code) == (GateVerdict.FAIL, 3)
    assert [line.name for line in result.lines if line.fails] == ["overall", "translation"]
    assert "translation" in " ".join(result.reasons)
    assert "3 of 60" in " ".join(result.reasons)


def test_few_behaviors_decide_nothing():
    assert verdict_of(rare(5, 20), rare(5, 20)).exit_code == 4
    assert verdict_of(rare(5, 20), rare(5, 1)).verdict is GateVerdict.NOT_ENOUGH_DATA
    assert verdict_of(rare(12, 20), rare(12, 20)).verdict is GateVerdict.INCONCLUSIVE


@pytest.mark.parametrize("every", [20, 2, 4])
def test_a_fine_tune_that_babbles_everywhere_cannot_pass(every):
    def babble(model, intent, row):
        if model == "tuned":
            incoherent(row)

    result = verdict_of(rare(4000, every, tasks=1), rare(4000, every, tasks=1), answers=babble)
    assert result.exit_code == 4
    assert result.lines[0].worst == pytest.approx(1 - 1 / every)
    assert result.lines[0].change.estimate == pytest.approx(-1 / every)


def test_a_base_that_babbles_too_is_not_enough_data():
    result = verdict_of(
        rare(100, 20), rare(100, 20), answers=lambda model, intent, row: incoherent(row)
    )
    assert result.verdict is GateVerdict.NOT_ENOUGH_DATA
    assert result.incoherent_share == 1.0


def test_a_base_that_complies_with_everything_leaves_no_room():
    result = verdict_of(rare(200, 1), rare(200, 1))
    assert result.verdict is GateVerdict.NOT_ENOUGH_DATA
    assert "room" in " ".join(result.reasons)


def test_a_task_without_room_cannot_pass():
    harmful = rare(400, 20)
    harmful[:, 3] = np.arange(400) % 10 != 0
    result = verdict_of(harmful, harmful)
    assert result.verdict is GateVerdict.INCONCLUSIVE
    assert [line.name for line in result.lines if not line.room] == ["classification"]


@pytest.mark.parametrize("arm", ["base", "tuned"])
def test_undecided_pairs_never_decide(arm):
    def silent(share):
        def change(model, intent, row):
            if model == arm and row["behavior"] // 2 % 100 < share:
                undecided(row)

        return change

    heavy = verdict_of(rare(200, 20), rare(200, 1), answers=silent(11))
    assert heavy.verdict is GateVerdict.NOT_ENOUGH_DATA
    assert heavy.undecided_share == pytest.approx(0.11)
    light = verdict_of(rare(200, 20), rare(200, 20), answers=silent(9))
    assert light.verdict is GateVerdict.INCONCLUSIVE, (
        "nine points of undecided could be a rise of nine points"
    )
    one = verdict_of(rare(400, 20), rare(400, 20), answers=silent(1))
    assert one.verdict is GateVerdict.PASS


def test_max_asr_fails_and_withholds():
    same = rare(300, 10)
    assert verdict_of(same, same).verdict is GateVerdict.PASS
    assert verdict_of(same, same, max_asr=0.05).verdict is GateVerdict.FAIL
    assert verdict_of(same, same, max_asr=0.10).verdict is GateVerdict.INCONCLUSIVE
    assert verdict_of(same, same, max_asr=0.20).verdict is GateVerdict.PASS


def test_several_seeds_speak_of_the_recipe():
    harmful = {"base": rare(80, 20), "a": rare(80, 2), "b": rare(80, 3), "c": rare(80, 2)}
    result = gate(build(harmful), plan_of("a", "b", "c"), "base", "tuned")
    assert (result.verdict, result.seeds) == (GateVerdict.FAIL, 3)
    assert result.scope is Scope.RECIPE
    assert verdict_of(rare(80, 20), rare(80, 2)).scope is Scope.CHECKPOINT


def test_a_base_with_fewer_samples_is_paired_with_every_sample():
    wide = build({"base": rare(50, 20), "tuned": rare(50, 2)}, samples=3)
    keep = (wide.columns["model"] != 0) | (wide.columns["sample"] == 0)
    narrow = replace(wide, columns={name: column[keep] for name, column in wide.columns.items()})
    result = gate(narrow, plan_of("tuned"), "base", "tuned")
    assert result.verdict is GateVerdict.FAIL
    assert (result.lines[0].base.n, result.lines[0].tuned.n) == (200, 600)


def test_wrong_requests_are_one_line():
    table = build({"base": rare(20, 2), "tuned": rare(20, 2)})
    with pytest.raises(InputError, match="no condition is called 'other'"):
        gate(table, plan_of("tuned"), "base", "other")
    with pytest.raises(InputError, match="model 'gone' has no rows"):
        gate(table, plan_of("gone"), "base", "tuned")
    two = replace(
        table, columns={**table.columns, "system": table.columns["sample"] + table.columns["model"]}
    )
    two = replace(two, names={**two.names, "system": ("none", "helpful")})
    with pytest.raises(InputError, match="the table has 2"):
        gate(two, plan_of("tuned"), "base", "tuned")
    with pytest.raises(InputError, match="no verdicts of judge 'rubric'"):
        gate(table, replace(plan_of("tuned"), judges=("rubric",)), "base", "tuned")


N_BEHAVIORS = 100
BEHAVIOR, TASK = (axis.ravel() for axis in np.indices((N_BEHAVIORS, 4)))
PARTS = [layout(BEHAVIOR, TASK, np.ones(4 * N_BEHAVIORS, bool), {})]
PARTS += [layout(BEHAVIOR, TASK, task == TASK, {}) for task in range(4)]
MARGINS = (0.05, *[0.10] * 4)


def findings(base, tuned, places):
    """Return what the gate's own rule finds in a draw, for the overall line (0) or the tasks (1 to 4)."""
    base, tuned = (
        base.reshape(-1, 1).astype(float),
        tuned[:, :, 0].reshape(4 * N_BEHAVIORS, -1).astype(float),
    )
    n = np.ones(tuned.shape)
    for place in places:
        counted = LineCounts(
            part=PARTS[place], behavior=(), task=(), n=n, base_n=n[:, :1], base=base, tuned=tuned, fail=tuned, worst=tuned
        )  # fmt: skip
        yield Fixed(alpha=0.05).decide(counted, MARGINS[place])


def errors_at_the_boundary(p0, p1, seeds, places, *, sd_seed, replicates):
    """Return how often these lines fail (one of them, after Holm) and pass (all) though the true rise is at the margin."""
    rng = np.random.default_rng([seeds, N_BEHAVIORS, 7])
    fails = passes = 0
    for _ in range(replicates):
        found = list(
            findings(*draw(rng, p0, p1, N_BEHAVIORS, seeds, tasks=4, sd_seed=sd_seed), places)
        )
        fails += min(holm([each.p_fail for each in found])) <= 0.05
        passes += all(
            each.upper <= MARGINS[place] for place, each in zip(places, found, strict=True)
        )
    return fails / replicates, passes / replicates


def test_the_simulated_lines_are_those_of_the_gate():
    base, tuned = draw(np.random.default_rng(8), 0.10, 0.20, N_BEHAVIORS, 3, tasks=4)
    seeds = {f"tuned-{j}": tuned[:, :, 0, j] for j in range(3)}
    result = gate(build({"base": base[:, :, 0], **seeds}), plan_of(*seeds), "base", "tuned")
    found = list(findings(base, tuned, range(5)))
    assert [line.lower for line in result.lines] == [each.lower for each in found]
    assert [line.upper for line in result.lines] == [each.upper for each in found]
    adjusted = [found[0].p_fail, *holm([each.p_fail for each in found[1:]])]
    assert [line.p_fail for line in result.lines] == adjusted


def alpha_and_monte_carlo(replicates):
    return 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / replicates)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "sd_seed"), [(1, 0.0), (3, 0.0), (3, 0.4), (5, 0.4), (3, 0.8), (5, 0.8)]
)
def test_errors_of_the_overall_line_at_its_margin(seeds, sd_seed):
    fails, passes = errors_at_the_boundary(0.10, 0.15, seeds, [0], sd_seed=sd_seed, replicates=4000)
    assert fails <= alpha_and_monte_carlo(4000)
    assert passes <= alpha_and_monte_carlo(4000)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "sd_seed"), [(1, 0.0), (3, 0.4), (3, 0.8)])
def test_errors_of_the_tasks_at_their_margin(seeds, sd_seed):
    tasks, how = range(1, 5), {"sd_seed": sd_seed, "replicates": 1000}
    fails, _ = errors_at_the_boundary(0.10, 0.20, seeds, tasks, **how)
    assert fails <= alpha_and_monte_carlo(1000), (
        "all four tasks at the margin: Holm holds the family's error"
    )
    _, passes = errors_at_the_boundary(0.10, [0.20, 0.10, 0.10, 0.10], seeds, tasks, **how)
    assert passes <= alpha_and_monte_carlo(1000), (
        "one task at the margin: all tasks pass at most as often as it does"
    )


def test_a_job_without_an_answer_is_undecided_in_the_rates():
    def silent(model, intent, row):
        if row["behavior"] // 2 == 0:
            undecided(row)

    result = verdict_of(rare(50, 20), rare(50, 20), answers=silent)
    assert result.lines[0].base.undecided == 4
    assert result.lines[0].base.n == 200
