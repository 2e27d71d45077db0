import json
import shutil

import pytest

from aftertune.errors import ModelError
from aftertune.models.reference import (
    Adapter,
    Checkpoint,
    HubModel,
    check_base,
    fetch,
    parse,
    weights_sha256,
)


@pytest.fixture
def copy(base, tmp_path):
    return shutil.copytree(base, tmp_path / "copy")


def one_line(caught):
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_checkpoint_folder(base):
    assert parse(str(base)) == Checkpoint(str(base), base)


def test_an_adapter_names_its_base(base, adapters):
    found = parse(str(adapters[0]))
    assert isinstance(found, Adapter)
    assert found.base == Checkpoint(str(base), base)


def test_the_base_of_an_adapter_can_be_given(copy, adapters):
    assert parse(str(adapters[0]), base=str(copy)).base.folder == copy


def test_a_base_beside_the_adapter_is_found(base, adapters, tmp_path):
    folder = shutil.copytree(adapters[0], tmp_path / "study" / "adapter")
    shutil.copytree(base, tmp_path / "study" / "base")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": "../base"})
    )
    assert parse(str(folder)).base.folder.samefile(tmp_path / "study" / "base")


@pytest.mark.parametrize("reference", ["gpt2", "org/name", "Qwen/Qwen2.5-0.5B-Instruct"])
def test_what_is_no_folder_may_be_a_hub_id(reference):
    assert parse(reference) == HubModel(reference)


@pytest.mark.parametrize(
    "reference", ["./gone", "/no/such/model", "~/gone-model", "a/b/c", "models/", ".hidden"]
)
def test_what_looks_like_a_path_is_never_looked_up(reference):
    with pytest.raises(ModelError, match="does not exist"):
        parse(reference)


def test_a_path_whose_first_part_is_a_folder_here_is_a_path(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        parse("runs/base")


def test_a_hub_model_without_network_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cannot be had from the hub") as caught:
        fetch(HubModel("aftertune/no-such-model"))
    one_line(caught)


def test_an_endpoint_is_told_by_its_address_or_its_provider():
    assert parse("https://example.org/v1#m").model == "m"
    assert parse("openai:gpt-4o-mini").provider.name == "openai"
    with pytest.raises(ModelError, match="names no model"):
        parse("https://example.org/v1")


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        (["config.json"], "no config.json"),
        (["model.safetensors"], "no weights"),
        (["tokenizer.json"], "no tokenizer"),
    ],
)
def test_an_incomplete_checkpoint_says_what_is_missing(copy, removed, said):
    for name in removed:
        (copy / name).unlink()
    with pytest.raises(ModelError, match=said) as caught:
        parse(str(copy))
    assert str(copy) in one_line(caught)


def test_pickled_weights_are_named_and_refused(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*safetensors"):
        parse(str(copy))


def test_a_missing_shard_is_named(copy):
    shards = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(shards))
    with pytest.raises(ModelError, match="model-00002-of-00002"):
        parse(str(copy))


def test_an_adapter_without_safetensors(adapters, tmp_path):
    folder = shutil.copytree(adapters[0], tmp_path / "adapter")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors"):
        parse(str(folder))


def test_an_adapter_whose_base_is_gone(adapters, tmp_path):
    folder = shutil.copytree(adapters[0], tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": "/gone/base"})
    )
    with pytest.raises(ModelError, match=r"its base: model '/gone/base' does not exist"):
        parse(str(folder))


def test_a_broken_adapter_config(adapters, tmp_path):
    folder = shutil.copytree(adapters[0], tmp_path / "adapter")
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"adapter_config\.json cannot be read") as caught:
        parse(str(folder))
    one_line(caught)


@pytest.fixture
def orphan(adapters, tmp_path):
    """An adapter that names a base which is not on this machine."""
    folder = shutil.copytree(adapters[0], tmp_path / "orphan")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": "org/right"})
    )
    return folder


def changed(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rope_theta": 1.0}))
    return folder


def test_an_adapter_whose_base_is_elsewhere_is_told_by_name(base, orphan, tmp_path):
    right, wrong = (shutil.copytree(base, tmp_path / name) for name in ("right", "wrong"))
    check_base(*pair(orphan, right))
    with pytest.raises(ModelError, match="was trained on 'org/right'") as caught:
        check_base(*pair(orphan, wrong))
    one_line(caught)


def test_an_adapter_whose_base_is_here_is_told_by_its_weights(copy, adapters):
    check_base(*pair(adapters[0], copy))  # another name, the same weights
    with pytest.raises(ModelError, match="other weights") as caught:
        check_base(*pair(adapters[0], changed(copy)))
    one_line(caught)


def test_the_recorded_hash_decides_before_the_name(base, orphan, tmp_path):
    (orphan / "recipe.json").write_text(
        json.dumps({"base_identity": {"weights": weights_sha256(base)}})
    )
    wrong_name = shutil.copytree(base, tmp_path / "wrong")
    check_base(*pair(orphan, wrong_name))
    with pytest.raises(ModelError, match=r"other weights.*recipe\.json"):
        check_base(*pair(orphan, changed(shutil.copytree(base, tmp_path / "right"))))


def pair(adapter, base):
    found = parse(str(adapter), base=str(base))
    return found, found.base
