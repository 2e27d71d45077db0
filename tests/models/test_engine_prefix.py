"""What rows begin with is computed once, and no answer changes."""

import pytest
from architectures import ALONE, GQA, SHARING, learned, of
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import WORDS, answers, conversations, make_checkpoint, user

from aftertune.core.records import Attempt, Decoding, Message, Question
from aftertune.models import prefix
from aftertune.models.open import Engines
from aftertune.models.prefix import Family

SYSTEM = Message(role="system", content=" ".join(WORDS[::2]))
GREEDY, DRAWN = (
    Decoding(max_new_tokens=12),
    Decoding(max_new_tokens=12, temperature=0.9, top_p=0.95, seed=3),
)


@pytest.fixture
def shared(monkeypatch):
    """Say how many tokens and rows each batch had behind a prefix; a system prompt of a few words pays."""
    made = []
    cache = prefix.Prefix.cache
    monkeypatch.setattr(
        prefix.Prefix,
        "cache",
        lambda self, rows: made.append((len(self), rows)) or cache(self, rows),
    )
    monkeypatch.setattr(prefix, "PASS", 50)
    return made


def prompts(count, seed=0):
    """Return conversations of unequal length behind one system prompt."""
    return [(SYSTEM, *messages) for messages in conversations(count, seed=seed)]


def everything(engine, asked):
    """Return greedy and drawn answers, and the likelihoods of words, labels and answers."""
    scores = [value for row in engine.choice_logprobs(asked, ["cake", "map"]) for value in row]
    scores += [value for row in engine.choice_logprobs(asked, ["cake", "map of"]) for value in row]
    questions = [Question(messages=messages) for messages in asked]
    labels = engine.label_logprobs(questions, ["cake", "map"], questions[0]) or []
    scores += [value for row in labels for value in row]
    scores += engine.nll([(messages, "bake a cake") for messages in asked])
    return [answers(engine, asked, decoding) for decoding in (GREEDY, DRAWN)], scores


def compared(folder, asked, monkeypatch, shared):
    """See that nothing depends on whether a prefix is shared; return the batches that did."""
    with Engines(threads=1, device="cpu") as engines:
        with_prefix = everything(engines.open(str(folder)), asked)
        used = list(shared)
        monkeypatch.setattr(prefix, "PASS", 10**9)
        without = everything(engines.open(str(folder)), asked)
    assert shared == used
    assert with_prefix[0] == without[0]
    assert with_prefix[1] == pytest.approx(without[1], rel=1e-3, abs=1e-3)
    return used


@pytest.mark.parametrize("kind", SHARING)
def test_answers_behind_a_shared_prefix_are_those_of_whole_prompts(
    kind, tmp_path, monkeypatch, shared
):
    folder = make_checkpoint(tmp_path / "model", build=SHARING[kind])
    used = compared(folder, prompts(12), monkeypatch, shared)
    assert max(rows for _, rows in used) >= len(prompts(12))


@pytest.mark.parametrize("kind", ALONE)
def test_a_model_that_cannot_share_is_given_whole_prompts(kind, tmp_path, monkeypatch, shared):
    folder = make_checkpoint(tmp_path / "model", build=ALONE[kind])
    assert compared(folder, prompts(6), monkeypatch, shared) == []


def test_an_answer_is_the_same_alone_and_behind_the_prefix_of_its_batch(engines, base, shared):
    engine, asked = engines.open(str(base)), prompts(30)
    together = answers(engine, asked, DRAWN)
    assert shared
    shared.clear()
    assert [
        answer for messages in asked for answer in answers(engine, [messages], DRAWN)
    ] == together
    assert not shared


def test_rounding_to_16_bits_is_not_taken_for_a_fault(base, shared):
    with Engines(threads=1, device="cpu", dtype="bfloat16") as engines:
        answers(engines.open(str(base)), prompts(12), GREEDY)
    assert (len(SYSTEM.content.split()) + 2, 12) in shared


def test_every_adapter_has_a_prefix_of_its_own(engines, base, adapters, monkeypatch, shared):
    asked = prompts(12)
    three = [engines.open(str(folder)) for folder in (base, *adapters)]
    given = [[answer.text for answer in answers(engine, asked, GREEDY)] for engine in three]
    assert len(shared) >= len(three)
    monkeypatch.setattr(prefix, "PASS", 10**9)
    assert given == [[answer.text for answer in answers(engine, asked, GREEDY)] for engine in three]
    assert given[0] != given[1] != given[2]


def test_a_model_that_counts_positions_itself_is_found_out(engines, base, monkeypatch, shared):
    from transformers import LlamaForCausalLM

    whole = LlamaForCausalLM.forward

    def deaf(self, input_ids=None, position_ids=None, past_key_values=None, **options):
        return whole(self, input_ids=input_ids, past_key_values=past_key_values, **options)

    monkeypatch.setattr(LlamaForCausalLM, "forward", deaf)
    answers(engines.open(str(base)), prompts(12), GREEDY)
    assert [rows for _, rows in shared] == [2]  # the comparison, and no batch


def test_a_window_that_ends_in_the_answer_counts(tmp_path, monkeypatch, shared):
    folder = make_checkpoint(tmp_path / "model", build=of("Mistral", sliding_window=44, **GQA))
    pairs = [(messages, " ".join(WORDS[: 2 + i])) for i, messages in enumerate(prompts(20))]
    with Engines(threads=1, device="cpu") as engines:
        engine = engines.open(str(folder))
        assert (
            max(len(row) for row in engine._renderer.prompts([messages for messages, _ in pairs]))
            < 44
        )
        given = engine.nll(pairs)
        assert not shared
        monkeypatch.setattr(prefix, "PASS", 10**9)
        assert given == pytest.approx(engine.nll(pairs), rel=1e-4)


def test_a_window_that_the_cache_does_not_tell_of_is_seen_though_only_answers_reach_it(
    tmp_path, monkeypatch, shared
):
    """GPT-Neo's ends so many places back, padding included."""
    local = {
        "attention_types": [[["global", "local"], 1]],
        "num_layers": 2,
        "num_heads": 4,
        "initializer_range": 0.4,
    }
    neo = learned(
        "GPTNeo",
        "ForCausalLM",
        hidden_size=32,
        window_size=44,
        max_position_embeddings=128,
        **local,
    )
    folder = make_checkpoint(tmp_path / "model", build=neo)
    assert compared(folder, prompts(12), monkeypatch, shared)


def test_longer_rows_are_compared_anew(engines, base, shared):
    engine = engines.open(str(base))
    answers(engine, prompts(12), GREEDY)
    answers(engine, prompts(12), DRAWN)
    answers(engine, [(*messages, user(*WORDS)[0]) for messages in prompts(12)], GREEDY)
    assert [rows for _, rows in shared] == [2, 12, 12, 2, 12]


def test_a_penalty_on_repeated_words_counts_the_prefix(tmp_path, monkeypatch, shared):
    folder = make_checkpoint(tmp_path / "model", repetition_penalty=1.8)
    assert compared(folder, prompts(12), monkeypatch, shared)


def test_settings_that_compare_runs_of_words_get_whole_prompts(engines, tmp_path, shared):
    folder = make_checkpoint(tmp_path / "model", no_repeat_ngram_size=3)
    answers(engines.open(str(folder)), prompts(12), GREEDY)
    assert not shared


@pytest.mark.parametrize("most", [0, 1, 5])
def test_memory_that_runs_out_behind_a_prefix_changes_no_answer(
    engines, base, most, monkeypatch, shared
):
    import torch
    from transformers import LlamaForCausalLM

    asked, whole = prompts(12), LlamaForCausalLM.forward
    expected = answers(engines.open(str(base)), asked, GREEDY)

    def small(self, input_ids=None, past_key_values=None, **options):
        known = past_key_values is not None and past_key_values.get_seq_length() > 0
        if len(input_ids) > (most if known or not most else 1) and input_ids.shape[1] > 1:
            raise torch.OutOfMemoryError
        return whole(self, input_ids=input_ids, past_key_values=past_key_values, **options)

    monkeypatch.setattr(LlamaForCausalLM, "forward", small)
    given = answers(engines.open(str(base), name="again"), asked, GREEDY)
    assert given == expected if most else all(isinstance(answer, Attempt) for answer in given)


def test_rows_that_share_more_make_a_family_of_their_own():
    head, rubric = list(range(10)), [*range(10), *range(50, 250)]
    rows = [[*head, 300 + i] for i in range(200)] + [[*rubric, 300 + i] for i in range(40)]
    found = {family.shared: family.rows for family in prefix.families(rows)}
    assert found == {tuple(head): tuple(range(200)), tuple(rubric): tuple(range(200, 240))}
    assert [family.rows for family in prefix.families(rows, steps=100)] == [tuple(range(240))]


def test_what_does_not_pay_is_not_shared():
    assert prefix.families([]) == []
    assert prefix.families([[1, 2, 3]]) == [Family((0,))]
    assert prefix.families([[*range(3), i] for i in range(1000)]) == [Family(tuple(range(1000)))]
    assert prefix.families([[*range(100), i] for i in range(10)]) == [Family(tuple(range(10)))]


@given(
    rows=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=9), max_size=40),
    own=st.integers(1, 3),
    least=st.integers(1, 3),
    paid=st.integers(1, 20),
)
def test_families_hold_every_row_once_and_begin_with_what_they_share(rows, own, least, paid):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "LEAST", least)
        patch.setattr(prefix, "PASS", paid)
        found = prefix.families(rows, own=own)
    assert sorted(i for family in found for i in family.rows) == list(range(len(rows)))
    for family in found:
        assert all(tuple(rows[i][: len(family.shared)]) == family.shared for i in family.rows)
        assert (
            not family.shared or min(len(rows[i]) for i in family.rows) - len(family.shared) >= own
        )


def test_rows_that_go_on_where_others_end_are_no_trouble():
    rows = [[1] * length for length in range(1, 3000)]
    assert sum(len(family.rows) for family in prefix.families(rows)) == len(rows)
