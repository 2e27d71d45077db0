"""The number format that ``dtype: auto`` chooses on a CPU."""

import pytest
from gguf_files import write_gguf
from quantised import block_fp8
from tiny_models import answers, conversations, make_adapter, make_checkpoint

from aftertune.core.records import Decoding
from aftertune.models import open as opening
from aftertune.models.loading import multiplies_bfloat16
from aftertune.models.open import Engines


def stored_in(dtype):
    def write(_base, folder):
        import torch
        from tiny_models import llama

        return make_checkpoint(
            folder, build=lambda *size, **shape: llama(*size, **shape).to(getattr(torch, dtype))
        )

    return write


def gguf(_base, folder):
    folder.mkdir()
    write_gguf(folder / "tiny.gguf")
    return folder / "tiny.gguf"


STORED = {
    "bfloat16": (stored_in("bfloat16"), "bfloat16"),
    "float32": (stored_in("float32"), "float32"),
    "float16": (stored_in("float16"), "float32"),
    "fp8": (block_fp8, "bfloat16"),
    "gguf": (gguf, "bfloat16"),
}


@pytest.fixture
def fast(monkeypatch, request):
    """Have a processor with or without instructions for bfloat16; without, it computes the same more slowly."""
    monkeypatch.setattr(opening, "multiplies_bfloat16", lambda: request.param)
    return request.param


def opened(reference, dtype="auto"):
    engines = Engines(threads=1, device="cpu", dtype=dtype)
    return engines, engines.open(str(reference))


@pytest.mark.parametrize("fast", [True, False], indirect=True)
@pytest.mark.parametrize("kind", STORED)
def test_what_auto_chooses_stands_in_the_key(kind, base, tmp_path, fast):
    write, chosen = STORED[kind]
    reference = write(base, tmp_path / "model")
    expected = chosen if fast else "float32"
    engines, engine = opened(reference)
    assert engine.identity["dtype"] == expected
    assert any("dtype: float32" in note for note in engines.notes) is (expected == "bfloat16")
    prompts, greedy = conversations(3), Decoding(max_new_tokens=8)
    by_request = {
        dtype: opened(reference, dtype)[1].keys(prompts, greedy, 0)
        for dtype in ("float32", "bfloat16")
    }
    assert engine.keys(prompts, greedy, 0) == by_request[expected]
    assert not set(by_request["float32"]) & set(by_request["bfloat16"])


@pytest.mark.parametrize("fast", [True], indirect=True)
def test_an_adapter_is_computed_as_its_base(tmp_path, fast):
    import torch

    base = stored_in("bfloat16")(None, tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base)
    plain = make_checkpoint(tmp_path / "plain")
    engines, engine = opened(adapter)
    assert engine.identity["dtype"] == "bfloat16"
    for reference, dtype in ((adapter, "bfloat16"), (plain, "float32"), (base, "bfloat16")):
        with engines.open(str(reference))._weights.using() as model:
            assert model.dtype == getattr(torch, dtype)
    assert engines.training_identity(str(base))["dtype"] == "bfloat16"


@pytest.mark.parametrize("fast", [True], indirect=True)
def test_the_same_run_gives_the_same_answers(tmp_path, fast, monkeypatch):
    from aftertune.models.batching import Capacity

    monkeypatch.setattr(Capacity, "rows", lambda *_: 7)
    base, asked = stored_in("bfloat16")(None, tmp_path / "base"), conversations(40)
    warm = Decoding(max_new_tokens=12, temperature=0.8)
    runs = [
        [answers(engine, asked, decoding) for decoding in (Decoding(max_new_tokens=12), warm)]
        for _, engine in (opened(base), opened(base))
    ]
    assert runs[0] == runs[1]


def test_the_processor_is_asked_for_its_flags():
    assert multiplies_bfloat16() in {True, False}
