"""Weights against the configuration beside them: nothing missing, nothing of the model left over, known before anything is asked."""

import json
import shutil

import pytest
from quantised import rewritten
from tiny_models import answers, make_checkpoint, user

from aftertune.errors import ModelError


def tensors_of(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def changed(base, folder, change, **config):
    """Copy a checkpoint with its tensors changed and other values in its config.json."""
    tensors = tensors_of(base)
    change(tensors)
    return rewritten(base, folder, tensors, **config)


def layer(number):
    return f"model.layers.{number}."


def without_a_layer(tensors):
    for name in [name for name in tensors if name.startswith(layer(1))]:
        del tensors[name]


def with_tensor(name, *shape):
    import torch

    return lambda tensors: tensors.update({name: torch.ones(*(shape or (4,)))})


def with_another_layer(tensors):
    tensors |= {
        name.replace(layer(1), layer(2)): value.clone()
        for name, value in tensors.items()
        if name.startswith(layer(1))
    }


def prefixed(prefix):
    def change(tensors):
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    return change


def inner_names(tensors):
    """Name tensors as the model without its head saves them, with a layer more than it has."""
    with_another_layer(tensors)
    for name in list(tensors):
        tensors[name.removeprefix("model.")] = tensors.pop(name)


REFUSED = {
    "a layer count that leaves a layer unused": (
        lambda _: None,
        {"num_hidden_layers": 1},
        r"9 tensors are in its weights .*\(model\.layers\.1\.input_layernorm\.weight, .*, .*gate_proj\.weight, …\)",
    ),
    "a layer too many": (
        without_a_layer,
        {},
        r"9 tensors are missing .*\(model\.layers\.1\.input_layernorm\.weight, .*, …\)",
    ),
    "a tensor too few": (
        lambda tensors: tensors.pop("model.norm.weight"),
        {},
        r"1 tensor is missing from its weights \(model\.norm\.weight\)",
    ),
    "an adapter's tensors, not merged": (
        with_tensor("model.layers.0.self_attn.q_proj.lora_A.weight", 4, 32),
        {},
        r"1 tensor is .*lora_A\.weight\)",
    ),
    "scales without a quantisation": (
        with_tensor("model.layers.0.mlp.up_proj.weight_scale_inv"),
        {},
        r"1 tensor is .*weight_scale_inv\)",
    ),
    "a bias that the configuration does not know": (
        with_tensor("lm_head.bias", 31),
        {},
        r"1 tensor is .*lm_head\.bias\)",
    ),
    "names of the inner model": (inner_names, {}, r"9 tensors are .*\(layers\.2\."),
    "other shapes": (
        lambda _: None,
        {"intermediate_size": 32},
        r"other shapes than its config\.json",
    ),
    "PEFT's names": (prefixed("base_model.model."), {}, "tensors are missing"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_weights_that_do_not_fit_are_named_before_anything_is_asked(engines, base, tmp_path, kind):
    change, config, message = REFUSED[kind]
    folder = changed(base, tmp_path / "model", change, **config)
    engine = engines.open(str(folder))
    for use in (engine.check_ready, lambda: answers(engine, [user("bake")])):
        with pytest.raises(ModelError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)


READ = {
    "a value head": with_tensor("v_head.summary.weight", 1, 32),
    "a classifier's head": with_tensor("score.weight", 2, 32),
    "a vision tower": with_tensor("vision_tower.patch_embed.weight", 4, 4),
    "prediction ahead, in a part of its own": with_tensor("mtp.layers.0.norm.weight", 32),
    "frequencies that older versions stored": with_tensor(
        "model.layers.0.self_attn.rotary_emb.inv_freq", 4
    ),
    "a second copy in stale shards": lambda _: None,
}


@pytest.mark.parametrize("kind", READ)
def test_what_stands_beside_the_language_model_changes_nothing(engines, base, tmp_path, kind):
    folder = changed(base, tmp_path / "model", READ[kind])
    if kind.endswith("shards"):
        name = "model-00001-of-00002.safetensors"
        shutil.copyfile(base / "model.safetensors", folder / name)
    engine = engines.open(str(folder))
    engine.check_ready()
    asked = [user("bake", "cake"), user("read", "the", "map")]
    assert answers(engine, asked) == answers(engines.open(str(base)), asked)


def test_layers_for_prediction_ahead_are_no_part_of_the_answer(engines, base, tmp_path):
    from aftertune.models.loading import _layers_ahead

    class Config:
        num_hidden_layers, num_nextn_predict_layers = 2, 1

        def get_text_config(self):
            return self

    pattern = _layers_ahead(Config())
    names = [
        "model.layers.2.eh_proj.weight",
        "model.layers.1.mlp.up_proj.weight",
        "model.layers.20.x",
    ]
    assert [bool(pattern.search(name)) for name in names] == [True, False, False]
    Config.num_nextn_predict_layers = 0
    assert _layers_ahead(Config()) is None
    folder = changed(base, tmp_path / "model", with_another_layer, num_nextn_predict_layers=1)
    engine = engines.open(str(folder))
    engine.check_ready()
    assert answers(engine, [user("bake")]) == answers(engines.open(str(base)), [user("bake")])


def test_a_head_of_its_own_counts_though_the_configuration_ties_it(engines, base, tmp_path):
    import torch

    folder = changed(
        base,
        tmp_path / "own",
        lambda tensors: tensors.update({"lm_head.weight": torch.eye(31, 32)}),
    )
    engine = engines.open(str(folder))
    engine.check_ready()
    with engine._weights.using() as model:
        assert torch.equal(model.get_output_embeddings().weight, torch.eye(31, 32))


def test_an_embedding_may_have_more_rows_than_the_tokenizer_has_tokens(engines, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    def padded(size, **shape):
        return LlamaForCausalLM(LlamaConfig(**size | {"vocab_size": 64}, **shape))

    engine = engines.open(str(make_checkpoint(tmp_path / "padded", build=padded)))
    engine.check_ready()
    assert answers(engine, [user("bake")])


def test_shards_of_an_older_save_beside_the_index_are_not_read(engines, base, tmp_path):
    import torch
    from safetensors.torch import save_file

    folder = shutil.copytree(base, tmp_path / "sharded")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    names = tensors_of(base)
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    stale = {name: torch.zeros_like(value) for name, value in names.items()}
    save_file(stale, folder / "model-00001-of-00009.safetensors", metadata={"format": "pt"})
    engine = engines.open(str(folder))
    engine.check_ready()
    assert answers(engine, [user("bake")]) == answers(engines.open(str(base)), [user("bake")])


def test_weights_are_compared_once(engines, base, monkeypatch):
    from aftertune.models import adapters

    compared = []
    check = adapters.check_weights
    monkeypatch.setattr(
        adapters,
        "check_weights",
        lambda *args, **more: compared.append(args) or check(*args, **more),
    )
    for _ in range(2):
        engines.open(str(base)).check_ready()
    assert len(compared) == 1
