"""The loss at labelled positions is the loss over all logits, for every way in which a model makes its logits."""

import pytest
from tiny_models import SHAPE, llama, make_checkpoint
from tiny_runs import make_recipe, make_rows, tensors_sha256

from aftertune.models.foreign import quiet
from aftertune.models.open import Engines
from aftertune.models.size import LARGE_VOCABULARY
from aftertune.train.loss import IGNORED, parts, summed_nll
from aftertune.train.processes import ALONE
from aftertune.train.train import TrainingStopped, _trainer_class, fine_tune

SIZE = {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 5}


def softcapped():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2ForCausalLM(Gemma2Config(**SIZE, **SHAPE, head_dim=8, final_logit_softcapping=2.0))


def scaled():
    from transformers import GraniteConfig, GraniteForCausalLM

    return GraniteForCausalLM(GraniteConfig(**SIZE, **SHAPE, logits_scaling=3.0))


def without_layer():
    """Return a Llama that multiplies by the weights of its output layer itself."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.modeling_outputs import CausalLMOutput

    class Multiplying(LlamaForCausalLM):
        def forward(self, **inputs):
            hidden = self.model(**inputs).last_hidden_state
            return CausalLMOutput(logits=torch.matmul(hidden, self.lm_head.weight.T))

    return Multiplying(LlamaConfig(**SIZE, **SHAPE))


def adapted():
    import torch
    from peft import LoraConfig, get_peft_model

    model = llama(SIZE, **SHAPE)
    lora = LoraConfig(target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    torch.manual_seed(1)
    with quiet():
        return get_peft_model(model, lora)


@pytest.mark.parametrize(
    "build", [lambda: llama(SIZE, **SHAPE), adapted, softcapped, scaled, without_layer]
)
def test_loss_and_gradients_are_those_of_all_logits(build):
    import torch

    torch.manual_seed(0)
    model = build().double().eval()
    tokens = torch.randint(6, 50, (3, 9))
    mask = torch.tensor([[1] * 9, [1] * 7 + [0] * 2, [1] * 4 + [0] * 5])
    labels = tokens.where(mask.bool() & (torch.arange(9) > 2), IGNORED)
    logits = model(input_ids=tokens, attention_mask=mask).logits[:, :-1]
    expected = torch.nn.functional.cross_entropy(
        logits.reshape(-1, 50), labels[:, 1:].reshape(-1), reduction="sum"
    )
    expected.backward()
    trained = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    gradients = {name: tensor.grad.clone() for name, tensor in trained.items()}
    model.zero_grad()
    loss = summed_nll(model, input_ids=tokens, attention_mask=mask, labels=labels)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, tensor in trained.items():
        torch.testing.assert_close(tensor.grad, gradients[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([10], [([0], 10)]),
        ([90, 100, 95], [([1, 2, 0], 100)]),
        ([40, 500, 45, 480], [([1, 3], 500), ([2, 0], 45)]),
        ([1000, 10, 10, 10], [([0], 1000), ([1, 2, 3], 10)]),
        ([100, 40], [([0, 1], 100)]),  # 200 positions; apart 140 and twice the overhead
    ],
)
def test_rows_of_similar_length_are_computed_together(lengths, expected):
    assert parts(lengths) == expected


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A checkpoint whose vocabulary is large."""
    return make_checkpoint(
        tmp_path_factory.mktemp("large"),
        build=lambda size, **shape: llama({**size, "vocab_size": LARGE_VOCABULARY}, **shape),
    )


def test_only_large_vocabularies_leave_trls_trainer(base, large):
    from transformers import AutoModelForCausalLM
    from trl.trainer.sft_trainer import SFTTrainer

    small, big = (AutoModelForCausalLM.from_pretrained(folder) for folder in (base, large))
    assert _trainer_class(small, ALONE) is SFTTrainer
    assert issubclass(_trainer_class(big, ALONE), SFTTrainer)
    assert _trainer_class(big, ALONE) is not SFTTrainer


@pytest.mark.parametrize(
    ("method", "dtype"), [("full", "float32"), ("lora", "float32"), ("lora", "bfloat16")]
)
def test_a_stopped_training_of_a_large_vocabulary_ends_with_the_same_tensors(
    large, tmp_path, method, dtype
):
    recipe = make_recipe(
        large, method=method, gradient_accumulation=2, base_identity={"dtype": dtype}
    )
    rows = make_rows()
    with Engines(threads=1, device="cpu") as engines:
        whole = fine_tune(recipe, rows, tmp_path / "whole", engines=engines)
        with pytest.raises(TrainingStopped):
            fine_tune(
                recipe, rows, tmp_path / "out", engines=engines, progress=lambda step, _: step == 7
            )
        out = fine_tune(recipe, rows, tmp_path / "out", engines=engines)
    assert tensors_sha256(out) == tensors_sha256(whole)


def test_the_weights_are_those_of_trls_loss(large, tmp_path, monkeypatch):
    from safetensors.numpy import load_file

    recipe = make_recipe(large, method="lora", lora_dropout=0.0, learning_rate=1e-3)
    trained = {}
    with Engines(threads=1, device="cpu") as engines:
        for name, words in (("labelled", LARGE_VOCABULARY), ("trl", LARGE_VOCABULARY + 1)):
            monkeypatch.setattr("aftertune.train.train.LARGE_VOCABULARY", words)
            out = fine_tune(recipe, make_rows(), tmp_path / name, engines=engines)
            trained[name] = load_file(out / "adapter_model.safetensors")
    for name, tensor in trained["trl"].items():
        assert trained["labelled"][name] == pytest.approx(tensor, rel=1e-2, abs=1e-4), name


def test_an_adapter_trained_in_16_bits_learns_alike_and_is_kept_in_32(large, tmp_path):
    from safetensors.numpy import load_file

    rows = make_rows()
    pairs = [(row[:-1], row[-1].content) for row in rows]
    after = {}
    with Engines(threads=1, device="cpu") as engines:
        before = sum(engines.open(str(large)).nll(pairs))
        for dtype in ("float32", "bfloat16"):
            recipe = make_recipe(large, method="lora", base_identity={"dtype": dtype})
            out = fine_tune(recipe, rows, tmp_path / dtype, engines=engines)
            tensors = load_file(out / "adapter_model.safetensors").values()
            assert {str(tensor.dtype) for tensor in tensors} == {"float32"}
            after[dtype] = sum(engines.open(str(out)).nll(pairs))
    assert after["float32"] < 0.8 * before
    assert after["bfloat16"] == pytest.approx(
        after["float32"], abs=0.1 * (before - after["float32"])
    )
    assert after["bfloat16"] != after["float32"]
