"""A recipe and its rows become a model: supervised fine-tuning with TRL, full, LoRA or QLoRA."""

import gc
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aftertune.core.drafts import check_ours, claim, discard, draft_of
from aftertune.core.recipe import Recipe
from aftertune.core.records import Message
from aftertune.errors import EngineError, ModelError
from aftertune.models.adapter import RECIPE
from aftertune.models.bridge import InspectName
from aftertune.models.decoding import vocabulary
from aftertune.models.endpoint.providers import Address
from aftertune.models.loading import Placement, load_model
from aftertune.models.open import Engines
from aftertune.models.quiet import first_line, quiet
from aftertune.models.reference import (
    ADAPTER_CONFIG,
    Adapter,
    Checkpoint,
    HubModel,
    fetch,
    parse,
    read_json,
)
from aftertune.models.rendering import Renderer
from aftertune.models.weights import weights_sha256
from aftertune.train.checkpoints import bookkeeper, prepare
from aftertune.train.record import check_rows, finished, write_recipe
from aftertune.train.rows import Examples, rows_sha256, tokenise, with_system
from aftertune.train.settings import arguments, four_bits, lora

Progress = Callable[[int, int], None]
WRITING = re.compile("inline_container|PytorchStreamWriter")
"""What torch's error names when a file cannot be written; it has no class of its own for it."""


def train(
    recipe: Recipe,
    rows: Sequence[tuple[Message, ...]],
    out: Path,
    *,
    epochs: Mapping[int, Path] = MappingProxyType({}),
    engines: Engines | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fine-tune the recipe's base on ``rows`` and return ``out`` with weights, tokenizer and ``recipe.json``.

    The loss is on the last answer of each row. The seed reaches data order, LoRA's initialisation and dropout: equal
    recipes and rows give identical tensors on one CPU with one number of threads, killed and resumed or not. (The
    process-wide random generators are seeded on the way.) Until it is finished the work lies in ``out`` +
    ``.partial``; a finished ``out`` is returned at once.

    Args:
        recipe: what to train, and on which base.
        rows: conversations that end with the assistant's answer, already mixed, in their order.
        out: folder of the result: a checkpoint (full) or a PEFT adapter (LoRA, QLoRA).
        epochs: epochs (of a whole number of them) to keep as fine-tunes of their own on the way, and their folders.
        engines: whose device, threads and trust in remote code to use; its weights are freed from memory first.
        progress: called with (steps done, all steps).

    Raises:
        ModelError: the base cannot be used or is not the one of the recipe; ``out`` holds something else, or the same
            recipe trained on other rows.
        InputError: ``out`` + ``.partial`` holds something that is not ours.
        DataError: a row without an answer.
        EngineError: QLoRA on a machine that cannot run it.
    """
    whole = trained(out, recipe, rows)
    kept = {
        epoch: path
        for epoch, path in epochs.items()
        if not trained(path, replace(recipe, epoch=epoch), rows)
    }
    if whole and not kept:
        return out
    partial = draft_of(out)
    check_ours(partial)
    engines = engines or Engines()
    base = _base(recipe)
    known = vocabulary(base.name, base.folder)
    renderer = Renderer(
        base.name, base.folder, trust_remote_code=engines.trust_remote_code, vocabulary=known
    )
    examples, counts = _examples(recipe, rows, renderer)
    checkpoint = prepare(partial, f"{recipe.key.hex()} {counts['sha256']}")
    engines.free()
    keeper = _Keeper(
        recipe=recipe, base=base, renderer=renderer, rows=counts, threads=engines.threads, kept=kept
    )
    books = bookkeeper(partial, progress, keeper.at_epoch if kept else None)
    with quiet(), _reported(recipe):
        trainer = _trainer(recipe, _load(recipe, base, engines), renderer, examples, books)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if not whole:
            keeper.write(trainer.model, recipe, partial / "final")
    del trainer
    if engines.placement.device != "cpu":
        gc.collect()  # the trainer's reference cycles hold the model, and with it the GPU's memory
    if not whole:
        (partial / "final").replace(out)
    discard(partial)
    if (
        kept and checkpoint is not None
    ):  # the checkpoint lay behind an epoch that nobody had asked for before
        return train(recipe, rows, out, epochs=epochs, engines=engines, progress=progress)
    return out


def _examples(
    recipe: Recipe, rows: Sequence[tuple[Message, ...]], renderer: Renderer
) -> tuple[Examples, dict[str, object]]:
    """Return the tokenised rows, and what the record says of them."""
    complete = [with_system(row, recipe.system) for row in rows]
    examples = tokenise(complete, renderer, recipe.training.max_length)
    told = {"truncated": examples.truncated, "dropped": examples.dropped}
    return examples, {"count": len(rows), "sha256": rows_sha256(complete), **told}


@dataclass(slots=True, kw_only=True)
class _Keeper:
    """Writes models: at the end of the training, and of the epochs that are to be kept."""

    recipe: Recipe
    base: Checkpoint
    renderer: Renderer
    rows: Mapping[str, object]
    threads: int
    kept: dict[int, Path]
    """Epochs that are still to come, and where they go."""

    def write(self, model: Any, recipe: Recipe, folder: Path) -> None:
        _save(model, self.renderer, recipe, self.base, folder)
        write_recipe(folder, recipe, self.rows, self.threads)

    def at_epoch(self, epoch: int, model: Any) -> None:
        """Keep the state after an epoch if that is wanted, whole or not at all."""
        if epoch not in self.kept:
            return
        recipe, draft = replace(self.recipe, epoch=epoch), draft_of(self.kept[epoch])
        claim(draft, recipe.key.hex())
        self.write(model, recipe, draft / "final")
        (draft / "final").replace(self.kept.pop(epoch))
        discard(draft)


def trained(out: Path, recipe: Recipe, rows: Sequence[tuple[Message, ...]]) -> bool:
    """Return whether ``out`` already holds the recipe trained on these rows; what a kill left beside it is then deleted.

    Raises:
        ModelError: it holds something else, or the same recipe trained on other rows.
    """
    if not finished(out, recipe):
        return False
    check_rows(out, recipe, rows_sha256([with_system(row, recipe.system) for row in rows]))
    discard(draft_of(out))
    return True


def adopt(source: Path, out: Path, recipe: Recipe) -> None:
    """Make ``out`` a copy of a finished fine-tune of the same recipe under another name, unless something is there."""
    draft = draft_of(out)
    if out.exists() or not finished(source, recipe):
        return
    claim(draft, f"copy {recipe.key.hex()}")
    shutil.copytree(source, draft / "final", dirs_exist_ok=True)
    (draft / "final").replace(out)
    discard(draft)


def _base(recipe: Recipe) -> Checkpoint:
    """Return the recipe's base after seeing that it is the one that the recipe was made for."""
    found = parse(recipe.base)
    base = fetch(found) if isinstance(found, HubModel) else found
    if isinstance(base, Adapter):
        raise ModelError(
            f"recipe {recipe.name!r}: its base {recipe.base!r} is an adapter; merge it into its base first"
        )
    if isinstance(base, Address | InspectName):
        raise ModelError(
            f"recipe {recipe.name!r}: its base {recipe.base!r} is an endpoint, which has no weights here"
        )
    recorded = recipe.base_identity.get("weights")
    if recorded is not None and recorded != weights_sha256(base.folder):
        raise ModelError(
            f"recipe {recipe.name!r}: the weights of its base {recipe.base!r} have changed; start again"
        )
    return base


def _load(recipe: Recipe, base: Checkpoint, engines: Engines) -> Any:
    """Load the base to be trained: in float32 if its own weights change, else as it is used.

    Training that goes on from a full fine-tune loads that one in its place; from an adapter, the adapter upon it.
    """
    placement, folder = engines.placement, base.folder
    start = None if recipe.start is None else _start(recipe)
    if recipe.method == "full":
        placement, folder = Placement(placement.device, "float32"), start or folder
    engines.set_threads()
    model = load_model(
        base.name,
        folder,
        placement,
        trust_remote_code=engines.trust_remote_code,
        quantization_config=four_bits(recipe),
    )
    if recipe.method == "full" or start is None:
        return model
    from peft import PeftModel

    return PeftModel.from_pretrained(model, start, is_trainable=True)


def _start(recipe: Recipe) -> Path:
    """Return the fine-tune that training goes on from after seeing that it is the one that the recipe names."""
    assert recipe.start is not None
    folder = Path(recipe.start.reference)
    found = (
        read_json(str(folder), folder / RECIPE).get("key") if (folder / RECIPE).is_file() else None
    )
    if found != recipe.start.key:
        raise ModelError(
            f"recipe {recipe.name!r}: {folder} is not the fine-tune that it goes on from; train that first"
        )
    return folder


@contextmanager
def _reported(recipe: Recipe) -> Iterator[None]:
    """Turn what the trainer refuses, and a GPU that is too small, into one line."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"recipe {recipe.name!r} does not fit in memory; lower batch_size and raise gradient_accumulation"
        ) from error
    except ValueError as error:
        raise EngineError(
            f"recipe {recipe.name!r} cannot be trained ({first_line(error)})"
        ) from error
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, RuntimeError) and not WRITING.search(str(error)):
            raise
        raise EngineError(
            f"recipe {recipe.name!r}: its checkpoint cannot be written ({first_line(error)}); is the disk full? free some "
            "space and run again: training goes on from the last whole checkpoint"
        ) from error


def _trainer(recipe: Recipe, model: Any, renderer: Renderer, examples: Examples, books: Any) -> Any:
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl.trainer.sft_trainer import SFTTrainer

    trainer = SFTTrainer(
        model=model,
        args=arguments(recipe, books.folder, model.device.type),
        train_dataset=Dataset.from_dict(
            {"input_ids": examples.input_ids, "labels": examples.labels}
        ),
        processing_class=renderer.tokenizer,
        peft_config=None
        if recipe.start
        else lora(recipe),  # an adapter that goes on is there already
        callbacks=[books],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _save(model: Any, renderer: Renderer, recipe: Recipe, base: Checkpoint, folder: Path) -> None:
    """Write weights (safetensors, in the base's own number format), tokenizer and chat template; the model stays as it is."""
    import torch

    shutil.rmtree(folder, ignore_errors=True)
    if recipe.method == "full":
        config = read_json(base.name, base.folder / "config.json")
        dtype = config.get("dtype") or config.get("torch_dtype") or "float32"
        with _cast(model, getattr(torch, dtype)):
            model.save_pretrained(folder)
    else:
        model.peft_config["default"].base_model_name_or_path = recipe.base
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        _order(folder / ADAPTER_CONFIG)
    renderer.tokenizer.save_pretrained(folder)


@contextmanager
def _cast(model: Any, dtype: Any) -> Iterator[None]:
    """Give the weights another number format for a while; training goes on with the very same numbers."""
    before = model.dtype
    if before == dtype:
        yield
        return
    # Buffers too that no checkpoint holds: rounded rotary frequencies would turn the rest of the training.
    exact = [tensor.detach().cpu().clone() for tensor in (*model.parameters(), *model.buffers())]
    model.to(dtype)
    yield
    model.to(before)
    for tensor, was in zip((*model.parameters(), *model.buffers()), exact, strict=True):
        tensor.data.copy_(was)


def _order(config: Path) -> None:
    """Rewrite an adapter's config in a fixed order: PEFT writes sets of names in hash order."""
    values = json.loads(config.read_text(encoding="utf-8"))
    if isinstance(values.get("target_modules"), list):
        values["target_modules"].sort()
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
