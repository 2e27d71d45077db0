"""Training rules: what each does to a loss, to weights and to a step checkpoint, and that a stopped run ends the same."""

import math
from dataclasses import dataclass, replace

import pytest
from tiny_runs import make_recipe, make_rows, tensors_sha256

from aftertune.core.recipe import FirstTokens, Mitigation, SelfAnswers, TrainingFile
from aftertune.errors import ModelError
from aftertune.models.foreign import quiet
from aftertune.models.open import Engines
from aftertune.train.rules import (
    Averages,
    betas_of,
    check_layers,
    constrained_loss,
    reference_logprobs,
)
from aftertune.train.train import TrainingStopped, fine_tune

RULES = {
    "ema": Mitigation(ema=0.9),
    "frozen": Mitigation(frozen=(0,)),
    "first-tokens": Mitigation(first_tokens=FirstTokens()),
}
TOGETHER = Mitigation(ema=0.9, frozen=(1,), first_tokens=FirstTokens(tokens=2))


def test_a_rule_enters_the_key_and_its_absence_does_not():
    plain = Mitigation(safety=(TrainingFile(path="a.jsonl"),), share=0.1)
    assert len(plain.identity) == 7
    keys = {
        replace(make_recipe("base"), mitigation=mitigation).key
        for mitigation in (
            None,
            plain,
            TOGETHER,
            *RULES.values(),
            Mitigation(self_answers=SelfAnswers()),
            Mitigation(self_answers=SelfAnswers(temperature=0.7)),
            Mitigation(first_tokens=FirstTokens(tokens=4)),
        )
    }
    assert len(keys) == 9
    assert Mitigation(frozen=(1, 0)).identity == Mitigation(frozen=(0, 1)).identity


def test_a_field_that_a_rule_gets_later_leaves_the_keys_of_before():
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Later(SelfAnswers):
        top_p: float = 1.0

    def identity(rule):
        return Mitigation(self_answers=rule).identity[7:]

    assert identity(SelfAnswers(temperature=0.7)) == [["self answers", [0.7, 256]]]
    assert identity(Later(temperature=0.7)) == identity(SelfAnswers(temperature=0.7))
    assert identity(Later(top_p=0.9)) == [["self answers", [0.0, 256, ["top_p", 0.9]]]]
    rules = Mitigation(first_tokens=FirstTokens(rest=0.3)).identity[7:]
    assert rules == [["first tokens", [5, 0.5, 2.0, 0.3]]]


def test_the_constrained_loss_is_that_of_the_paper():
    import torch

    logprobs = torch.tensor([-1.0, -0.5, -3.0], dtype=torch.float64, requires_grad=True)
    reference, betas = torch.tensor([-1.0, -2.0, -1.0]), torch.tensor([0.5, 2.0, 0.1])
    loss = constrained_loss(logprobs, reference, betas)
    moved = [0.0, 1.5, -2.0]
    expected = sum(
        -2 / b * math.log(1 / (1 + math.exp(-b * d)))
        for b, d in zip([0.5, 2.0, 0.1], moved, strict=True)
    )
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    # the gradient of the likelihood, times 2 · sigmoid(-beta · moved): all of it where the model is the base
    weights = [2 / (1 + math.exp(b * d)) for b, d in zip([0.5, 2.0, 0.1], moved, strict=True)]
    assert (-logprobs.grad).tolist() == pytest.approx(weights)
    assert weights[0] == 1
    assert weights[1] < 0.1


def test_betas_go_by_the_place_in_the_answer():
    import torch

    ignored, rule = -100, FirstTokens(tokens=3, first=0.5, beta=2.0, rest=0.1)
    labels = torch.tensor(
        [[ignored, ignored, 5, 6, 7, 8, 9], [ignored, 3, 4, ignored, *[ignored] * 3]]
    )
    assert betas_of(labels, rule).tolist() == pytest.approx([0.5, 2, 2, 0.1, 0.1, 0.5, 2])


def test_an_average_follows_the_weights_and_gives_them_back(tmp_path):
    import torch

    model = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0]]))
        averages = Averages(0.75, model)
        model.weight.copy_(torch.tensor([[5.0, 2.0]]))
    averages.update(model)
    averages.save(tmp_path)
    with averages.in_place(model):
        assert model.weight.tolist() == [[2.0, 2.0]]
    assert model.weight.tolist() == [[5.0, 2.0]]
    again = Averages(0.75, model)
    again.load(tmp_path)
    again.update(model)
    assert again.values["weight"].tolist() == [[2.75, 2.0]]


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """Return a function that trains a recipe, each once."""
    folder, finished = tmp_path_factory.mktemp("rules"), {}

    def train(mitigation=None, method="full"):
        recipe = replace(make_recipe(base, method=method), mitigation=mitigation)
        if recipe.key not in finished:
            out = folder / recipe.key.hex()
            with Engines(threads=1, device="cpu") as engines:
                finished[recipe.key] = fine_tune(recipe, make_rows(), out, engines=engines)
        return finished[recipe.key]

    return train


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def distance(folder, other):
    mine, others = weights(folder), weights(other)
    return sum((mine[name] - others[name]).square().sum() for name in mine).sqrt().item()


def test_each_rule_changes_the_weights_and_its_end_of_the_scale_does_not(trained, base):
    plain = trained()
    assert len({tensors_sha256(trained(rule)) for rule in (None, *RULES.values())}) == 4
    assert distance(trained(Mitigation(ema=1e-9)), plain) < 1e-4 * distance(base, plain)
    assert distance(trained(Mitigation(ema=1 - 1e-9)), base) < 1e-4 * distance(base, plain)
    loose = Mitigation(first_tokens=FirstTokens(first=1e-4, beta=1e-4, rest=1e-4))
    assert distance(trained(loose), plain) < 0.2 * distance(base, plain)


def test_frozen_layers_stay_and_others_move(trained, base):
    import torch

    before, after = weights(base), weights(trained(RULES["frozen"]))
    layers = {
        name: not torch.equal(before[name], after[name]) for name in before if ".layers." in name
    }
    assert {moved for name, moved in layers.items() if ".layers.0." in name} == {False}
    assert any(moved for name, moved in layers.items() if ".layers.1." in name)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_stopped_run_ends_with_the_same_tensors(trained, base, tmp_path, method):
    recipe = replace(make_recipe(base, method=method), mitigation=TOGETHER)
    with Engines(threads=1, device="cpu") as engines:
        with pytest.raises(TrainingStopped):
            fine_tune(
                recipe,
                make_rows(),
                tmp_path / "out",
                engines=engines,
                progress=lambda step, _: step == 8,
            )
        out = fine_tune(recipe, make_rows(), tmp_path / "out", engines=engines)
    assert tensors_sha256(out) == tensors_sha256(trained(TOGETHER, method))


@pytest.mark.parametrize(
    ("layers", "message"),
    [((0, 7), "2 layers, 0 to 1, .* there is no layer 7"), ((0, 1), "all of them would stay")],
)
def test_layers_that_cannot_be_frozen_are_an_error(layers, message):
    with pytest.raises(ModelError, match=message):
        check_layers(layers, 2, "tiny")


def test_a_round_is_held_close_to_the_base_and_not_to_the_round_before(base):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    rows = [[1, 5, 9, 7, 3], [1, 8, 2, 6]]
    labels = [[-100, -100, *row[2:]] for row in rows]

    def logits(model):
        with torch.no_grad():
            return model(input_ids=torch.tensor(rows[:1])).logits

    def trainable(model):
        return [name for name, weight in model.named_parameters() if weight.requires_grad]

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(base)
        expected, plain = reference_logprobs(model, rows, labels), logits(model)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        adapted = get_peft_model(model, config)
    before = trainable(adapted)
    assert reference_logprobs(adapted, rows, labels) == [pytest.approx(row) for row in expected]
    assert trainable(adapted) == before != [], "the adapter is trained as ever"
    assert not torch.allclose(logits(adapted), plain, atol=1e-3), "the adapter is no empty one"
