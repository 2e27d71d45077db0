import json
import os
import shutil
from pathlib import Path

import pytest

from aftertune.core.ids import file_sha256
from aftertune.models import reference
from aftertune.models.reference import (
    adapter_sha256,
    cache_folder,
    cached_sha256,
    code_sha256,
    tokenizer_sha256,
    weights_sha256,
)


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
