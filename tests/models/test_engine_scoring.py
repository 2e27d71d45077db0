import math

import pytest
from tiny_models import conversations, user

from aftertune.errors import EngineError


def logits_of(folder, tokens):
    import torch
    from transformers import AutoModelForCausalLM

    from aftertune.models.loading import quiet

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
