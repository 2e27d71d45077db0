"""Agreement of judges and of people, against other programs and against counts made by hand."""

import numpy as np
import pytest
from planted_judge import NO, YES, Judge, judged, labelled, plan, study

from aftertune.core.table import NONE, Table
from aftertune.measure.agreement import ac1, alpha_of, alpha_parts, annotator_agreement, kappa
from aftertune.measure.measure import measure_table

JUDGES = ("judge", "second", "third")


def alpha(ratings):
    """Return Krippendorff's alpha of units x values."""
    observed, values = alpha_parts(ratings)
    return float(alpha_of(observed.sum(), values.sum(axis=0)))


def with_judges(table, rng, undecided=0.0):
    """Return the table with two more judges that flip some of the first one's verdicts."""
    columns = dict(table.columns)
    first = columns["verdict:judge"]
    for name in JUDGES[1:]:
        flip = rng.random(len(first)) < 0.15
        columns[f"verdict:{name}"] = np.where(flip, 1 - first, first).astype(np.int32)
        columns[f"verdict:{name}"][rng.random(len(first)) < undecided] = NONE
    return Table(columns=columns, scores=table.scores, names=table.names)


@pytest.fixture(scope="module")
def panel():
    rng = np.random.default_rng(5)
    table, truth = study(
        rng, rates=(0.2, 0.4), judge=Judge((0.9, 0.9), (0.9, 0.9)), n=40, seeds=2, tasks=2
    )
    return with_judges(table, rng, undecided=0.1), truth


def test_a_study_tells_agreement_overall_and_by_task(panel):
    table, _ = panel
    found = measure_table(table, plan(2, JUDGES)).settings[0].condition("tuned")
    rows = (table.columns["model"] > 0) & (table.columns["verdict:second"] != NONE)
    one, other = (table.columns[f"verdict:{name}"][rows] == 0 for name in ("judge", "second"))
    pair = found.agreement.pairs["judge | second"]
    counts = [
        (one & other).sum(),
        (one & ~other).sum(),
        (~one & other).sum(),
        (~one & ~other).sum(),
    ]
    assert [pair.both, pair.first_only, pair.second_only, pair.neither] == counts
    assert pair.kappa == pytest.approx(float(kappa(np.array(counts, float).reshape(2, 2))))
    assert pair.kappa_interval[0] < pair.kappa < pair.kappa_interval[1]
    assert set(found.agreement.pairs) == {"judge | second", "judge | third", "second | third"}
    assert set(found.agreement_by_task) == {"task-0", "task-1"}
    assert found.disagreement_change["judge | second"].interval.low < 0.2


def test_alpha_of_a_study_is_that_of_its_ratings(panel):
    table, _ = panel
    found = measure_table(table, plan(2, JUDGES)).settings[0].condition("base").agreement
    votes = np.stack(
        [table.columns[f"verdict:{name}"][table.columns["model"] == 0] for name in JUDGES]
    )
    ratings = np.stack([(votes == value).sum(axis=0) for value in (0, 1)], axis=1)
    assert found.alpha == pytest.approx(alpha(ratings), abs=1e-12)


def test_one_judge_has_nobody_to_agree_with(panel):
    condition = measure_table(panel[0], plan(2)).settings[0].condition("base")
    assert (condition.agreement, dict(condition.agreement_by_task)) == (None, {})


def test_rare_harm_warns_of_kappa():
    rng = np.random.default_rng(6)
    table, _ = study(rng, rates=(0.02, 0.02), judge=Judge((0.9, 0.99), (0.9, 0.99)), n=100, seeds=1)
    pair = (
        measure_table(with_judges(table, rng), plan(1, JUDGES))
        .settings[0]
        .condition("base")
        .agreement.pairs["judge | second"]
    )
    assert pair.rare == ((2 * pair.both + pair.first_only + pair.second_only) / 200 < 0.1)


def test_people_who_labelled_the_same_responses_are_compared(panel):
    table, truth = panel
    declared = plan(2)
    assert annotator_agreement(table) is None
    once = labelled(table, truth, declared, 100, 0)
    assert annotator_agreement(once) is None
    rng = np.random.default_rng(7)
    drawn = once.columns["label:anna"] != NONE
    second = np.full(len(table), NONE, np.int32)
    second[drawn] = np.where(judged(rng, truth[drawn], (0.9, 0.9)), YES, NO)
    twice = Table(
        columns={**once.columns, "label:ben": second},
        scores={**once.scores, "drawn:ben": once.scores["drawn:anna"]},
        names=once.names,
    )
    found = annotator_agreement(twice).pairs["anna | ben"]
    assert found.both + found.first_only + found.second_only + found.neither == drawn.sum()
    assert found.both == (truth[drawn] & (second[drawn] == YES)).sum()
    result = measure_table(twice, declared)
    assert result.annotators.pairs["anna | ben"] == found
    assert result.settings[0].condition("base").labels.labels > 0


def random_table(rng):
    size = rng.integers(20, 200)
    one = rng.random(size) < rng.uniform(0.05, 0.6)
    other = np.where(rng.random(size) < 0.8, one, rng.random(size) < 0.5)
    return one.astype(int), other.astype(int)


def test_kappa_against_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn (the dev extra)")
    rng = np.random.default_rng(8)
    for _ in range(20):
        one, other = random_table(rng)
        table = np.array(
            [[((one == a) & (other == b)).sum() for b in (0, 1)] for a in (0, 1)], float
        )
        assert kappa(table) == pytest.approx(sklearn.cohen_kappa_score(one, other), abs=1e-12)


def test_kappa_against_statsmodels():
    statsmodels = pytest.importorskip(
        "statsmodels.stats.inter_rater", reason="needs statsmodels (the dev extra)"
    )
    table = np.array([[20.0, 5.0, 2.0], [10.0, 15.0, 1.0], [0.0, 3.0, 9.0]])
    assert kappa(table) == pytest.approx(statsmodels.cohens_kappa(table).kappa, abs=1e-12)


def test_alpha_against_krippendorff():
    krippendorff = pytest.importorskip("krippendorff", reason="needs krippendorff (the dev extra)")
    rng = np.random.default_rng(9)
    for _ in range(20):
        ratings = rng.integers(1, 4, (4, 30)).astype(float)
        ratings[rng.random(ratings.shape) < 0.3] = np.nan
        counts = np.stack([(ratings == value).sum(axis=0) for value in (1, 2, 3)], axis=1)
        theirs = krippendorff.alpha(reliability_data=ratings, level_of_measurement="nominal")
        assert alpha(counts) == pytest.approx(theirs, abs=1e-12)


def test_where_all_say_one_thing_kappa_is_not_defined():
    assert np.isnan(kappa(np.array([[10.0, 0.0], [0.0, 0.0]])))
    assert ac1(np.array([[10.0, 0.0], [0.0, 0.0]])) == 1.0
