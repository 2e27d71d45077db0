"""What a folder with a fine-tune says of its origin: the recipe beside the weights, and the base of an adapter."""

from pathlib import Path

from aftertune.core.recipe import Recipe
from aftertune.errors import ModelError
from aftertune.models.reference import ADAPTER_CONFIG, Adapter, Checkpoint, beside, read_json
from aftertune.models.weights import weights_sha256

RECIPE = "recipe.json"
"""The recipe that `aftertune.train` writes beside the weights."""


def recipe_key(folder: Path) -> str | None:
    """Return the key (hexadecimal digits) in the recipe beside a folder's weights; None without a recipe.

    Raises:
        ModelError: the recipe cannot be read.
    """
    file = folder / RECIPE
    return str(read_json(str(folder), file).get("key")) if file.is_file() else None


def finished(out: Path, recipe: Recipe) -> bool:
    """Return whether ``out`` already holds the fine-tune of this recipe.

    Raises:
        ModelError: the folder holds something else, which is never overwritten.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    key = recipe_key(out)
    if key is None:
        raise ModelError(
            f"{out}: the folder holds something that is no fine-tune of ours; give another folder"
        )
    if key != recipe.key.hex():
        raise ModelError(
            f"{out}: the folder holds the fine-tune of another recipe; delete it or give another folder"
        )
    return True


def check_base(adapter: Adapter, base: Checkpoint) -> None:
    """See that an adapter was trained on this base.

    Raises:
        ModelError: it was trained on another one.
    """
    name = str(
        read_json(adapter.name, adapter.folder / ADAPTER_CONFIG).get("base_model_name_or_path")
        or ""
    )
    recorded, source = _recorded_hash(adapter), RECIPE
    folder = Path(beside(adapter.folder, name))
    if recorded is None and (folder / "config.json").is_file():
        recorded, source = weights_sha256(folder), ADAPTER_CONFIG
    if recorded is not None and recorded != weights_sha256(base.folder):
        raise ModelError(
            f"adapter {adapter.name!r} was trained on other weights than {base.name!r} "
            f"({source} names {recorded[:12]}…); give the base that it was trained on"
        )
    if recorded is None and name and Path(name).name != Path(base.name).name:
        raise ModelError(
            f"adapter {adapter.name!r} was trained on {name!r}, not on {base.name!r}; give that base"
        )


def rank(folder: Path) -> int:
    """Return the largest LoRA rank in an adapter.

    Raises:
        ModelError: its configuration names none, so it is no LoRA adapter.
    """
    config = read_json(str(folder), folder / ADAPTER_CONFIG)
    patterns = config.get("rank_pattern")
    ranks = [config.get("r"), *(patterns.values() if isinstance(patterns, dict) else ())]
    numbers = [value for value in ranks if isinstance(value, int) and value > 0]
    if not numbers:
        raise ModelError(
            f"adapter {str(folder)!r}: {ADAPTER_CONFIG} names no rank r; only LoRA adapters can be served"
        )
    return max(numbers)


def _recorded_hash(adapter: Adapter) -> str | None:
    file = adapter.folder / RECIPE
    if not file.is_file():
        return None
    identity = read_json(adapter.name, file).get("base_identity")
    recorded = identity.get("weights") if isinstance(identity, dict) else None
    return str(recorded) if recorded else None
