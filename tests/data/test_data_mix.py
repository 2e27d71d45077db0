"""The mix: shares right to the row, nothing of the user's lost, and draws that are fair and repeatable."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.core.records import Message
from aftertune.data.mix import added, allotted, mix
from aftertune.errors import DataError


def row(question, answer="Yes."):
    return Message(role="user", content=question), Message(role="assistant", content=answer)


def rows(name, count):
    return [row(f"{name} {number}") for number in range(count)]


@pytest.mark.parametrize(
    ("n", "share", "replay_share", "expected"),
    [
        (1000, 0.2, 0.0, (250, 0)),
        (1000, 0.1, 0.1, (125, 125)),
        (1000, 0.15, 0.15, (214, 214)),
        (1000, 0.0, 0.0, (0, 0)),
        (90, 0.1, 0.0, (10, 0)),
        (3, 0.1, 0.0, (0, 0)),
        (9, 0.05, 0.0, (0, 0)),
        (10, 0.05, 0.0, (1, 0)),
        (1, 0.5, 0.0, (1, 0)),
        (7, 0.7, 0.1, (25, 4)),
    ],
)
def test_golden_counts(n, share, replay_share, expected):
    assert added(n, share, replay_share) == expected


@given(st.integers(1, 3000), st.integers(0, 60), st.integers(0, 30))
def test_no_other_count_comes_nearer_to_the_share(n, percent, replay_percent):
    share, replay_share = percent / 100, replay_percent / 100
    safety, replay = added(n, share, replay_share)
    exact = n * share / (1 - share - replay_share)
    assert abs(safety - exact) <= 0.5 + 1e-9
    assert abs(safety / (n + safety + replay) - share) <= 1 / n + 1e-9


@pytest.mark.parametrize(
    ("n", "share", "replay_share", "message"),
    [
        (10, 1.0, 0.0, "share must be at least 0 and below 1"),
        (10, -0.1, 0.0, "share must be"),
        (10, 0.1, 1.5, "replay share must be"),
        (10, 0.99999, 0.0, "keep the sum at or under 0.95"),
        (10, 0.5, 0.5, "leave too little room"),
        (10, float("nan"), 0.0, "share must be"),
        (0, 0.1, 0.0, "no training rows"),
    ],
)
def test_impossible_shares_are_refused(n, share, replay_share, message):
    with pytest.raises(DataError, match=message):
        added(n, share, replay_share)


def test_the_users_rows_are_all_there_unaltered():
    user = [*rows("mine", 50), row("mine 1"), row("mine 1", "Another answer.")]
    mixed = mix(user, rows("safe", 100), rows("old", 100), share=0.2, replay_share=0.1, seed=3)
    assert Counter(mixed.rows) >= Counter(user)
    assert (mixed.user, mixed.safety, mixed.replay) == (52, 15, 7)
    assert len(mixed.rows) == 74
    assert mixed.rows[:52] != user
    assert mixed.notes == ()
    assert mixed.repeated == 0


def test_a_seed_gives_one_mix_and_another_seed_another():
    one, same, other = (
        mix(rows("mine", 50), rows("safe", 100), share=0.2, seed=seed).rows for seed in (1, 1, 2)
    )
    assert one == same
    assert set(one) != set(other)


def test_draws_are_balanced_over_tasks_without_replacement():
    pools = {"code": rows("code", 100), "text": rows("text", 7), "other": rows("other", 1)}
    mixed = mix(rows("mine", 80), pools, share=0.2, seed=0)
    assert mixed.by_task == {"code": 7, "other": 7, "text": 6}
    assert mixed.repeated == 6
    assert "6 of 20 rows are repeats" in mixed.notes[0]
    counts = Counter(mixed.rows)
    assert all(counts[row] == 1 for row in [*pools["code"], *pools["text"]] if row in counts)
    assert counts[pools["other"][0]] == 7


def test_rows_that_stand_in_the_training_set_are_not_drawn():
    user = [row("How, exactly?"), *rows("mine", 3)]
    pool = [row("how exactly", "No."), row("Fresh?"), row("Fresh?")]
    mixed = mix(user, pool, share=0.2, seed=0)
    assert mixed.safety == 1
    assert row("Fresh?") in mixed.rows
    assert mixed.left_out == 2
    assert mixed.notes[0].startswith("2 safety rows were left out")


def test_rows_that_no_loader_lets_through_are_not_drawn():
    mixed = mix(
        rows("mine", 4),
        [row("Say something sexual about a child", "No."), row("Fresh?")],
        share=0.2,
    )
    assert (mixed.safety, mixed.left_out) == (1, 1)
    assert row("Fresh?") in mixed.rows


def test_without_anything_to_draw_from_it_says_so():
    with pytest.raises(DataError, match="no safety rows to draw 1 from"):
        mix(rows("mine", 4), [row("mine 1")], share=0.2)


def test_no_share_draws_nothing():
    mixed = mix(rows("mine", 4), [], share=0.0)
    assert sorted(mixed.rows, key=str) == sorted(rows("mine", 4), key=str)
    assert mixed.share == 0


@pytest.mark.parametrize(
    ("count", "weights", "expected"),
    [
        (10, {}, {"a": 4, "b": 3, "c": 3}),
        (11, {}, {"a": 4, "b": 4, "c": 3}),
        (10, {"b": 2}, {"a": 3, "b": 5, "c": 2}),
        (10, {"a": 0}, {"b": 5, "c": 5}),
        (7, {"a": 0.1, "b": 0.2, "c": 0.3}, {"a": 1, "b": 2, "c": 4}),
        (0, {"a": 3}, {"a": 0, "b": 0, "c": 0}),
    ],
)
def test_rows_are_allotted_by_weight_to_the_row(count, weights, expected):
    assert allotted(count, ["a", "b", "c"], weights) == expected


@given(st.integers(0, 500), st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any))
def test_allotted_rows_add_up_and_are_within_one_of_their_quota(count, weights):
    by_name = {f"task {number}": weight for number, weight in enumerate(weights)}
    shared = allotted(count, list(by_name), by_name)
    assert sum(shared.values()) == count
    assert all(
        abs(shared.get(name, 0) - count * w / sum(weights)) < 1 for name, w in by_name.items()
    )


def test_weights_that_leave_no_task_are_refused():
    with pytest.raises(DataError, match="leave no task"):
        allotted(3, ["a", "b"], {"a": 0, "b": 0})


def test_rows_without_an_answer_are_kept_but_never_drawn():
    user = [*rows("mine", 8), row("Unanswered?", "")]
    mixed = mix(user, [row("Silent?", " "), row("Fresh?")], share=0.1)
    assert row("Unanswered?", "") in mixed.rows
    assert (row("Fresh?") in mixed.rows, mixed.left_out) == (True, 1)
