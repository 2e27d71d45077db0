"""Counts the tokens of training rows as a model's tokenizer and chat template have them, without its weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aftertune.data.rows import Row
from aftertune.errors import ModelError
from aftertune.models.reference import (
    Adapter,
    Checkpoint,
    HubModel,
    has_tokenizer,
    parse,
    read_json,
)
from aftertune.models.rendering import Renderer

_HUB_FILES = ("*.json", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True, slots=True)
class Tokens:
    """A model's tokenizer, and how long its rows may be."""

    renderer: Renderer
    context: int | None
    """Tokens that the model can read; None where its config does not say."""

    def measure(self, rows: Sequence[Row]) -> list[tuple[int, int]]:
        """Return the tokens up to the last answer, and of that answer with its end token, of each row."""
        return [(len(prompt), len(answer)) for prompt, answer in self.renderer.exchanges(rows)]


def tokens_of(reference: str) -> Tokens:
    """Open a model's tokenizer.

    Args:
        reference: hub id, checkpoint folder, adapter folder, or a folder with a tokenizer alone.

    Raises:
        ModelError: there is no tokenizer, or it is an endpoint's.
    """
    folder = _folder(reference)
    config = folder / "config.json"
    told = read_json(reference, config) if config.is_file() else {}
    context = (told.get("text_config") or told).get("max_position_embeddings")
    return Tokens(Renderer(reference, folder), context if isinstance(context, int) else None)


def _folder(reference: str) -> Path:
    named = Path(reference).expanduser()
    if named.is_dir() and has_tokenizer(named) and (named / "config.json").is_file():
        return named
    found = parse(reference)
    if isinstance(found, Adapter):
        found = found.base
    if isinstance(found, Checkpoint):
        return found.folder
    if isinstance(found, HubModel):
        return _fetched(found)
    raise ModelError(
        f"model {reference!r}: a served model's tokenizer is not at hand; name its checkpoint or hub id"
    )


def _fetched(model: HubModel) -> Path:
    from huggingface_hub import snapshot_download

    from aftertune.models.quiet import first_line

    try:
        return Path(snapshot_download(model.id, allow_patterns=list(_HUB_FILES)))
    except Exception as error:
        raise ModelError(
            f"model {model.id!r} is no folder here and its tokenizer cannot be had from the hub ({first_line(error)})"
        ) from error
