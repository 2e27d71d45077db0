"""What a machine cannot do is said before any weights load; a system prompt without a place is recorded."""

import pytest
from tiny_models import NO_SYSTEM, make_checkpoint

from aftertune.errors import AftertuneError
from aftertune.models.loading import Loader, Placement
from aftertune.models.open import Engines
from aftertune.models.vllm import VllmServer


def no_gpu():
    import torch

    return not torch.cuda.is_available()


@pytest.mark.skipif(not no_gpu(), reason="a CUDA GPU is here")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dtype": "4bit"}, "dtype 4bit needs a CUDA GPU and the package bitsandbytes"),
        ({"device": "spread"}, "torch finds none here"),
        ({"dtype": "8bit"}, "dtype '8bit' is unknown"),
    ],
)
def test_what_cannot_run_here_is_one_line_when_a_model_is_opened(base, settings, said):
    with (
        Engines(**{"device": "cpu"} | settings) as engines,
        pytest.raises(AftertuneError, match=said) as caught,
    ):
        engines.open(str(base))
    assert "\n" not in str(caught.value)


def test_four_bits_are_not_for_vllm(base, tmp_path):
    with (
        Engines(device="cpu", dtype="4bit", vllm=VllmServer((), tmp_path / "log")) as engines,
        pytest.raises(AftertuneError, match="vllm_arguments"),
    ):
        engines.open(str(base))


def test_where_weights_lie_reaches_transformers(base, monkeypatch):
    import transformers

    asked = []

    def load(*_, **options):
        asked.append(options)
        raise OSError("seen")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", load)
    for placement in (Placement("cpu", "float32"), Placement("cuda", "bfloat16", spread=True)):
        with pytest.raises(AftertuneError, match="seen"), Loader(placement).using("m", base, None):
            pass
    assert [options["device_map"] for options in asked] == [{"": "cpu"}, "auto"]


def test_attention_is_sdpa_where_the_architecture_has_it(engines, base):
    with engines.open(str(base))._weights.using() as model:
        assert model.config._attn_implementation == "sdpa"


def test_an_engine_knows_that_its_template_takes_no_system_turn(engines, base, tmp_path):
    other = make_checkpoint(tmp_path / "other", template=NO_SYSTEM)
    assert [engines.open(str(folder)).folds_system for folder in (base, other)] == [False, True]
