"""Rows that come and go in one batch get the answers that they get alone."""

import pytest
from architectures import ALONE, SHARING, learned
from set_weights import write_checkpoint
from tiny_models import WORDS, answers, conversations, make_checkpoint, user

from aftertune.core.records import Decoding, Message
from aftertune.models import answering, running_batch
from aftertune.models.batching import Capacity
from aftertune.models.prefix import computed, last_logits
from aftertune.models.running_batch import RunningBatch, Stepping

GREEDY = Decoding(max_new_tokens=12)
DRAWN = Decoding(max_new_tokens=12, temperature=0.9, top_p=0.95, top_k=20, seed=3)
BOUNDED = Decoding(max_new_tokens=5, max_reasoning_tokens=3)


@pytest.fixture
def sizes(monkeypatch):
    """Return the number of rows of each step; a batch has room for five rows, and few columns to spare."""
    steps = []
    step = RunningBatch.step
    monkeypatch.setattr(
        RunningBatch,
        "step",
        lambda self, model, tokens: steps.append(self.rows) or step(self, model, tokens),
    )
    monkeypatch.setattr(Capacity, "rows", lambda *_: 5)
    monkeypatch.setattr(running_batch, "SPARE", 3)
    monkeypatch.setattr(answering, "_ENTERING", {"cpu": 40})
    return steps


def by_generate(engine, asked, decoding, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Stepping, "can", lambda *_: False)
        return answers(engine, asked, decoding)


@pytest.mark.parametrize("kind", SHARING)
def test_answers_are_those_of_generate(kind, engines, tmp_path, monkeypatch, sizes):
    engine = engines.open(str(make_checkpoint(tmp_path / "model", build=SHARING[kind])))
    asked = conversations(14)
    for decoding in (GREEDY, DRAWN):
        given = answers(engine, asked, decoding)
        assert max(sizes) == 5
        sizes.clear()
        assert given == by_generate(engine, asked, decoding, monkeypatch)
        assert not sizes


@pytest.mark.parametrize("kind", ALONE)
def test_a_model_that_cannot_step_is_served_by_generate(kind, engines, tmp_path, sizes):
    engine = engines.open(str(make_checkpoint(tmp_path / "model", build=ALONE[kind])))
    asked = conversations(6)
    given = answers(engine, asked, GREEDY)
    assert set(sizes) <= {1, 2}  # the trial
    assert given == [answers(engine, [messages], GREEDY)[0] for messages in asked]


def test_a_window_that_the_cache_does_not_tell_of(engines, tmp_path, monkeypatch, sizes):
    """GPT-Neo's ends so many places back; the tokens of a row stand side by side."""
    neo = learned(
        "GPTNeo", "ForCausalLM", hidden_size=32, window_size=25, max_position_embeddings=128,
        attention_types=[[["global", "local"], 1]], num_layers=2, num_heads=4, initializer_range=0.4,
    )  # fmt: skip
    engine = engines.open(str(make_checkpoint(tmp_path / "model", build=neo)))
    asked = conversations(14)
    assert answers(engine, asked, GREEDY) == by_generate(engine, asked, GREEDY, monkeypatch)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"repetition_penalty": 1.8}, True),
        ({"suppress_tokens": [7, 9, 11]}, True),
        ({"no_repeat_ngram_size": 2}, False),
        ({"bad_words_ids": [[8, 9]]}, False),
        ({"begin_suppress_tokens": [7, 9, 11]}, False),
    ],
)
def test_the_checkpoints_settings(settings, steps, engines, tmp_path, monkeypatch, sizes):
    engine = engines.open(str(make_checkpoint(tmp_path / "model", **settings)))
    asked = conversations(14)
    given = answers(engine, asked, GREEDY)
    assert bool(sizes) is steps
    assert given == by_generate(engine, asked, GREEDY, monkeypatch)


def test_a_prefix_enters_with_every_row(engines, base, monkeypatch, sizes):
    from aftertune.models import prefix

    asked = [(Message(role="system", content=" ".join(WORDS)), *rest) for rest in conversations(14)]
    engine = engines.open(str(base))
    whole = answers(engine, asked, GREEDY)
    monkeypatch.setattr(prefix, "PASS", 50)
    assert answers(engine, asked, GREEDY) == whole


def test_adapters_answer_each_for_itself(engines, base, adapters, monkeypatch, sizes):
    asked = conversations(14)
    opened = [engines.open(str(folder)) for folder in (base, *adapters)]
    given = [answers(engine, asked, GREEDY) for engine in opened]
    assert given == [by_generate(engine, asked, GREEDY, monkeypatch) for engine in opened]
    assert given[0] != given[1] != given[2]


def test_another_model_may_use_the_memory_while_answers_are_taken(engines, base, adapters, sizes):
    from tiny_models import jobs

    asked = conversations(14)
    first, second = (engines.open(str(folder)) for folder in adapters)
    expected = answers(first, asked, GREEDY)
    given = {}
    for key, answer in first.generate(jobs(first, asked, GREEDY)):
        given[key] = answer
        second.nll([(user("bake"), "cake")])
    assert [given[job.key] for job in jobs(first, asked, GREEDY)] == expected


def test_memory_that_runs_out_in_a_step_changes_no_answer(engines, base, monkeypatch):
    import torch
    from transformers import LlamaForCausalLM

    asked, whole = conversations(20), LlamaForCausalLM.forward
    engine = engines.open(str(base))
    expected = answers(engine, asked, GREEDY)

    def small(self, input_ids=None, **options):
        if input_ids.shape == (len(input_ids), 1) and len(input_ids) > 3:
            raise torch.OutOfMemoryError
        return whole(self, input_ids=input_ids, **options)

    monkeypatch.setattr(LlamaForCausalLM, "forward", small)
    assert answers(engines.open(str(base), name="again"), asked, GREEDY) == expected


def test_rows_end_each_at_its_own_bound(engines, tmp_path, sizes):
    steps = {"<assistant>": "<think>", "<think>": "hm", "hm": "</think>", "</think>": "no", "no": "sir", "sir": "no"}  # fmt: skip
    folder = write_checkpoint(
        tmp_path / "m", steps, signs=["deep"], signed={"<think>": "hm", "hm": "hm"}, words=["how"]
    )
    engine = engines.open(str(folder))
    asked = [user(*["how"] * n, *["deep"] * (n % 2)) for n in range(1, 12)]
    given = answers(engine, asked, BOUNDED)
    assert sizes
    assert given == [answers(engine, [messages], BOUNDED)[0] for messages in asked]
    assert {answer.text for answer in given} == {"", "no sir no sir no"}


def test_an_answer_is_given_before_the_longest_has_ended(engines, tmp_path, sizes):
    """Only the row with the sign goes on to the limit; its neighbours end, and others take their places."""
    folder = write_checkpoint(
        tmp_path / "m",
        {"<assistant>": "no", "no": "<end>"},
        signs=["deep"],
        signed={"<assistant>": "so", "so": "so"},
        words=["how", "so"],
    )
    engine = engines.open(str(folder))
    asked = [user("deep", *["how"] * 9), *(user(*["how"] * (1 + i % 8)) for i in range(16))]
    from tiny_models import jobs

    listed = jobs(engine, asked, Decoding(max_new_tokens=30))
    order = [key for key, _ in engine.generate(listed)]
    assert order[-1] == listed[0].key
    assert sum(sizes) < 30 + 2 * 16 + 10  # not 17 rows until the longest has ended


def test_logits_are_those_of_whole_rows_whoever_comes_and_goes(base):
    import torch
    from transformers import AutoModelForCausalLM

    from aftertune.models.batching import pad_left

    model = AutoModelForCausalLM.from_pretrained(base).eval()
    draw = torch.Generator().manual_seed(0)

    def tokens(count):
        return torch.randint(6, 30, (count,), generator=draw).tolist()

    shared = tokens(5)
    with torch.inference_mode():
        prefix = computed(model, tuple(shared), "cpu")
        batch, rows = RunningBatch("cpu", 12), []

        def same(logits, rows):
            whole = last_logits(model, *pad_left(rows, "cpu"), 1)[:, 0]
            torch.testing.assert_close(logits, whole, rtol=1e-3, atol=1e-3)

        def enter(*lengths, behind=False):
            new = [[*(shared if behind else []), *tokens(length)] for length in lengths]
            same(batch.enter(model, new, *([prefix] if behind else [])), new)
            rows.extend(new)

        def step(times):
            for _ in range(times):
                last = tokens(len(rows))
                for row, token in zip(rows, last, strict=True):
                    row.append(token)
                same(batch.step(model, last), rows)

        def leave(*numbers):
            order = batch.leave(numbers)
            rows[:] = [rows[number] for number in order]
            assert batch.rows == len(rows)

        enter(4, 7)
        step(3)
        enter(2, behind=True)
        enter(30)  # longer than all columns so far
        step(2)
        leave(0, 3)
        step(2)
        enter(3, 1, 6)
        step(90)  # more than there are columns
        leave(1)
        enter(5, 2, behind=True)
        step(1)
        leave(*range(len(rows)))
        enter(3)
        step(2)
