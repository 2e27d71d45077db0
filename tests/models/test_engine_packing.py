"""Linear layers on a CPU give the same products by oneDNN, and those of the weights that they have."""

import pytest
from tiny_models import answers, conversations

from aftertune.core.records import Decoding
from aftertune.models import packing
from aftertune.models.open import Engines
from aftertune.models.packing import pack, packed_bytes, unpack


def layers(model):
    import torch

    return [module for module in model.modules() if type(module) is torch.nn.Linear]


def is_packed(layer):
    return "forward" in vars(layer)


def network(dtype="float32"):
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(48, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32, bias=False)
    ).to(getattr(torch, dtype))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("shape", [(1, 48), (7, 48), (2, 300, 48)])
def test_products_are_the_same(dtype, tolerance, shape, everything_is_large):
    import torch

    model = network(dtype)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(
        getattr(torch, dtype)
    )
    with torch.inference_mode():
        expected = model(inputs)
        pack(model, dtype)
        if not packing._multiplies(getattr(torch, dtype)):
            pytest.skip("this build of torch, or this processor, does not multiply so")
        assert all(map(is_packed, layers(model)))
        torch.testing.assert_close(model(inputs), expected, rtol=tolerance, atol=tolerance)
        unpack(model)
        assert not any(map(is_packed, layers(model)))
        assert torch.equal(model(inputs), expected)


def test_small_models_and_those_without_memory_for_a_copy_stay_as_they_are():
    model = network()
    pack(model, "float32")
    assert not any(map(is_packed, layers(model)))
    assert packed_bytes(2**25, 4) == 2**27
    assert packed_bytes(2**60, 4) == packed_bytes(2**20, 4) == 0


def test_a_subclass_and_another_number_format_are_left_alone(everything_is_large):
    import torch

    class Own(torch.nn.Linear):
        pass

    model = torch.nn.Sequential(Own(8, 8), torch.nn.Linear(8, 8).double())
    pack(model, "float32")
    assert not any(map(is_packed, model))


def test_an_engine_with_adapters_gives_the_same_answers(base, adapters, everything_is_large):
    asked, greedy = conversations(12), Decoding(max_new_tokens=12)
    given = {}
    for packs in (True, False):
        with Engines(threads=1, device="cpu") as engines, pytest.MonkeyPatch.context() as patch:
            if not packs:
                patch.setattr(packing, "_LEAST_MODEL", 2**60)
            opened = [engines.open(str(folder)) for folder in (base, *adapters, base)]
            given[packs] = [answers(engine, asked, greedy) for engine in opened]
            with opened[0]._weights.using() as model:
                assert any(map(is_packed, layers(model))) is packs
    assert given[True] == given[False]
    assert given[True][0] == given[True][-1]
