"""Sampling that gives a request the same answer alone and in any batch.

A token is drawn by the Gumbel-max trick (Gumbel 1954; Maddison et al. 2014, "A* sampling"): the argmax of
``logits / temperature + g`` with independent standard Gumbel noise ``g`` is a draw from the softmax. The noise is a pure
function of request, step and token, computed by SplitMix64 (Steele, Lea & Flood 2014) in integer arithmetic, so neither
the neighbours in the batch nor the device's own generator has a say.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aftertune.core.records import Decoding

if TYPE_CHECKING:
    from torch import Tensor

_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed 64-bit integer, like the two below
_MIX_1 = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
_MIX_2 = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
_UNIFORM_BITS = 23
"""k + 0.5 with k < 2**23 is exact in float32, so 0 < u < 1 strictly on every device."""


def request_seed(seed: int, tokens: Sequence[int], sample: int) -> int:
    """Return the signed 64-bit seed of one request: decoding seed, input tokens and sample number."""
    digest = hashlib.blake2b(f"{seed}/{sample}/".encode(), digest_size=8)
    digest.update(",".join(map(str, tokens)).encode())
    return int.from_bytes(digest.digest(), "little", signed=True)


def gumbel_noise(seeds: "Tensor", step: int, vocabulary: int) -> "Tensor":
    """Return standard Gumbel noise, float32 ``[requests, vocabulary]``.

    Args:
        seeds: int64 ``[requests]``, from `request_seed`.
        step: number of tokens already drawn.
        vocabulary: number of tokens to draw from.
    """
    import torch

    counter = torch.arange(vocabulary, device=seeds.device, dtype=torch.int64) + (
        step * vocabulary + 1
    )
    bits = _splitmix64(seeds[:, None] + counter[None, :] * _GOLDEN)
    uniform = (_shift_right(bits, 64 - _UNIFORM_BITS).to(torch.float32) + 0.5) * 2.0**-_UNIFORM_BITS
    return -torch.log(-torch.log1p(-uniform))


class GumbelSampler:
    """A transformers logits processor after which the argmax is a draw: temperature, top-k, top-p, then noise.

    Args:
        decoding: temperature above 0, top_p in (0, 1], top_k (0 keeps all).
        seeds: one per row of the batch, from `request_seed`.
        prompt_length: padded length of the batch's prompts.
    """

    def __init__(
        self, decoding: Decoding, seeds: Sequence[int], prompt_length: int, device: str
    ) -> None:
        import torch
        from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        self._seeds = torch.tensor(seeds, dtype=torch.int64, device=device)
        self._prompt_length = prompt_length
        self._warpers: list[Any] = [TemperatureLogitsWarper(float(decoding.temperature))]
        if decoding.top_k > 0:
            self._warpers.append(TopKLogitsWarper(decoding.top_k))
        if decoding.top_p < 1.0:
            self._warpers.append(TopPLogitsWarper(decoding.top_p))

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """Return the scores ``[rows, vocabulary]`` with the noise of this step added."""
        scores = scores.float()
        for warp in self._warpers:
            scores = warp(input_ids, scores)
        return scores + gumbel_noise(
            self._seeds, input_ids.shape[1] - self._prompt_length, scores.shape[1]
        )


def _splitmix64(state: "Tensor") -> "Tensor":
    """Return SplitMix64's output for each state; int64 products wrap around as the generator wants."""
    state = (state ^ _shift_right(state, 30)) * _MIX_1
    state = (state ^ _shift_right(state, 27)) * _MIX_2
    return state ^ _shift_right(state, 31)


def _shift_right(bits: "Tensor", count: int) -> "Tensor":
    """Shift int64 right without copying the sign."""
    return (bits >> count) & ((1 << (64 - count)) - 1)
