"""Adapters of every kind answer as plain PEFT does on a fresh base, and leave the base to others as it was."""

import json
import shutil
import warnings
from contextlib import contextmanager
from importlib.util import find_spec

import pytest
from tiny_models import answers, change_adapter_config, conversations, llama, make_checkpoint

from aftertune.errors import ModelError
from aftertune.models import adapters as in_memory
from aftertune.models.adapters import Loader, check_fit
from aftertune.models.foreign import quiet
from aftertune.models.loading import Placement

LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
PLAIN = {
    "lora": LORA,
    "rslora": LORA | {"use_rslora": True},
    "dora": LORA | {"use_dora": True},
    "patterns": LORA | {"rank_pattern": {"v_proj": 3}, "alpha_pattern": {"v_proj": 9}},
    "a layer": LORA | {"layers_to_transform": [1]},
    "all linear": LORA | {"target_modules": "all-linear", "init_lora_weights": "gaussian"},
    "norms saved": LORA | {"modules_to_save": ["norm"]},
    "embedding saved": LORA | {"modules_to_save": ["embed_tokens", "lm_head"]},
    "on the embedding": LORA | {"target_modules": ["embed_tokens", "q_proj"]},
    "on the head": LORA | {"target_modules": ["lm_head"]},
}
"""LoRA adapters that leave the base as it is and stand beside each other."""
APART = {
    "tokens": LORA | {"trainable_token_indices": [3, 7]},
    "IA3": {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "VERA": {"r": 4, "target_modules": ["q_proj"]},
    "LOHA": {"r": 2, "target_modules": ["q_proj"]},
    "LOKR": {"r": 2, "target_modules": ["q_proj"]},
    "OFT": {"oft_block_size": 4, "target_modules": ["q_proj"]},
    "LN_TUNING": {},
    "HRA": {"r": 2, "target_modules": ["q_proj"]},
    "MISS": {"r": 2, "target_modules": ["q_proj"]},
}
"""Adapters that leave the base as it is, but do not stand beside every other."""
REWRITING = {
    "pissa": LORA | {"init_lora_weights": "pissa"},
    "olora": LORA | {"init_lora_weights": "olora"},
    "bias": LORA | {"bias": "all"},
    "bias of lora": LORA | {"bias": "lora_only"},
    "replicated layers": LORA | {"layer_replication": [[0, 2], [1, 2]]},
}
KINDS = PLAIN | APART | REWRITING


def biased(size, **shape):
    return llama(size, attention_bias=True, **shape)


@pytest.fixture(scope="module")
def biased_base(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("biased") / "base", build=biased)


@contextmanager
def silent():
    """Silence what PEFT says about merging and training."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load(base):
    from transformers import AutoModelForCausalLM

    with quiet():
        return AutoModelForCausalLM.from_pretrained(base).eval()


def write(folder, base, settings, *, kind="LORA", seed=1, size=0.2, **saving):
    """Write an adapter whose weights are as far from their start as ``size``."""
    import torch
    from peft import PeftType, get_peft_model
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[kind]](task_type="CAUSAL_LM", **settings)
    with silent():
        model = get_peft_model(load(base) if not hasattr(base, "forward") else base, config)
    numbers = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape, generator=numbers) * size
    with silent():
        model.save_pretrained(folder, **saving)
    return folder


@pytest.fixture(scope="module")
def written(biased_base, tmp_path_factory):
    """Give the folder of an adapter of a kind on the biased base, and its logits by plain PEFT on a fresh base."""
    folder, logits = tmp_path_factory.mktemp("kinds"), {}

    def give(name, seed=1):
        import torch
        from peft import PeftModel

        key = f"{name} {seed}"
        if key not in logits:
            write(folder / key, biased_base, KINDS[name], kind=name if name.isupper() or name == "LN_TUNING" else "LORA", seed=seed)  # fmt: skip
            torch.manual_seed(5)
            with silent():
                model = PeftModel.from_pretrained(load(biased_base), folder / key)
            logits[key] = of(model)
        return folder / key, logits[key]

    return give


def of(model):
    import torch

    with torch.inference_mode():
        return model.eval()(torch.arange(1, 25)[None]).logits


@pytest.fixture
def loads(monkeypatch):
    counted, real = [], in_memory.load_model

    def counting(name, *args, **options):
        counted.append(name)
        return real(name, *args, **options)

    monkeypatch.setattr(in_memory, "load_model", counting)
    return counted


@pytest.fixture
def loader():
    return Loader(Placement("cpu", "float32"), threads=1)


def give_these(loader, base, order):
    """See that models asked in this order give the logits that each gives alone."""
    import torch

    alone = of(load(base))
    for adapter, expected in (item or (None, alone) for item in order):
        with loader.using("m", base, adapter) as model:
            assert torch.allclose(of(model), expected, atol=1e-4), adapter


@pytest.mark.usefixtures("everything_is_large")  # layers are packed between any two adapters
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_answers_as_on_a_fresh_base_whatever_was_there_before(
    loader, biased_base, written, kind
):
    tuned, other, plain = written(kind), written(kind, 2), written("lora")
    order = [None, tuned, None, plain, tuned, other, plain, None, other, tuned]
    give_these(loader, biased_base, order)
    logits = [item[1] for item in (tuned, other)]
    assert all(float((a - of(load(biased_base))).abs().max()) > 0.01 for a in logits)


def test_an_approximated_start_is_the_same_at_each_loading_and_noted(
    engines, biased_base, tmp_path
):
    """Plain PEFT puts another model together at each loading: `torch.svd_lowrank` draws its start."""
    import torch

    start = LORA | {"init_lora_weights": "pissa_niter_1"}
    folder = write(tmp_path / "adapter", biased_base, start)
    logits = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with Loader(Placement("cpu", "float32")).using("m", biased_base, folder) as model:
            logits.append(of(model))
    assert torch.equal(*logits)
    engines.open(str(folder))
    (note,) = engines.notes
    assert "pissa_niter_1" in note


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_plain_adapters_share_one_base(biased_base, written, loads, dtype):
    import torch

    kinds = ("lora", "dora", "patterns", "norms saved", "all linear")
    folders = [item for kind in kinds for item in (None, written(kind)[0])]
    loads.clear()
    loader, logits = Loader(Placement("cpu", dtype)), {}
    for folder in (*folders, *folders):
        with loader.using("m", biased_base, folder) as model:
            assert torch.equal(logits.setdefault(folder, of(model)), of(model))
    assert len(loads) == 1
    assert len(logits) == 1 + len(kinds)


def test_a_base_that_was_changed_is_loaded_again_once_a_switch_and_not_once_a_call(
    loader, biased_base, written, loads
):
    order = [None] * 3 + [written("pissa")] * 3 + [None] * 3
    give_these(loader, biased_base, order)
    assert len(loads) == 2


def test_a_change_that_no_configuration_announces_is_seen_by_the_forward_pass(
    loader, biased_base, written, loads, monkeypatch
):
    monkeypatch.setattr(in_memory, "rewritten_by", lambda config: None)
    rewriting = [written(kind) for kind in REWRITING]
    loads.clear()
    give_these(
        loader, biased_base, [x for item in rewriting for x in (written("lora"), item, None)]
    )
    assert len(loads) > len(rewriting)


def test_an_embedding_that_the_file_of_an_adapter_writes_over_is_no_longer_the_bases(
    loader, biased_base, tmp_path
):
    """`save_embedding_layers` puts a whole embedding into the file, here with another row for a single token."""
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file, save_file

    folder = write(tmp_path / "adapter", biased_base, LORA, save_embedding_layers=True)
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors["base_model.model.model.embed_tokens.weight"][8] += 1.0
    save_file(tensors, file, metadata={"format": "pt"})
    with quiet():
        expected = of(PeftModel.from_pretrained(load(biased_base), folder))
    plain = torch.equal(expected, of(load(biased_base)))
    assert not plain
    give_these(loader, biased_base, [None, (folder, expected), None, (folder, expected)])


# Another vocabulary


def untied(size, **shape):
    return llama(size, **shape | {"tie_word_embeddings": False})


@pytest.fixture(scope="module", params=["tied", "untied"])
def head(request, tmp_path_factory):
    """Give a base whose head is its embedding, or a matrix of its own."""
    build = untied if request.param == "untied" else llama
    return make_checkpoint(tmp_path_factory.mktemp(request.param) / "base", build=build), build


def resized(base, tokens):
    model = load(base)
    model.resize_token_embeddings(tokens, mean_resizing=False)
    return model


WITH_EMBEDDING = {
    "saved by PEFT": (LORA, {"save_embedding_layers": True}),
    "trained": (LORA | {"modules_to_save": ["embed_tokens", "lm_head"]}, {}),
    "with an update": (LORA | {"target_modules": ["embed_tokens", "lm_head"]}, {"save_embedding_layers": True}),
}  # fmt: skip


@pytest.mark.parametrize("kind", WITH_EMBEDDING)
@pytest.mark.parametrize("tokens", [33, 29])
def test_an_adapter_with_another_vocabulary_has_a_resized_base_of_its_own(
    engines, head, tmp_path, kind, tokens
):
    """As `AutoPeftModel` does: the base is resized, and the adapter brings every row."""
    import torch
    from peft import PeftModel

    (base, _), (settings, saving) = head, WITH_EMBEDDING[kind]
    with silent():
        folder = write(tmp_path / "adapter", resized(base, tokens), settings, **saving)
        expected = of(PeftModel.from_pretrained(resized(base, tokens), folder))
    engine = engines.open(str(folder), base=str(base))
    engine.check_ready()
    give_these(engine._weights.loader, base, [None, (folder, expected), None, (folder, expected)])
    assert engine._renderer._vocabulary == tokens
    assert not torch.equal(expected[..., :29], of(load(base))[..., :29])


def test_rows_that_an_adapter_does_not_bring_are_an_error_before_the_base_is_asked(
    engines, tmp_path, loads
):
    base = make_checkpoint(tmp_path / "base", build=untied)
    with silent():
        folder = write(
            tmp_path / "adapter",
            resized(base, 33),
            LORA | {"modules_to_save": ["embed_tokens"]},
            save_embedding_layers=False,
        )
    loads.clear()
    with pytest.raises(ModelError, match=r"33 tokens.*31.*holds no lm_head\.weight") as caught:
        engines.open(str(folder), base=str(base)).check_ready()
    assert "\n" not in str(caught.value)
    assert loads == []


# Tensors that do not belong


def edited(folder, target, change):
    """Copy an adapter with other tensors."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, target)
    tensors = load_file(target / "adapter_model.safetensors")
    save_file(change(tensors), target / "adapter_model.safetensors", metadata={"format": "pt"})
    return target


def configured(folder, target, **keys):
    shutil.copytree(folder, target)
    change_adapter_config(target, **keys)
    return target


UNFIT = {
    "a module less": (lambda f, t: configured(f, t, target_modules=["q_proj"]), r"4 of its 8 tensors would go unused.*v_proj.*, …"),
    "a layer less": (lambda f, t: configured(f, t, layers_to_transform=[0]), r"4 of its 8 tensors would go unused.*layers\.1"),
    "another rank": (lambda f, t: configured(f, t, r=3), r"8 of its tensors have another shape.*\[2, 32\].*\[3, 32\]"),
    "no such module": (lambda f, t: configured(f, t, target_modules=["qkv"]), r"cannot be put on its base.*qkv"),
    "a tensor less": (lambda f, t: edited(f, t, lambda x: dict(list(x.items())[1:])), r"lacks 1 of the tensors that adapter_config\.json asks for: .*lora_A"),
    "five tensors less": (lambda f, t: edited(f, t, lambda x: dict(list(x.items())[5:])), r"lacks 5 of the tensors.*, …"),
    "no saved module": (lambda f, t: configured(f, t, modules_to_save=["norm"]), r"lacks 5 of the tensors.*norm\.weight"),
    "zeros": (lambda f, t: edited(f, t, lambda x: {k: v * ("lora_A" in k) for k, v in x.items()}), r"changes nothing: all its lora_B"),
}  # fmt: skip


@pytest.mark.parametrize("fault", UNFIT)
def test_tensors_that_do_not_belong_to_the_configuration_are_an_error_before_weights_are_loaded(
    engines, biased_base, written, tmp_path, loads, fault
):
    change, message = UNFIT[fault]
    folder = change(written("lora")[0], tmp_path / "adapter")
    loads.clear()
    with pytest.raises(ModelError, match=message) as caught:
        engines.open(str(folder)).check_ready()
    assert "\n" not in str(caught.value)
    assert loads == []


@pytest.mark.parametrize("fault", ["a module less", "another rank", "a tensor less"])
def test_they_are_an_error_at_loading_too(engines, biased_base, written, tmp_path, fault):
    folder = UNFIT[fault][0](written("lora")[0], tmp_path / "adapter")
    plain = engines.open(str(written("lora")[0]))
    before = answers(plain, conversations(2))
    with pytest.raises(ModelError):
        answers(engines.open(str(folder)), conversations(2))
    assert answers(plain, conversations(2)) == before


@pytest.mark.parametrize(
    "start",
    [
        {"init_lora_weights": "corda"},
        {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}},
        {"init_lora_weights": "a start of tomorrow"},
    ],
)
def test_a_start_that_cannot_be_made_again_is_an_error_before_weights_are_loaded(
    biased_base, written, tmp_path, start
):
    if start["init_lora_weights"] == "loftq" and find_spec("bitsandbytes"):
        pytest.skip("what LoftQ needs is here")
    folder = shutil.copytree(written("lora")[0], tmp_path / "adapter")
    change_adapter_config(folder, **start)
    with pytest.raises(ModelError, match="cannot be put on its base"):
        check_fit("m", biased_base, folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_adapter_of_every_kind_fits(biased_base, written, kind):
    check_fit("m", biased_base, written(kind)[0])


REFUSED = {
    "prompt-learning": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2},
    "activated LoRA": LORA | {"peft_type": "LORA", "alora_invocation_tokens": [7, 8]},
}
"""Kinds that do not act on every prompt, or not through the base's own modules."""


@pytest.mark.parametrize("kind", REFUSED)
def test_a_kind_that_cannot_be_measured_is_refused_before_anything_is_loaded(
    engines, biased_base, written, tmp_path, kind
):
    folder = shutil.copytree(written("lora")[0], tmp_path / "adapter")
    keys = {"task_type": "CAUSAL_LM", "base_model_name_or_path": str(biased_base)}
    (folder / "adapter_config.json").write_text(json.dumps(keys | REFUSED[kind]))
    with pytest.raises(ModelError, match=kind):
        engines.open(str(folder)).check_ready()
