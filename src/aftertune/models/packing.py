"""Linear layers whose weights are kept as oneDNN multiplies them, for models that compute on a CPU.

torch multiplies float32 matrices by MKL, which uses half of what an AMD processor can do, and puts bfloat16 weights in
order anew at every product. oneDNN, which comes with torch, keeps a copy of the weights in the order of its kernels and is
up to two and a half times as fast (docs/log/speed.md). Results differ by rounding, as they do from one library to the next.
"""

import os
from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_MODEL = 2**24
"""Weights of all linear layers below which they lie in a processor's cache and a call costs more than it saves."""
_LEAST_LAYER = 2**16
_ROWS = 64
"""Rows of the inputs that the order is chosen for."""


def spare_memory() -> float:
    """Return the bytes of memory on this machine that a model may take beside its weights: an eighth of all."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 8


def packed_bytes(weights: int, size: int) -> int:
    """Return the bytes of the copies that `pack` takes for a model's linear layers; 0 where it takes none.

    Args:
        weights: numbers in all of them.
        size: bytes of a number.
    """
    fits = weights >= _LEAST_MODEL and weights * size <= spare_memory()
    return weights * size if fits else 0


def pack(model: Any, dtype: str) -> None:
    """Have a model's linear layers multiply by oneDNN, where there is memory for a copy of their weights.

    Args:
        model: a torch module on the CPU; its weights stay as they are.
        dtype: its number format, in torch's names.
    """
    import torch

    number = getattr(torch, dtype)
    layers = [
        module
        for module in model.modules()
        # No subclass: it may compute something else.
        if type(module) is torch.nn.Linear
        and module.weight.dtype == number
        and module.weight.device.type == "cpu"
        and module.weight.numel() >= _LEAST_LAYER
    ]
    weights = sum(layer.weight.numel() for layer in layers)
    if not packed_bytes(weights, number.itemsize) or not _multiplies(number):
        return
    for layer in layers:
        vars(layer)["forward"] = _packed(layer.weight.detach(), layer.bias)


def unpack(model: Any) -> None:
    """Have a model's linear layers multiply as torch does, by the weights that they have now."""
    for module in model.modules():
        if isinstance(vars(module).get("forward"), partial):
            del vars(module)["forward"]


def _packed(weight: "Tensor", bias: "Tensor | None") -> partial["Tensor"]:
    import torch

    order: Any = torch.ops.mkldnn._reorder_linear_weight  # noqa: SLF001 - what torch.compile uses, too
    return partial(_product, order(weight, _ROWS), None if bias is None else bias.detach())


def _product(weight: "Tensor", bias: "Tensor | None", inputs: "Tensor") -> "Tensor":
    import torch

    multiply: Any = torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001
    product: Tensor = multiply(inputs, weight, bias, "none", [], "")
    return product


@cache
def _multiplies(number: Any) -> bool:
    """Return whether this build of torch has oneDNN's products for a number format, and they are right."""
    import torch

    if number not in (torch.float32, torch.bfloat16):
        return False
    weight = torch.linspace(-1, 1, 32 * 48).reshape(32, 48).to(number)
    inputs = torch.linspace(-1, 1, 3 * 48).reshape(3, 48).to(number)
    try:
        with torch.inference_mode():
            product = _packed(weight, None)(inputs)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return torch.allclose(product, torch.nn.functional.linear(inputs, weight), rtol=1e-2)
