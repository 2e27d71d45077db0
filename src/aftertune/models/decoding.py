"""Decoding settings after merging the checkpoint's own generation_config: what is done, and what is keyed."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aftertune.core.records import Decoding
from aftertune.errors import ModelError
from aftertune.models.reference import read_json

TAKEN_FROM_CHECKPOINT = (
    "repetition_penalty",
    "no_repeat_ngram_size",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
)
"""Fields of generation_config that are obeyed. Temperature, top-p, top-k and the token limit are the study's; the end
tokens are the checkpoint's and the tokenizer's together; everything else is left at transformers' defaults."""
_LOOKS_BACK = {"no_repeat_ngram_size", "bad_words_ids"}
"""Those that compare runs of tokens, so that padding inside a row would count."""
_NEUTRAL = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}


class CheckpointDefaults:
    """What a checkpoint adds to a declared decoding.

    Attributes:
        end_tokens: ids that end an answer, sorted.
        extra: the fields of `TAKEN_FROM_CHECKPOINT` that the checkpoint sets to something.
        context: longest sequence in tokens, where the config states it.
    """

    def __init__(self, name: str, folder: Path, tokenizer_end: tuple[int, ...]) -> None:
        text = _text_config(name, folder)
        file = folder / "generation_config.json"
        own = read_json(name, file) if file.is_file() else {}
        _check(name, own)
        self.context: int | None = text.get("max_position_embeddings")
        ends = own.get("eos_token_id", text.get("eos_token_id"))
        listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
        if not _are_tokens(listed):
            raise ModelError(
                f"model {name!r}: eos_token_id is {ends!r}; it should be a token's number, or several"
            )
        self.end_tokens: list[int] = sorted({*listed, *tokenizer_end})
        self.extra: dict[str, Any] = {
            field: own[field]
            for field in TAKEN_FROM_CHECKPOINT
            if own.get(field) not in (None, _NEUTRAL.get(field))
        }

    @property
    def shares_prefixes(self) -> bool:
        """Whether padding may stand between a prefix that rows share and the rows."""
        return not _LOOKS_BACK & set(self.extra)

    def generation_config(self, decoding: Decoding, pad_token: int) -> Any:
        """Return transformers' settings of a greedy answer: a draw is the argmax after `GumbelSampler`."""
        from transformers import GenerationConfig

        make: Any = GenerationConfig  # untyped there
        return make(
            do_sample=False,
            max_new_tokens=decoding.max_new_tokens,
            eos_token_id=self.end_tokens or None,
            pad_token_id=pad_token,
            **self.extra,
        )

    def merged(self, decoding: Decoding) -> Mapping[str, object]:
        """Return every setting that decides an answer but the seed, ready for a key.

        At temperature 0 nothing is drawn, so top-p and top-k are left out.
        """
        settings = asdict(decoding) | {
            "temperature": float(decoding.temperature),
            "top_p": float(decoding.top_p),
        }
        del settings["seed"]
        if decoding.temperature == 0.0:
            del settings["top_p"], settings["top_k"]
        return {**settings, "end_tokens": self.end_tokens, **self.extra}


def vocabulary(name: str, folder: Path) -> int | None:
    """Return how many tokens a checkpoint's embedding has, where its config states it.

    Raises:
        ModelError: the configuration cannot be read.
    """
    size = _text_config(name, folder).get("vocab_size")
    return size if isinstance(size, int) else None


def _text_config(name: str, folder: Path) -> dict[str, Any]:
    """Return what config.json says of the language model, in models that also see or hear."""
    config = read_json(name, folder / "config.json")
    text = config.get("text_config", config)
    return text if isinstance(text, dict) else config


def _check(name: str, own: Mapping[str, Any]) -> None:
    """See that what a generation_config declares can be obeyed: transformers would find out in the midst of a run."""
    for field in TAKEN_FROM_CHECKPOINT:
        value = own.get(field)
        if value is not None and not _SOUND[field](value):
            raise ModelError(
                f"model {name!r}: generation_config.json: {field} cannot be {value!r}; mend it or take it out"
            )


def _is_penalty(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_tokens(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_count, value))


def _are_words(value: object) -> bool:
    return isinstance(value, list) and all(word and _are_tokens(word) for word in value)


_SOUND: Mapping[str, Callable[[object], bool]] = {
    "repetition_penalty": _is_penalty,
    "no_repeat_ngram_size": _is_count,
    "bad_words_ids": _are_words,
    "suppress_tokens": _are_tokens,
    "begin_suppress_tokens": _are_tokens,
}
