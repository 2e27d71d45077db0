import json
import os
import shutil
from pathlib import Path

import pytest
from tiny_models import change_adapter_config

from aftertune.core.keys import file_sha256
from aftertune.errors import ModelError
from aftertune.models import reference
from aftertune.models.reference import (
    Adapter,
    Checkpoint,
    HubModel,
    adapter_sha256,
    cache_folder,
    cached_sha256,
    check_base,
    code_sha256,
    fetch,
    has_tokenizer,
    parse,
    tensor_shapes,
    tokenizer_sha256,
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
    change_adapter_config(folder, base_model_name_or_path="../base")
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


@pytest.mark.parametrize("reference", ["a\0b", "\ud800", "org/na\udfffme"])
def test_what_can_be_no_name_is_one_line(reference, adapters, tmp_path):
    with pytest.raises(ModelError, match="characters that no path or name has"):
        parse(reference)
    folder = shutil.copytree(adapters[0], tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = reference
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        parse(str(folder))


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


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1234\n".format("0" * 64)


@pytest.mark.parametrize(
    "names",
    [
        ["model.safetensors"],
        ["tokenizer.json"],
        ["config.json"],
        ["generation_config.json", "tokenizer_config.json"],
        ["model-00002-of-00002.safetensors"],
    ],
)
def test_a_pointer_in_place_of_a_file_says_what_to_run(copy, names):
    for name in names:
        (copy / name).write_text(POINTER)
    count = f"{len(names)} file" + ("s are" if len(names) > 1 else " is a")
    with pytest.raises(ModelError, match=rf"{count} Git LFS pointer.*git lfs pull") as caught:
        parse(str(copy))
    assert ", ".join(names) in one_line(caught)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_pointer_in_place_of_an_adapters_file_says_so(adapters, tmp_path, name):
    folder = shutil.copytree(adapters[0], tmp_path / "adapter")
    (folder / name).write_text(POINTER)
    with pytest.raises(ModelError, match=rf"1 file is a Git LFS pointer .*\({name}\)"):
        parse(str(folder))


def test_pointers_are_counted_and_the_first_named(copy):
    for number in range(1, 6):
        (copy / f"model-0000{number}-of-00005.safetensors").write_text(POINTER)
    with pytest.raises(
        ModelError,
        match=r"5 files are Git LFS pointers .*\(model-00001.*, model-00003-of-00005\.safetensors, …\)",
    ):
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
    change_adapter_config(folder, base_model_name_or_path="/gone/base")
    with pytest.raises(ModelError, match=r"its base: model '/gone/base' does not exist"):
        parse(str(folder))


NESTED = '{"a":' + "[" * 100_000
"""Nested more deeply than Python reads."""


@pytest.mark.parametrize("text", ["{", NESTED], ids=["cut", "nested"])
def test_a_broken_adapter_config(adapters, tmp_path, text):
    folder = shutil.copytree(adapters[0], tmp_path / "adapter")
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"adapter_config\.json cannot be read") as caught:
        parse(str(folder))
    one_line(caught)


def test_a_nested_header_of_weights(tmp_path):
    header, file = NESTED.encode(), tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelError, match="is no safetensors file") as caught:
        tensor_shapes([file])
    one_line(caught)


@pytest.fixture
def orphan(adapters, tmp_path):
    """An adapter that names a base which is not on this machine."""
    folder = shutil.copytree(adapters[0], tmp_path / "orphan")
    change_adapter_config(folder, base_model_name_or_path="org/right")
    return folder


def changed(folder, **keys):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | (keys or {"rope_theta": 1.0})))
    return folder


ELSEWHERE = {
    "another machine": "/scratch/alice/models/right",
    "a snapshot of the hub": "/home/carol/.cache/huggingface/hub/models--org--right/snapshots/0123456789abcdef",
    "a Windows path": "C:\\Users\\bob\\models\\right",
    "null": None,
    "empty": "",
    "a mirror in 4 bits": "unsloth/right-bnb-4bit",
    "a hub id": "org/right",
}


def test_a_recorded_base_that_cannot_be_looked_up_is_none(engines, base, orphan):
    change_adapter_config(orphan, base_model_name_or_path="a" * 5_000)
    engines.open(str(orphan), base=str(base))
    assert "names no base" in engines.notes[0]
    with pytest.raises(ModelError, match="name the base yourself"):
        engines.open(str(orphan))


@pytest.mark.parametrize("recorded", ELSEWHERE.values(), ids=ELSEWHERE)
def test_the_base_that_the_user_names_is_the_base_wherever_the_adapter_was_trained(
    engines, base, orphan, monkeypatch, recorded
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    change_adapter_config(orphan, base_model_name_or_path=recorded)
    engine = engines.open(str(orphan), base=str(base))
    (note,) = engines.notes
    assert str(orphan) in note
    assert str(base) in note
    assert (recorded or "names no base") in note
    assert engine.identity["weights"] == weights_sha256(base)


@pytest.mark.parametrize("recorded", [None, "", "/gone/base", "org/right"])
def test_a_base_that_nobody_names_is_told_with_its_file_and_the_way_to_name_it(
    engines, orphan, monkeypatch, recorded
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    change_adapter_config(orphan, base_model_name_or_path=recorded)
    with pytest.raises(ModelError) as caught:
        engines.open(str(orphan))
    message = one_line(caught)
    for part in (
        "base_model_name_or_path",
        "adapter_config.json",
        "BASE of aftertune check",
        recorded or "",
    ):
        assert part in message


def test_a_base_with_the_recorded_hash_needs_no_note(engines, base, orphan):
    (orphan / "recipe.json").write_text(
        json.dumps({"base_identity": {"weights": weights_sha256(base)}})
    )
    engines.open(str(orphan), base=str(base))
    assert engines.notes == []


def test_a_quantised_copy_that_it_was_trained_on_is_no_other_base(base, copy, orphan):
    changed(copy, quantization_config={"quant_method": "bitsandbytes"})
    change_adapter_config(orphan, base_model_name_or_path=str(copy))
    assert str(copy) in check_base(*pair(orphan, base))
    changed(copy, quantization_config=None)
    with pytest.raises(ModelError, match=f"other weights.*{copy.name}"):
        check_base(*pair(orphan, base))


def test_two_adapters_of_one_base_are_compared_on_it(engines, base, adapters, orphan):
    engine = engines.open(str(orphan), base=str(adapters[1]))
    assert engine.identity["weights"] == weights_sha256(base)


def test_an_adapter_on_an_adapter_is_refused_whichever_of_the_two_is_named(
    engines, base, adapters, orphan
):
    change_adapter_config(orphan, base_model_name_or_path=str(adapters[1]))
    for named in (None, str(adapters[1])):
        with pytest.raises(ModelError, match="merge that one first"):
            engines.open(str(orphan), base=named)
    engines.open(str(orphan), base=str(base))  # into which it was merged


@pytest.mark.parametrize(
    "leftover", [["adapter_config.json"], ["adapter_config.json", "adapter_model.safetensors"]]
)
@pytest.mark.parametrize(
    "weights", ["model.safetensors", "model-00001-of-00001.safetensors", "pytorch_model.bin"]
)
def test_full_weights_beside_an_adapter_are_refused_with_both_names(
    copy, adapters, leftover, weights
):
    (copy / "model.safetensors").rename(copy / weights)
    for name in leftover:
        shutil.copy(adapters[0] / name, copy)
    with pytest.raises(ModelError) as caught:
        parse(str(copy))
    assert weights in one_line(caught)
    assert "adapter_config.json" in str(caught.value)


def test_an_adapter_with_the_config_of_its_base_is_an_adapter(base, orphan):
    shutil.copy(base / "config.json", orphan)
    assert isinstance(parse(str(orphan), base=str(base)), Adapter)


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


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"first")
    return path


def test_the_hash_is_that_of_the_bytes(file):
    assert cached_sha256(file) == file_sha256(file) == cached_sha256(file)


def test_an_unchanged_file_is_not_read_again(file, monkeypatch):
    known = cached_sha256(file)
    monkeypatch.setattr(
        reference, "file_sha256", lambda path: pytest.fail(f"{path} was read again")
    )
    assert cached_sha256(file) == known


def test_a_changed_size_and_a_changed_time_are_seen(file):
    first = cached_sha256(file)
    file.write_bytes(b"longer than before")
    second = cached_sha256(file)
    file.write_bytes(b"as long as before!")
    os.utime(file, ns=(1, 1))
    assert len({first, second, cached_sha256(file)}) == 3


def test_a_file_put_in_its_place_with_the_same_size_and_time_is_seen(file, tmp_path):
    first = cached_sha256(file)
    stamp = file.stat().st_mtime_ns
    other = tmp_path / "other"
    other.write_bytes(b"other")
    os.utime(other, ns=(stamp, stamp))
    other.replace(file)
    assert cached_sha256(file) != first


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"x": 1}', '{"x": [1]}'])
def test_a_broken_cache_is_started_afresh(file, broken):
    cache_folder().mkdir(parents=True, exist_ok=True)
    (cache_folder() / "weights.json").write_text(broken)
    assert cached_sha256(file) == file_sha256(file)
    assert str(file) in json.loads((cache_folder() / "weights.json").read_text())


def test_files_that_are_gone_are_forgotten(file, tmp_path):
    cached_sha256(file)
    other = tmp_path / "other"
    other.write_bytes(b"other")
    file.unlink()
    cached_sha256(other)
    assert list(json.loads((cache_folder() / "weights.json").read_text())) == [str(other)]


def test_a_cache_that_cannot_be_written_is_done_without(file, tmp_path, monkeypatch):
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a-file"))
    assert cached_sha256(file) == file_sha256(file)


def test_weights_and_config_both_count(base, tmp_path):
    copy = shutil.copytree(base, tmp_path / "copy")
    assert weights_sha256(copy) == weights_sha256(base)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rope_theta": 1.0}))
    assert weights_sha256(copy) != weights_sha256(base)


def test_an_adapters_hash_knows_its_scale_but_not_where_its_base_lies(adapters, tmp_path):
    moved, rescaled = (
        shutil.copytree(adapters[0], tmp_path / name) for name in ("moved", "rescaled")
    )
    config = json.loads((moved / "adapter_config.json").read_text())
    elsewhere = {
        "base_model_name_or_path": "/elsewhere",
        "target_modules": config["target_modules"][::-1],
    }
    (moved / "adapter_config.json").write_text(json.dumps(config | elsewhere))
    (rescaled / "adapter_config.json").write_text(
        json.dumps(config | {"lora_alpha": config["lora_alpha"] + 1})
    )
    assert adapter_sha256(moved) == adapter_sha256(adapters[0])
    assert len({adapter_sha256(folder) for folder in (*adapters, rescaled)}) == 3


def test_a_changed_chat_template_is_another_tokenizer(base, tmp_path):
    copy = shutil.copytree(base, tmp_path / "copy")
    assert tokenizer_sha256(copy) == tokenizer_sha256(base)
    (copy / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert tokenizer_sha256(copy) != tokenizer_sha256(base)


def test_code_that_comes_along_is_hashed_with_its_place(base, tmp_path):
    copy = shutil.copytree(base, tmp_path / "copy")
    assert code_sha256(copy) is None
    (copy / "modeling_own.py").write_text("x = 1\n")
    first = code_sha256(copy)
    (copy / "modeling_own.py").write_text("x = 2\n")
    second = code_sha256(copy)
    (copy / "parts").mkdir()
    (copy / "modeling_own.py").rename(copy / "parts" / "modeling_own.py")
    assert len({None, first, second, code_sha256(copy)}) == 4


def test_the_cache_may_lie_under_the_home_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "~/somewhere")
    assert cache_folder() == Path.home() / "somewhere" / "aftertune"


def test_the_tokenizer_of_xlm_r_counts_where_it_is_alone(tmp_path):
    """Folders with another tokenizer file were hashed without it, and keep their hash."""
    file = tmp_path / "sentencepiece.bpe.model"
    hashes = set()
    assert not has_tokenizer(tmp_path)
    for content in (b"a", b"bb"):
        file.write_bytes(content)
        assert has_tokenizer(tmp_path)
        hashes.add(tokenizer_sha256(tmp_path))
    assert len(hashes) == 2
    (tmp_path / "tokenizer.json").write_text("{}")
    beside = tokenizer_sha256(tmp_path)
    file.unlink()
    assert tokenizer_sha256(tmp_path) == beside
