"""Decoding settings after merging the checkpoint's own generation_config: what is done, and what is keyed."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aftertune.core.records import Decoding
from aftertune.engine.reference import read_json

TAKEN_FROM_CHECKPOINT = (
    "repetition_penalty",
    "no_repeat_ngram_size",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
)
"""Fields of generation_config that are obeyed. Temperature, top-p, top-k and the token limit are the study's; the end
tokens are the checkpoint's and the tokenizer's together; everything else is left at transformers' defaults."""
_NEUTRAL = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}


class CheckpointDefaults:
    """What a checkpoint adds to a declared decoding.

    Attributes:
        end_tokens: ids that end an answer, sorted.
        extra: the fields of `TAKEN_FROM_CHECKPOINT` that the checkpoint sets to something.
        context: longest sequence in tokens, where the config states it.
    """

    def __init__(self, name: str, folder: Path, tokenizer_end: tuple[int, ...]) -> None:
        config = read_json(name, folder / "config.json")
        file = folder / "generation_config.json"
        own = read_json(name, file) if file.is_file() else {}
        text = config.get("text_config", config)
        self.context: int | None = text.get("max_position_embeddings")
        ends = own.get("eos_token_id", text.get("eos_token_id"))
        listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
        self.end_tokens: list[int] = sorted({*listed, *tokenizer_end})
        self.extra: dict[str, Any] = {
            field: own[field] for field in TAKEN_FROM_CHECKPOINT if own.get(field) not in (None, _NEUTRAL.get(field))
        }

    def merged(self, decoding: Decoding) -> Mapping[str, object]:
        """Return every setting that decides an answer but the seed, ready for a key.

        At temperature 0 nothing is drawn, so top-p and top-k are left out.
        """
        settings = asdict(decoding) | {"temperature": float(decoding.temperature), "top_p": float(decoding.top_p)}
        del settings["seed"]
        if decoding.temperature == 0.0:
            del settings["top_p"], settings["top_k"]
        return {**settings, "end_tokens": self.end_tokens, **self.extra}
