import shutil

import pytest
from tiny_models import (
    NO_SYSTEM,
    answers,
    change_adapter_config,
    conversations,
    make_adapter,
    make_checkpoint,
    user,
)

from aftertune.core.records import Decoding
from aftertune.errors import AftertuneError, ModelError
from aftertune.models import adapters as in_memory
from aftertune.models.adapters import Loader
from aftertune.models.loading import Placement
from aftertune.models.open import Engines
from aftertune.models.vllm import VllmServer


@pytest.fixture
def loads(monkeypatch):
    seen, load = [], in_memory.load_model

    def counting(name, folder, *args, **options):
        seen.append(folder.name)
        return load(name, folder, *args, **options)

    monkeypatch.setattr(in_memory, "load_model", counting)
    return seen


def test_a_reference_is_opened_once_and_loads_nothing(engines, base, loads):
    engine = engines.open(str(base), name="base")
    assert engines.open(str(base)) is engine
    engine.keys(conversations(3), Decoding(), 0)
    assert loads == []


def test_adapters_share_the_base_and_do_not_touch_its_answers(engines, base, adapters, loads):
    prompts = conversations(20)
    first, second = (engines.open(str(folder)) for folder in adapters)
    plain = engines.open(str(base))
    before = answers(plain, prompts)
    given = [answers(first, prompts), answers(second, prompts)]
    assert answers(plain, prompts) == before
    assert [answers(first, prompts), answers(second, prompts)] == given
    assert given[0] != before != given[1] != given[0]
    assert loads == ["base"]


def test_interleaved_engines_do_not_mix_their_weights(engines, base, adapters, monkeypatch):
    from tiny_models import jobs

    monkeypatch.setattr("aftertune.models.batching.MAX_ROWS", 4)
    prompts = conversations(12)
    opened = [engines.open(str(folder)) for folder in (base, *adapters)]
    expected = [dict(engine.generate(jobs(engine, prompts))) for engine in opened]
    streams = [engine.generate(jobs(engine, prompts)) for engine in opened]
    given = [dict(stream) for stream in map(list, zip(*zip(*streams, strict=True), strict=True))]
    assert given == expected


def test_an_adapter_answers_as_if_merged(engines, base, adapters, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from aftertune.models.foreign import quiet

    with quiet():
        merged = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(base), adapters[0]
        ).merge_and_unload()
        shutil.copytree(base, tmp_path / "merged")
        merged.save_pretrained(tmp_path / "merged")
    pairs = [(prompt, "bake a cake") for prompt in conversations(10)]
    adapter, whole = (
        engines.open(str(adapters[0])).nll(pairs),
        engines.open(str(tmp_path / "merged")).nll(pairs),
    )
    assert adapter == pytest.approx(whole, rel=1e-4)


def test_one_base_is_in_memory_at_a_time(engines, base, tmp_path, loads):
    other = make_checkpoint(tmp_path / "other", seed=9)
    prompts = conversations(5)
    first = answers(engines.open(str(base)), prompts)
    assert answers(engines.open(str(other)), prompts) != first
    assert answers(engines.open(str(base)), prompts) == first
    assert loads == ["base", "other", "base"]


def test_old_adapters_leave_memory_and_come_back(engines, base, tmp_path, monkeypatch):
    monkeypatch.setattr(in_memory, "MAX_ADAPTERS", 2)
    folders = [make_adapter(tmp_path / f"a{seed}", base, seed=seed) for seed in range(4)]
    prompts = conversations(5)
    opened = [engines.open(str(folder)) for folder in folders]
    given = [answers(engine, prompts) for engine in opened]
    assert [answers(engine, prompts) for engine in opened] == given
    assert len(engines._loader._adapters) == 2


def test_freed_weights_load_again(engines, base, loads):
    engine = engines.open(str(base))
    before = answers(engine, conversations(3))
    engine.close()
    assert answers(engine, conversations(3)) == before
    assert loads == ["base", "base"]


def test_an_adapter_with_a_tokenizer_of_its_own_uses_it(base, adapters, engines, tmp_path):
    from tiny_models import TEMPLATE, make_tokenizer

    folder = shutil.copytree(adapters[0], tmp_path / "adapter")
    make_tokenizer("please " + TEMPLATE).save_pretrained(folder)
    own, plain = engines.open(str(folder)), engines.open(str(adapters[0]))
    assert own.identity["tokenizer"] != plain.identity["tokenizer"]
    assert (
        len(own._renderer.prompts([user("bake")])[0])
        == len(plain._renderer.prompts([user("bake")])[0]) + 1
    )


def test_an_adapter_of_another_base_is_refused_at_opening(engines, adapters, tmp_path):
    other = make_checkpoint(tmp_path / "other", seed=9)
    with pytest.raises(ModelError, match="was trained on"):
        engines.open(str(adapters[0]), base=str(other))


def test_only_an_adapter_is_opened_anew_for_a_base_that_is_named(engines, base, adapters, tmp_path):
    other = make_checkpoint(tmp_path / "other", seed=9)
    assert engines.open(str(other), base=str(base)) is engines.open(str(other))
    assert engines.open(str(adapters[0]), base=str(base)) is not engines.open(str(adapters[0]))
    assert len(engines.opened) == 3


def test_an_adapters_tokenizer_without_a_template_takes_that_of_its_base(
    engines, base, adapters, tmp_path
):
    from tiny_models import make_tokenizer

    bare, whole = (shutil.copytree(adapters[0], tmp_path / name) for name in ("bare", "whole"))
    make_tokenizer(None).save_pretrained(bare)
    make_tokenizer().save_pretrained(whole)
    prompts = conversations(5)
    given = [answers(engines.open(str(folder)), prompts) for folder in (bare, whole, adapters[0])]
    assert given[0] == given[1] == given[2]
    (note,) = engines.notes
    assert str(bare) in note
    identities = [engines.open(str(folder)).identity for folder in (bare, whole)]
    assert identities[0].keys() - identities[1].keys() == {"template"}


@pytest.mark.parametrize("rank", [2, "two"])
def test_an_adapter_that_does_not_fit_is_one_line(engines, base, adapters, tmp_path, rank):
    folder = shutil.copytree(adapters[0], tmp_path / "adapter")
    change_adapter_config(folder, r=rank)
    with pytest.raises(ModelError, match="cannot be put on its base") as caught:
        answers(engines.open(str(folder)), [user("bake")])
    assert "\n" not in str(caught.value)
    assert answers(engines.open(str(adapters[0])), [user("bake")])


def test_an_adapter_without_some_tensors_is_refused(engines, adapters, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(adapters[0], tmp_path / "adapter")
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(
        dict(list(tensors.items())[1:]),
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ModelError, match=r"lacks 1 of the tensors.*lora_A\.weight"):
        answers(engines.open(str(folder)), [user("bake")])


def test_weights_without_some_tensors_are_refused_instead_of_filled_with_noise(
    engines, base, tmp_path
):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(base, tmp_path / "holed")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 tensor is missing.*layers\.1\.mlp\.up_proj"):
        answers(engines.open(str(folder)), [user("bake")])


def test_cut_off_weights_are_one_line(engines, base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "cut")
    (folder / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        answers(engines.open(str(folder)), [user("bake")])
    assert "\n" not in str(caught.value)


def test_threads_and_dtype_are_as_asked(base):
    import torch

    with Engines(threads=1, device="cpu", dtype="bfloat16") as engines:
        engine = engines.open(str(base))
        assert engines.threads == 1
        assert engine.identity["dtype"] == "bfloat16"
        assert answers(engine, [user("bake")])
        assert torch.get_num_threads() == 1


def test_an_unknown_dtype_is_refused(base):
    with Engines(dtype="int9") as engines, pytest.raises(ModelError, match="int9"):
        engines.open(str(base))


def test_code_decides_the_key_only_where_it_is_run(base, adapters, tmp_path):
    copy = shutil.copytree(base, tmp_path / "copy")
    (copy / "modeling_own.py").write_text("x = 1\n")
    tuned = shutil.copytree(adapters[0], tmp_path / "tuned")
    (tuned / "tokenization_own.py").write_text("x = 1\n")

    def identity(reference, **options):
        with Engines(device="cpu", **options) as opened:
            return opened.open(
                str(reference), base=str(copy) if reference is tuned else None
            ).identity

    assert identity(copy) == identity(base) == identity(base, trust_remote_code=True)
    assert identity(copy, trust_remote_code=True).keys() - identity(base).keys() == {"code"}
    assert identity(tuned, trust_remote_code=True).keys() - identity(tuned).keys() == {
        "code",
        "adapter_code",
    }


@pytest.mark.parametrize(
    ("device", "message"), [("cuda:7", "finds none here"), ("abacus", "is unknown")]
)
def test_a_device_that_is_not_there_is_said_at_once(tmp_path, device, message):
    import torch

    if device == "cuda:7" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    base = make_checkpoint(tmp_path / "base")
    with Engines(device=device) as engines, pytest.raises(ModelError, match=message):
        engines.open(str(base))


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
