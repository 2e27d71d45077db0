"""Decoding: the settings merged with the checkpoint's own generation_config, and draws that no batch can change.

A token is drawn by the Gumbel-max trick (Gumbel 1954; Maddison et al. 2014, "A* sampling"): the argmax of
``logits / temperature + g`` with independent standard Gumbel noise ``g`` is a draw from the softmax. The noise is a pure
function of request, step and token, computed by SplitMix64 (Steele, Lea & Flood 2014) in integer arithmetic, so neither
the neighbours in the batch nor the device's own generator has a say.
"""

import hashlib
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftertune.core.records import Decoding
from aftertune.errors import ModelError
from aftertune.models.reference import read_json, text_config

if TYPE_CHECKING:
    from torch import Tensor


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_tokens(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_count, value))


TAKEN_FROM_CHECKPOINT: Mapping[str, Callable[[object], bool]] = {
    "repetition_penalty": lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    ),
    "no_repeat_ngram_size": _is_count,
    "bad_words_ids": lambda value: (
        isinstance(value, list) and all(word and _are_tokens(word) for word in value)
    ),
    "suppress_tokens": _are_tokens,
    "begin_suppress_tokens": _are_tokens,
}
"""Fields of generation_config that are obeyed, and whether a value is sound. Temperature, top-p, top-k and the token limit
are the study's; the end tokens are the checkpoint's and the tokenizer's together; everything else is left at transformers'
defaults."""
_LOOKS_BACK = {"no_repeat_ngram_size", "bad_words_ids"}
"""Penalties on runs of tokens: padding between a shared prefix and the rest of a row would break the runs."""
_BY_STEP = {*_LOOKS_BACK, "begin_suppress_tokens"}
"""Settings under which a step depends on more than the tokens that a row contains: rows of a running batch are at different
steps, and padding stands before them."""
_NEUTRAL = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}


class CheckpointDefaults:
    """The settings that a checkpoint adds to a declared decoding.

    Attributes:
        end_tokens: ids that end an answer, sorted.
        extra: the fields of `TAKEN_FROM_CHECKPOINT` that the checkpoint sets to something.
        shares_prefixes: whether padding may stand between a shared prefix and the rest of a row.
        acts_on_each_step_alike: whether rows at different steps may stand in a batch.
        context: longest sequence in tokens, where the config states it.
    """

    def __init__(self, name: str, folder: Path, tokenizer_end: tuple[int, ...]) -> None:
        text = text_config(name, folder)
        file = folder / "generation_config.json"
        own = read_json(name, file) if file.is_file() else {}
        for field, is_sound in TAKEN_FROM_CHECKPOINT.items():
            value = own.get(field)
            if value is not None and not is_sound(
                value
            ):  # transformers would fail in the midst of a run
                raise ModelError(
                    f"model {name!r}: generation_config.json: {field} cannot be {reprlib.repr(value)}; mend it or take it out"
                )
        self.context: int | None = text.get("max_position_embeddings")
        if self.context is not None and not (_is_count(self.context) and self.context > 0):
            raise ModelError(
                f"model {name!r}: config.json: max_position_embeddings cannot be {reprlib.repr(self.context)}; mend it or take it out"
            )
        ends = own.get("eos_token_id", text.get("eos_token_id"))
        listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
        if not _are_tokens(listed):
            raise ModelError(
                f"model {name!r}: eos_token_id is {reprlib.repr(ends)}; it should be a token's number, or several"
            )
        self.end_tokens: list[int] = sorted({*listed, *tokenizer_end})
        self.extra: dict[str, Any] = {
            field: own[field]
            for field in TAKEN_FROM_CHECKPOINT
            if own.get(field) not in (None, _NEUTRAL.get(field))
        }
        self.shares_prefixes = not _LOOKS_BACK & set(self.extra)
        self.acts_on_each_step_alike = not _BY_STEP & set(self.extra)

    def generation_config(self, limit: int, pad_token: int) -> Any:
        """Return transformers' settings of a greedy answer of at most ``limit`` tokens: a draw is the argmax after `GumbelSampler`."""
        from transformers import GenerationConfig

        return GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False,
            max_new_tokens=limit,
            eos_token_id=self.end_tokens or None,
            pad_token_id=pad_token,
            **self.extra,
        )

    def processors(self, device: str) -> list[Any]:
        """Return transformers' logits processors for `extra`, where rows at different steps may stand in a batch."""
        from transformers import RepetitionPenaltyLogitsProcessor, SuppressTokensLogitsProcessor

        processors: list[Any] = []
        if "repetition_penalty" in self.extra:
            processors.append(RepetitionPenaltyLogitsProcessor(self.extra["repetition_penalty"]))
        if "suppress_tokens" in self.extra:
            tokens = self.extra["suppress_tokens"]
            processors.append(SuppressTokensLogitsProcessor(tokens, device=device))
        return processors

    def merged(self, decoding: Decoding) -> Mapping[str, object]:
        """Return every setting that decides an answer but seed and replicate, ready for a key.

        At temperature 0 nothing is drawn, so top-p and top-k are left out. Whether the model is told to think stands in
        the rendered tokens.
        """
        settings = asdict(decoding) | {
            "temperature": float(decoding.temperature),
            "top_p": float(decoding.top_p),
        }
        del settings["seed"], settings["thinking"], settings["replicate"]
        if decoding.max_reasoning_tokens is None:
            del settings["max_reasoning_tokens"]
        if decoding.temperature == 0.0:
            del settings["top_p"], settings["top_k"]
        return {**settings, "end_tokens": self.end_tokens, **self.extra}


_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed 64-bit integer, like the two below
_MIX_1 = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
_MIX_2 = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
_LIKELIEST = 1024
"""Tokens among which top-p is looked for first."""
_UNIFORM_BITS = 23
"""k + 0.5 with k < 2**23 is exact in float32, so 0 < u < 1 strictly on every device."""


def request_seed(seed: int, tokens: Sequence[int], sample: int) -> int:
    """Return the signed 64-bit seed of one request: decoding seed, input tokens and sample number."""
    digest = hashlib.blake2b(f"{seed}/{sample}/".encode(), digest_size=8)
    digest.update(",".join(map(str, tokens)).encode())
    return int.from_bytes(digest.digest(), "little", signed=True)


def gumbel_noise(seeds: "Tensor", steps: "Tensor | int", vocabulary: int) -> "Tensor":
    """Return standard Gumbel noise, float32 ``[requests, vocabulary]``.

    Args:
        seeds: int64 ``[requests]``, from `request_seed`.
        steps: number of tokens already drawn, int64 ``[requests]`` or the same for all.
        vocabulary: number of tokens to draw from.
    """
    import torch

    drawn = torch.as_tensor(steps, dtype=torch.int64, device=seeds.device).expand(len(seeds))
    tokens = torch.arange(vocabulary, device=seeds.device, dtype=torch.int64)
    counter = tokens[None, :] + (drawn * vocabulary + 1)[:, None]
    # SplitMix64's output for each state; int64 products wrap around as the generator wants
    bits = seeds[:, None] + counter * _GOLDEN
    bits = (bits ^ _shift_right(bits, 30)) * _MIX_1
    bits = (bits ^ _shift_right(bits, 27)) * _MIX_2
    bits ^= _shift_right(bits, 31)
    uniform = (_shift_right(bits, 64 - _UNIFORM_BITS).to(torch.float32) + 0.5) * 2.0**-_UNIFORM_BITS
    return -torch.log(-torch.log1p(-uniform))


def draws(decoding: Decoding, scores: "Tensor", seeds: "Tensor", steps: "Tensor | int") -> "Tensor":
    """Return scores ``[requests, vocabulary]`` whose argmax is a draw: temperature, top-k, top-p, then noise.

    Args:
        decoding: temperature above 0, top_p in (0, 1], top_k (0 keeps all).
        scores: float32 ``[requests, vocabulary]``.
        seeds: see `gumbel_noise`.
        steps: see `gumbel_noise`.
    """
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper

    warpers: list[Any] = [TemperatureLogitsWarper(float(decoding.temperature))]
    if decoding.top_k > 0:
        warpers.append(TopKLogitsWarper(decoding.top_k))
    for warp in warpers:
        scores = warp(None, scores)
    if decoding.top_p < 1.0:
        scores = likeliest(scores, decoding.top_p)
    return scores + gumbel_noise(seeds, steps, scores.shape[1])


def likeliest(scores: "Tensor", top_p: float) -> "Tensor":
    """Return scores ``[requests, vocabulary]``, -inf but for the fewest tokens whose probabilities reach ``top_p``.

    That is what transformers' top-p gives by sorting the whole vocabulary, which takes longer than a small model's step;
    the likeliest thousand are nearly always enough.
    """
    import torch
    from transformers import TopPLogitsWarper

    warp: Any = TopPLogitsWarper(top_p)
    if scores.shape[1] <= _LIKELIEST:
        warped: Tensor = warp(None, scores)
        return warped
    best, tokens = scores.topk(_LIKELIEST, dim=1)
    probabilities = torch.exp(best - torch.logsumexp(scores, dim=1, keepdim=True))
    kept = probabilities.cumsum(1) - probabilities < top_p
    nothing = torch.full_like(scores, -torch.inf)
    result = nothing.scatter(1, tokens, best.masked_fill(~kept, -torch.inf))
    if (flat := kept[:, -1]).any():
        result[flat] = warp(None, scores[flat])
    return result


class GumbelSampler:
    """A transformers logits processor after which the argmax is a draw (`draws`), for rows at the same step.

    Args:
        decoding: see `draws`.
        seeds: one per row of the batch, from `request_seed`.
        prompt_length: padded length of the batch's prompts.
        device: where the model computes.
    """

    def __init__(
        self, decoding: Decoding, seeds: Sequence[int], prompt_length: int, device: str
    ) -> None:
        import torch

        self._decoding = decoding
        self._seeds = torch.tensor(seeds, dtype=torch.int64, device=device)
        self._prompt_length = prompt_length

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """Return the scores ``[rows, vocabulary]`` with the noise of this step added."""
        step = input_ids.shape[1] - self._prompt_length
        return draws(self._decoding, scores.float(), self._seeds, step)


def _shift_right(bits: "Tensor", count: int) -> "Tensor":
    """Shift int64 right without copying the sign."""
    return (bits >> count) & ((1 << (64 - count)) - 1)
