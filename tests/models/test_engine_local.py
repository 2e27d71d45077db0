import math

import pytest
from tiny_models import answers, conversations, jobs, make_checkpoint, user

from aftertune.core.records import Attempt, Decoding, FinishReason
from aftertune.errors import EngineError
from aftertune.models.open import Engines


def naive(folder, prompts, limit):
    """One `model.generate` call a prompt, nothing shared: (text, tokens up to the end token)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from aftertune.models.foreign import quiet

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for messages in prompts:
        text = tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in messages],
            tokenize=False,
            add_generation_prompt=True,
        )
        inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        with torch.no_grad():
            output = model.generate(**inputs, do_sample=False, max_new_tokens=limit)
        new = output[0, inputs["input_ids"].shape[1] :]
        yield (
            tokenizer.decode(new, skip_special_tokens=True),
            len(new),
            int(inputs["input_ids"].shape[1]),
        )


@pytest.fixture(scope="module")
def asked(base):
    prompts = conversations(60)
    with Engines(threads=1, device="cpu") as engines:
        engine = engines.open(str(base))
        return prompts, answers(engine, prompts)


def test_greedy_answers_are_those_of_generate_one_by_one(base, asked):
    prompts, given = asked
    expected = list(naive(base, prompts, 16))
    assert [
        (answer.text, answer.completion_tokens, answer.prompt_tokens) for answer in given
    ] == expected


def test_the_finish_reason_says_whether_the_model_ended_by_itself(asked):
    _, given = asked
    reasons = {answer.finish_reason for answer in given}
    assert reasons == {FinishReason.STOP, FinishReason.LENGTH}
    assert all(
        answer.completion_tokens == 16
        for answer in given
        if answer.finish_reason is FinishReason.LENGTH
    )
    assert any(
        answer.completion_tokens < 16
        for answer in given
        if answer.finish_reason is FinishReason.STOP
    )


def test_an_answer_that_ends_at_once_is_empty_and_final(engines, tmp_path):
    engine = engines.open(
        str(make_checkpoint(tmp_path / "m", suppress_tokens=[i for i in range(35) if i != 5]))
    )
    [answer] = answers(engine, [user("bake")])
    assert (answer.text, answer.finish_reason, answer.completion_tokens) == (
        "",
        FinishReason.STOP,
        1,
    )


def test_the_checkpoints_own_penalty_is_obeyed_and_keyed(engines, base, tmp_path):
    penalised = make_checkpoint(tmp_path / "penalised", repetition_penalty=1.8)
    prompts = conversations(20)
    given = [answer.text for answer in answers(engines.open(str(penalised)), prompts)]
    assert given == [text for text, _, _ in naive(penalised, prompts, 16)]
    assert given != [answer.text for answer in answers(engines.open(str(base)), prompts)]
    keys = [engines.open(str(folder)).keys(prompts, Decoding(), 0) for folder in (base, penalised)]
    assert not set(keys[0]) & set(keys[1])


def test_a_key_knows_everything_that_decides_the_answer(engines, base, adapters):
    engine, prompts = engines.open(str(base)), [user("bake"), user("a", "cake")]
    decoding = Decoding(temperature=0.5, max_new_tokens=8)
    keys = {
        *engine.keys(prompts, decoding, 0),
        *engine.keys(prompts, decoding, 1),
        *engine.keys(prompts, Decoding(temperature=0.5, max_new_tokens=8, seed=1), 0),
        *engine.keys(prompts, Decoding(temperature=0.6, max_new_tokens=8), 0),
        *engine.keys(prompts, Decoding(temperature=0.5, max_new_tokens=9), 0),
        *engine.keys(prompts, Decoding(temperature=0.5, max_new_tokens=8, top_k=5), 0),
        *(
            key
            for folder in adapters
            for key in engines.open(str(folder)).keys(prompts, decoding, 0)
        ),
    }
    assert len(keys) == 16
    with Engines(device="cpu") as again:
        assert again.open(str(base), name="another name").keys(prompts, decoding, 0) == engine.keys(
            prompts, decoding, 0
        )


def test_a_greedy_key_does_not_depend_on_what_only_sampling_uses(engines, base):
    engine = engines.open(str(base))
    assert engine.keys([user("bake")], Decoding(top_p=0.5), 0) == engine.keys(
        [user("bake")], Decoding(), 0
    )


def test_memory_that_runs_out_halves_the_batch_and_changes_no_answer(
    engines, base, asked, monkeypatch
):
    import torch
    from transformers import LlamaForCausalLM

    prompts, expected = asked
    engine, whole = engines.open(str(base)), LlamaForCausalLM.forward

    def small(self, input_ids=None, **options):
        if input_ids.shape[0] > 7:
            raise torch.OutOfMemoryError
        return whole(self, input_ids=input_ids, **options)

    monkeypatch.setattr(LlamaForCausalLM, "forward", small)
    assert answers(engine, prompts) == expected


def test_a_job_that_fits_in_no_memory_is_an_attempt(engines, base, monkeypatch):
    import torch
    from transformers import LlamaForCausalLM

    def full(self, **options):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(LlamaForCausalLM, "forward", full)
    given = answers(engines.open(str(base)), conversations(3))
    assert [type(answer) for answer in given] == [Attempt] * 3
    assert {answer.reason for answer in given} == {"out_of_memory"}


def test_the_context_is_never_overrun(engines, base):
    room, full = user(*["cake"] * 118), user(*["cake"] * 130)
    short, too_long = answers(engines.open(str(base)), [room, full], Decoding(max_new_tokens=40))
    assert short.prompt_tokens + short.completion_tokens <= 128
    assert too_long.reason == "too_long"


def test_jobs_may_come_from_a_generator_with_mixed_settings(engines, base):
    engine, prompts = engines.open(str(base)), conversations(6)
    mixed = [
        *jobs(engine, prompts, Decoding(max_new_tokens=4)),
        *jobs(engine, prompts, Decoding(max_new_tokens=9)),
    ]
    given = dict(engine.generate(job for job in mixed))
    assert max(answer.completion_tokens for answer in given.values()) == 9
    assert all(given[job.key].completion_tokens <= job.decoding.max_new_tokens for job in mixed)


def test_unknown_words_are_counted(engines, base):
    engine = engines.open(str(base))
    assert engine.unknown_share(["bake a cake", "bake a bicycle"]) == pytest.approx(1 / 6)
    assert engine.unknown_share([]) == 0.0


def logits_of(folder, tokens):
    import torch
    from transformers import AutoModelForCausalLM

    from aftertune.models.foreign import quiet

    with quiet(), torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([tokens])).logits[0]


def test_nll_is_the_models_own_cross_entropy(engines, base):
    import torch

    engine = engines.open(str(base))
    pairs = [(prompt, answer) for prompt in conversations(5) for answer in ("bake a cake", "map")]
    given = engine.nll(pairs)
    for (prompt, answer), value in zip(pairs, given, strict=True):
        [asked], [answered] = engine._renderer.prompts([prompt]), engine._renderer.tokens([answer])
        logits = logits_of(base, asked + answered)[len(asked) - 1 : -1]
        assert value == pytest.approx(
            float(torch.nn.functional.cross_entropy(logits, torch.tensor(answered))), rel=1e-4
        )


def test_nll_of_nothing_is_not_a_number(engines, base):
    first, second = engines.open(str(base)).nll([(user("bake"), ""), (user("bake"), "cake")])
    assert math.isnan(first)
    assert second > 0
    assert engines.open(str(base)).nll([]) == []


def test_choices_of_one_token_and_of_several_agree_with_the_softmax(engines, base):
    import torch

    engine, prompts = engines.open(str(base)), conversations(4)
    singles = engine.choice_logprobs(prompts, ["cake", "map"])
    several = engine.choice_logprobs(prompts, ["cake", "map of"])
    for prompt, row, long_row in zip(prompts, singles, several, strict=True):
        [asked], [cake, map_] = (
            engine._renderer.prompts([prompt]),
            [t[0] for t in engine._renderer.tokens(["cake", "map"])],
        )
        expected = torch.log_softmax(logits_of(base, asked)[-1], 0)
        assert row == pytest.approx([float(expected[cake]), float(expected[map_])], rel=1e-4)
        assert long_row[0] == pytest.approx(row[0], rel=1e-4)
        assert long_row[1] < row[1]


def test_the_probabilities_of_all_tokens_add_up_to_one(engines, base):
    engine = engines.open(str(base))
    words = list(engine._renderer.tokenizer.get_vocab())
    [row] = engine.choice_logprobs([user("bake")], words)
    assert math.fsum(map(math.exp, row)) == pytest.approx(1.0, rel=1e-5)


def test_a_choice_without_tokens_is_refused(engines, base):
    with pytest.raises(EngineError, match="no tokens"):
        engines.open(str(base)).choice_logprobs([user("bake")], ["yes", ""])
