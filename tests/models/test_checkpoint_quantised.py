"""Checkpoints whose own file is quantised: read as plain transformers reads them, or refused by name when opened."""

from functools import partial
from importlib.util import find_spec

import pytest
from quantised import block_fp8, compressed, gpt_oss_mxfp4, linear, rewritten
from tiny_models import answers, user
from tiny_runs import make_recipe, make_rows

from aftertune.errors import ModelError
from aftertune.models.foreign import quiet
from aftertune.models.loading import Placement, quantisation
from aftertune.models.open import Engines
from aftertune.train.train import fine_tune


@pytest.fixture
def engines():
    """Compute in float32, as transformers does where the results are compared."""
    with Engines(threads=1, device="cpu", dtype="float32") as opened:
        yield opened


def computed(model):
    import torch

    with torch.inference_mode():
        return model(torch.tensor([[2, 6, 7, 8, 9, 10, 3]])).logits.float()


def as_transformers(folder):
    import torch
    from transformers import AutoModelForCausalLM

    with quiet():
        return computed(
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu")
        )


READ = {
    "fp8": block_fp8,
    "fp8 with scales of activations": partial(block_fp8, activation_scheme="static"),
    "compressed-tensors fp8": partial(compressed, kind="fp8"),
    "compressed-tensors int8": partial(compressed, kind="int8"),
    "mxfp4": lambda _, folder: gpt_oss_mxfp4(folder),
}


@pytest.mark.parametrize("kind", READ)
def test_a_quantised_file_is_read_as_transformers_reads_it(engines, base, tmp_path, kind):
    import torch

    if kind.startswith("compressed") and not find_spec("compressed_tensors"):
        pytest.skip("compressed-tensors is not here; what happens then is in the table below")
    folder = READ[kind](base, tmp_path / "quantised")
    with engines.open(str(folder))._weights.using() as model:
        assert torch.equal(computed(model), as_transformers(folder))


def test_the_scales_of_fp8_count(engines, base, tmp_path):
    import torch

    folder = block_fp8(base, tmp_path / "fp8")
    before, names = linear(base)
    engine = engines.open(str(folder))
    with engine._weights.using() as model:
        state = model.state_dict()
        for name in names:
            # 3 bits of mantissa: half a step is a sixteenth of the number; below the smallest normal one, 2^-10 scales
            scale = before[name].abs().max() / 448
            assert torch.allclose(state[name], before[name], rtol=1 / 16, atol=float(scale) / 512)
    assert (engine.identity["quantisation"], engine.identity["dequantised"]) == ("fp8", True)
    assert engines.open(str(base)).identity.keys() == engine.identity.keys() - {"dequantised"}


def test_dequantised_weights_and_the_others_are_in_one_number_format(base, tmp_path):
    """The embedding and the norms of the file are in float32, and bfloat16 is asked for."""
    import torch

    folder = block_fp8(base, tmp_path / "fp8")
    with (
        Engines(device="cpu", dtype="bfloat16", threads=1) as engines,
        engines.open(str(folder))._weights.using() as model,
    ):
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        assert torch.isfinite(computed(model)).all()


REFUSED = {
    "compressed-tensors": ("compressed_tensors", {}, "compressed-tensors"),
    "bitsandbytes": ("bitsandbytes", {"load_in_4bit": True}, "bitsandbytes"),
    "bitsandbytes 8": ("bitsandbytes", {"load_in_8bit": True}, "bitsandbytes"),
    "gptq": ("optimum", {"bits": 4}, "optimum"),
    "awq": ("gptqmodel", {"bits": 4}, "gptqmodel"),
    "auto-round": ("auto_round", {"bits": 4}, "auto-round"),
    "aqlm": ("aqlm", {}, "aqlm"),
    "quanto": ("optimum", {"weights": "int8"}, "optimum-quanto"),
    "hqq": ("hqq", {"quant_config": {}}, "HQQ"),
    "torchao": ("torchao", {"quant_type": "int8_weight_only"}, "torchao"),
    "quark": ("quark", {}, "Quark"),
    "vptq": ("vptq", {}, "vptq"),
    "eetq": ("kernels", {}, "kernels"),
    "fbgemm_fp8": (None, {}, "requires a GPU"),
    "spqr": (None, {}, "GPU is required"),
    "modelopt": (None, {"quant_algo": "FP8"}, "does not know this format"),
    "unheard-of": (None, {}, "does not know this format"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_format_that_cannot_be_read_here_is_refused_by_name_when_it_is_opened(
    engines, base, tmp_path, kind
):
    import torch

    package, settings, missing = REFUSED[kind]
    if find_spec(package) if package else torch.cuda.is_available():
        pytest.skip("what it needs is here")
    method = kind.split()[0]
    section = {"quant_method": method} | settings
    folder = rewritten(base, tmp_path / "model", quantization_config=section)
    with pytest.raises(ModelError, match=rf"quantised \({method}.*{missing}") as caught:
        engines.open(str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("section", [{}, {"bits": 4}, [1], "fp8", {"quant_method": ["fp8"]}])
def test_a_section_that_names_no_format_is_one_line(engines, base, tmp_path, section):
    folder = rewritten(base, tmp_path / "model", quantization_config=section)
    with pytest.raises(ModelError, match="model '") as caught:
        engines.open(str(folder))
    assert "\n" not in str(caught.value)


def test_quantised_weights_are_not_quantised_once_more(base, tmp_path):
    folder = block_fp8(base, tmp_path / "fp8")
    nf4 = Placement("cpu", "bfloat16", quantisation="4bit")
    with pytest.raises(ModelError, match=r"quantised already \(fp8\), so dtype 4bit cannot"):
        quantisation("m", folder, nf4)
    assert quantisation("m", base, nf4) is None


@pytest.mark.parametrize(
    ("method", "reason"), [("full", "changes all weights"), ("qlora", "quantises ordinary weights")]
)
def test_what_cannot_be_trained_is_known_before_rows_are_read(base, tmp_path, method, reason):
    folder = block_fp8(base, tmp_path / "fp8")
    with pytest.raises(ModelError, match=rf"quantised \(fp8\), and method {method} {reason}"):
        fine_tune(make_recipe(folder, method=method), (), tmp_path / "out")


def test_an_adapter_is_trained_upon_fp8_weights(engines, base, tmp_path):
    folder = block_fp8(base, tmp_path / "fp8")
    recipe = make_recipe(folder, method="lora", epochs=1)
    tuned = fine_tune(recipe, make_rows(16), tmp_path / "tuned", engines=engines)
    assert answers(engines.open(str(tuned)), [user("bake")])
    assert (
        engines.open(str(tuned)).identity["weights"]
        == engines.open(str(folder)).identity["weights"]
    )


def test_a_layout_that_only_other_tools_read_is_named(engines, base, tmp_path):
    import torch

    tensors, names = linear(base)
    for name in names:
        tensors[name.removesuffix("weight") + "qweight"] = tensors.pop(name).to(torch.int32)
    folder = rewritten(base, tmp_path / "old", tensors)
    (folder / "quantize_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"14 tensors are missing .*quantize_config\.json"):
        engines.open(str(folder)).check_ready()
