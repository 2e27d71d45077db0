"""Corpus metrics against sacrebleu and scikit-learn; fine-tunes against each other; win-rates; equal capability."""

from dataclasses import replace

import numpy as np
import pytest
from measure_tables import build

from aftertune.core.table import BLEU, LABELS, NONE, WINS, counted
from aftertune.measure.arrays import fold, layout
from aftertune.measure.bootstrap import macro_f1
from aftertune.measure.capability import Corpus, corpus_bleu
from aftertune.measure.contrasts import Unshared, unshared
from aftertune.measure.counts import Source, SourceKind
from aftertune.measure.crossed import two_way
from aftertune.measure.measure import measure_table
from aftertune.measure.plan import Condition, Match, MeasurePlan
from aftertune.measure.results import Scope

HYPOTHESES = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
REFERENCES = ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."]


def plan_of(**more):
    conditions = (
        Condition(name="base", models=("base",)),
        Condition(name="a", models=("a1", "a2", "a3"), base="base", training_seeds=(1, 2, 3)),
    )
    return MeasurePlan(**{"conditions": conditions, "judges": ("rules",), "min_cell": 3} | more)


def with_words(table, scorer, words, scores):
    """Add a scorer's counts and scores (one a row) to a table."""
    distinct = tuple(sorted(set(words) - {""}))
    codes = np.array([distinct.index(word) if word else NONE for word in words], np.int32)
    return replace(
        table,
        columns={**table.columns, f"score_label:{scorer}": codes},
        scores={**table.scores, f"score:{scorer}": np.asarray(scores, float)},
        names={**table.names, f"score_label:{scorer}": distinct},
    )


def small_table(models=("base", "a1", "a2", "a3"), behaviors=12):
    none = {model: np.zeros((behaviors, 1)) for model in models}
    return build(none, benign=none)


def test_corpus_bleu_is_sacrebleus_also_where_no_ngram_of_an_order_matches():
    from sacrebleu.metrics.bleu import BLEU as METRIC

    metric = METRIC()
    for hypotheses in (
        HYPOTHESES,
        ["The man"] * 3,
        ["nothing of it at all here"] * 3,
        ["The dog", "", "a b c d e"],
    ):
        each = [
            metric.corpus_score([h], [[r]]) for h, r in zip(hypotheses, REFERENCES, strict=True)
        ]
        totals = np.sum(
            [[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in each],
            axis=0,
            dtype=float,
        )
        expected = metric.corpus_score(hypotheses, [REFERENCES]).score / 100
        assert corpus_bleu(totals[None, :])[0] == pytest.approx(expected, abs=1e-12)


def test_a_study_has_macro_f1_of_scikit_learn_and_its_share_of_invalid_labels():
    from sklearn.metrics import f1_score

    table, rng = small_table(behaviors=40), np.random.default_rng(3)
    right = np.array(["good", "bad", "odd"])[table.columns["behavior"] % 3]
    given = np.where(
        rng.random(len(table)) < 0.7,
        right,
        np.array(["good", "bad", None])[rng.integers(0, 3, len(table))],
    )
    benign = table.columns["intent"] == 1
    words = [
        counted(LABELS, [r, g]) if b else ""
        for r, g, b in zip(right.tolist(), given.tolist(), benign, strict=True)
    ]
    scores = np.where(benign, right == given, np.nan)
    result = measure_table(with_words(table, "labels", words, scores), plan_of(metrics=("labels",)))
    tuned = result.settings[0].condition("a")
    rows = benign & (table.columns["model"] > 0)
    said = [label or "none" for label in given[rows]]
    expected = f1_score(right[rows], said, labels=["good", "bad", "odd"], average="macro")
    f1 = tuned.capability["labels macro-F1"].overall
    assert f1.estimate == pytest.approx(expected)
    assert f1.interval.low < expected < f1.interval.high
    assert f1.interval.method == "pigeonhole bootstrap"
    invalid = tuned.capability["labels invalid"].overall
    assert invalid.estimate == pytest.approx(np.mean([label is None for label in given[rows]]))
    assert tuned.capability["labels"].overall.estimate == pytest.approx(
        np.mean(right[rows] == given[rows])
    )
    change = tuned.capability_change["labels macro-F1"].overall
    before = result.settings[0].condition("base").capability["labels macro-F1"].overall
    assert change.estimate == pytest.approx(f1.estimate - before.estimate)
    assert change.interval.low < 0 < change.interval.high
    assert change.p_value > 0.05


def test_macro_f1_of_a_part_knows_nothing_of_the_labels_of_other_parts():
    corpus = Corpus(
        name="labels macro-F1",
        source=Source(SourceKind.CORPUS, "labels"),
        tallies=(),
        figure=lambda totals: macro_f1([totals]),
        by_label=True,
    )
    cells = np.zeros((2, 1, 9))
    cells[0, 0, :3], cells[1, 0, 3:6] = (
        (5, 0, 1),
        (3, 1, 0),
    )  # hit, false and missed; nobody asked for "law"
    (kept,) = corpus.occurring([cells])
    assert corpus.figure(kept.sum(axis=(0, 1))[None, :])[0] == pytest.approx((10 / 11 + 6 / 7) / 2)


def test_a_study_has_corpus_bleu_and_no_mean_of_it():
    table = small_table()
    benign = table.columns["intent"] == 1
    better = table.columns["model"] > 0
    word = {
        True: counted(BLEU, [6, 4, 3, 2, 7, 6, 5, 4, 7, 8]),
        False: counted(BLEU, [3, 1, 0, 0, 7, 6, 5, 4, 7, 8]),
    }
    words = [word[bool(tuned)] if b else "" for tuned, b in zip(better, benign, strict=True)]
    result = measure_table(
        with_words(table, "bleu", words, np.full(len(table), np.nan)), plan_of(metrics=("bleu",))
    )
    tuned, base = (result.settings[0].condition(name) for name in ("a", "base"))
    assert tuned.capability["bleu"].overall.n == 36
    one = {name: corpus_bleu(12 * np.array([counts], float))[0] for name, counts in (("a", [6, 4, 3, 2, 7, 6, 5, 4, 7, 8]), ("base", [3, 1, 0, 0, 7, 6, 5, 4, 7, 8]))}  # fmt: skip
    assert tuned.capability["bleu"].overall.estimate == pytest.approx(one["a"])
    assert base.capability["bleu"].overall.estimate == pytest.approx(one["base"])
    change = tuned.capability_change["bleu"].overall
    assert change.estimate == pytest.approx(one["a"] - one["base"])
    assert change.interval.low < change.estimate < change.interval.high, (
        "no variance seen is not no variance"
    )
    assert change.p_value < 0.05


def folded(matrix):
    matrix = np.asarray(matrix, float)
    n = len(matrix)
    plan = layout(np.arange(n), np.zeros(n, int), np.ones(n, bool), {})
    return fold(plan, matrix, np.ones_like(matrix))


def test_unshared_seeds_follow_the_formula_written_out():
    rng = np.random.default_rng(5)
    one, other = rng.integers(0, 2, (20, 3)), rng.integers(0, 2, (20, 4))
    found = unshared(folded(one), folded(other))
    a = [x.mean(axis=0).var(ddof=1) / x.shape[1] for x in (one, other)]
    w = (one.mean(axis=1) - other.mean(axis=1)).var(ddof=1) / 20
    i = [two_way(x.astype(float)).ms_interaction / (20 * x.shape[1]) for x in (one, other)]
    v = max(sum(a) + max(0.0, w - sum(i)), w)
    df = v**2 / (w**2 / 19 + sum(x**2 / (s - 1) for x, s in zip(a, (3, 4), strict=True)) + sum(x**2 / (19 * (s - 1)) for x, s in zip(i, (3, 4), strict=True)))  # fmt: skip
    assert found.estimate == pytest.approx(one.mean() - other.mean())
    assert found.variance == pytest.approx(v)
    assert found.df == pytest.approx(np.clip(df, 2, 19))


def test_one_seed_in_each_arm_is_the_paired_t_over_behaviors():
    from scipy import stats

    one, other = np.random.default_rng(1).random((2, 15, 1))
    found = unshared(folded(one), folded(other))
    expected = stats.ttest_rel(one[:, 0], other[:, 0]).confidence_interval(0.95)
    assert found.interval(0.05) == pytest.approx((expected.low, expected.high))


def test_arms_that_are_all_equal_keep_the_width_of_nothing_seen():
    low, high = unshared(folded(np.zeros((20, 3))), folded(np.zeros((20, 2)))).interval(0.05)
    assert -low == high > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "n", "spread"), [((3, 3), 50, 0.05), ((5, 3), 200, 0.05), ((3, 3), 50, 0.0)]
)
def test_unshared_intervals_cover(seeds, n, spread):
    rng, hits, draws = np.random.default_rng(11), 0, 1000
    for _ in range(draws):
        level = np.clip(rng.beta(1.2, 3, n), 0.02, 0.98)
        arms = []
        for count, shift in zip(seeds, (0.0, -0.1), strict=True):
            seed = rng.normal(0, spread, count)
            p = np.clip(
                level[:, None] + shift * level[:, None] / level.mean() + seed[None, :], 0, 1
            )
            arms.append((rng.random((n, count)) < p).astype(float))
        low, high = unshared(folded(arms[1]), folded(arms[0])).interval(0.05)
        hits += low <= -0.1 <= high
    assert 0.93 <= hits / draws <= 0.995


def wins_table(shares):
    """Pairs of one fine-tune with one seed: (low, high) of each benign behavior."""
    table = small_table(models=("base", "a1"), behaviors=len(shares))
    due = (table.columns["intent"] == 1) & (table.columns["model"] == 1)
    words, scores = [], []
    for row, chosen in enumerate(due):
        low, high = shares[table.columns["pair"][row]]
        words.append(counted(WINS, [low, high, int(low != high)]) if chosen else "")
        scores.append((low + high) / 2 if chosen else np.nan)
    conditions = (
        Condition(name="base", models=("base",)),
        Condition(name="a", models=("a1",), base="base"),
    )
    return measure_table(
        with_words(table, "who", words, scores),
        plan_of(conditions=conditions, preferences=("who",)),
    )


def test_ties_alone_are_even_and_what_is_undecided_bounds():
    wins = (
        wins_table([(0.5, 0.5)] * 10 + [(0.0, 1.0)] * 2)
        .settings[0]
        .condition("a")
        .wins["who"]
        .overall
    )
    assert (wins.estimate, wins.n, wins.undecided, wins.p_value) == (0.5, 12, 2, 1.0)
    assert wins.bounds == pytest.approx((5 / 12, 7 / 12))


def test_a_clear_winner_excludes_one_half_and_its_base_has_no_win_rate():
    result = wins_table([(1.0, 1.0)] * 18 + [(0.0, 0.0)] * 2).settings[0]
    wins = result.condition("a").wins["who"].overall
    assert wins.estimate == pytest.approx(0.9)
    assert wins.interval.low > 0.5
    assert wins.p_value < 0.001
    assert result.condition("base").wins == {}


def epochs_study(learned, harm, match):
    """Two fine-tunes with three epochs each and two seeds; ``learned``, ``harm``: condition or model -> rates."""
    names = [
        f"{tune}{'' if epoch == 3 else f'@epoch{epoch}'}"
        for tune in ("a", "a+s")
        for epoch in (1, 2, 3)
    ]
    models = ["base", *(f"{name}/seed{seed}" for name in names for seed in (1, 2))]
    n = 20

    def of(rates, model):
        return rates.get(model, rates.get(model.partition("/")[0], 0))

    def rows(rate):
        return (np.arange(n) < round(rate * n)).astype(int)[:, None]

    harmful = {m: rows(of(harm, m)) for m in models}
    table = build(harmful, benign={m: np.zeros((n, 1)) for m in models})
    benign = table.columns["intent"] == 1
    right = [of(learned, table.names["model"][m]) for m in table.columns["model"]]
    scores = np.where(benign, (table.columns["pair"] + 0.5) / n < right, np.nan)
    table = replace(table, scores={**table.scores, "score:labels": scores})
    conditions = [Condition(name="base", models=("base",))]
    for name in names:
        tune, _, epoch = name.partition("@epoch")
        conditions.append(
            Condition(
                name=name,
                models=tuple(f"{name}/seed{seed}" for seed in (1, 2)),
                training_seeds=(1, 2),
                base="base",
                series=tune,
                factors={"epoch": int(epoch or 3)},
                unmitigated=name.replace("a+s", "a") if tune == "a+s" else None,
            )
        )
    return measure_table(
        table, plan_of(conditions=tuple(conditions), metrics=("labels",), match=match)
    ).settings[0]


LEARNED = {
    "a@epoch1": 0.85,
    "a@epoch2": 0.9,
    "a": 0.95,
    "a+s@epoch1": 0.5,
    "a+s@epoch2": 0.85,
    "a+s": 0.9,
}
HARM = {
    "a@epoch1": 0.3,
    "a@epoch2": 0.5,
    "a": 0.7,
    "a+s@epoch1": 0.1,
    "a+s@epoch2": 0.3,
    "a+s": 0.4,
}
AT_80 = Match(scorer="labels", target=0.8)


def test_each_fine_tune_is_compared_at_the_first_epoch_that_reaches_the_target():
    setting = epochs_study(LEARNED, HARM, AT_80)
    plain, mended = setting.matched.reached
    assert (plain.fine_tune, plain.epochs, plain.score) == ("a", 3, pytest.approx(0.85))
    assert [(seed.training_seed, seed.model, seed.epoch) for seed in plain.seeds] == [
        (1, "a@epoch1/seed1", 1), (2, "a@epoch1/seed2", 1),
    ]  # fmt: skip
    assert [seed.model for seed in mended.seeds] == ["a+s@epoch2/seed1", "a+s@epoch2/seed2"]
    assert plain.against is None
    assert mended.against.other == "a"
    assert mended.against.asr.overall.estimate == pytest.approx(0.0), (
        "at equal capability the mitigation bought nothing"
    )
    at_the_end = setting.condition("a+s").unmitigated
    assert at_the_end.other == "a"
    assert at_the_end.asr.overall.estimate == pytest.approx(-0.3), (
        "at a fixed epoch it looked safer"
    )
    assert at_the_end.asr.overall.interval.high < 0


def test_each_seed_is_stopped_by_its_own_score():
    """Seed 2 learns an epoch later; by the mean of the seeds both would stop at the second epoch."""
    slow = {"a@epoch1/seed2": 0.5, "a@epoch2/seed2": 0.9}
    plain, mended = epochs_study(LEARNED | slow, HARM, AT_80).matched.reached
    assert [(seed.model, seed.epoch) for seed in plain.seeds] == [
        ("a@epoch1/seed1", 1),
        ("a@epoch2/seed2", 2),
    ]
    assert plain.score == pytest.approx((0.85 + 0.9) / 2)
    assert (plain.asr.estimate, plain.asr.seeds) == (pytest.approx((0.3 + 0.5) / 2), 2)
    assert mended.against.asr.overall.estimate == pytest.approx(0.3 - 0.4)


def test_a_seed_that_never_reaches_the_target_is_left_out_and_told():
    never = {f"{name}/seed2": 0.1 for name in ("a@epoch1", "a@epoch2", "a")}
    plain, mended = epochs_study(LEARNED | never, HARM, AT_80).matched.reached
    assert [seed.model for seed in plain.seeds] == ["a@epoch1/seed1", None]
    assert plain.seeds[1].score == pytest.approx(0.1)
    assert (plain.asr.seeds, plain.score) == (1, pytest.approx(0.85))
    assert mended.against.asr.overall.interval.scope is Scope.CHECKPOINT, (
        "one seed says nothing of a recipe"
    )


def test_the_choice_never_looks_at_safety():
    one, other = (
        [
            [seed.model for seed in each.seeds]
            for each in epochs_study(LEARNED, harm, AT_80).matched.reached
        ]
        for harm in (HARM, dict.fromkeys(HARM, 0.0))
    )
    assert one == other


def test_a_fine_tune_that_never_reaches_the_target_is_compared_with_nothing():
    setting = epochs_study(LEARNED, HARM, Match(scorer="labels", target=0.92))
    plain, mended = setting.matched.reached
    assert [seed.model for seed in plain.seeds] == ["a/seed1", "a/seed2"]
    assert (mended.asr, mended.over_refusal, mended.against) == (None, None, None)
    assert mended.score == pytest.approx(0.9)


def test_every_seed_has_its_own_point():
    table = build({"base": np.zeros((4, 1)), "a1": np.ones((4, 1)), "a2": np.zeros((4, 1))}, benign={"base": np.zeros((4, 1)), "a1": np.zeros((4, 1)), "a2": np.ones((4, 1))})  # fmt: skip
    conditions = (
        Condition(name="base", models=("base",)),
        Condition(name="a", models=("a1", "a2"), base="base"),
    )
    found = measure_table(table, plan_of(conditions=conditions)).settings[0].condition("a").by_seed
    assert [(seed.asr, seed.over_refusal) for seed in found["overall"]] == [(1.0, 0.0), (0.0, 1.0)]
    assert list(found) == ["overall", "text"]


def test_a_contrast_names_its_method():
    assert (
        Unshared(estimate=0.0, variance=1.0, df=3.0, behaviors=5).method
        == "crossed t, seeds unshared"
    )
