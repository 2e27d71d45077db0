"""A recipe and its rows become a model: supervised fine-tuning with TRL, full, LoRA or QLoRA.

`fine_tune` is the whole way in order: what is finished already, the base and its rows, the step checkpoint to go on from,
the loop, and the folder with weights, tokenizer and ``recipe.json``. A step checkpoint counts once its marker file is
there, and the marker is written last: what a killed run left without one is deleted before training goes on.
"""

import dataclasses
import gc
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aftertune.core.files import check_ours, claim, discard, draft_of, full_disk
from aftertune.core.recipe import Method, Mitigation, Recipe
from aftertune.errors import (
    AftertuneError,
    DataError,
    EngineError,
    InputError,
    ModelError,
    Stopped,
)
from aftertune.models.foreign import first_line, quiet
from aftertune.models.loading import Placement, four_bits, load_model, quantisation
from aftertune.models.open import Engines
from aftertune.models.reference import (
    ADAPTER_CONFIG,
    RECIPE,
    Adapter,
    Checkpoint,
    fetch,
    finished,
    parse,
    read_json,
    recipe_key,
    weights_sha256,
)
from aftertune.models.rendering import Renderer
from aftertune.models.size import LARGE_VOCABULARY
from aftertune.train.loss import labelled_trainer
from aftertune.train.processes import ALONE, Processes, launched
from aftertune.train.rules import (
    REFERENCE,
    Averages,
    constrained_trainer,
    freeze,
    reference_logprobs,
    with_reference,
)
from aftertune.train.tokens import (
    Examples,
    Rows,
    WithSystem,
    has_tokens,
    kept_tokens,
    rows_sha256,
    tokenise,
)

FORMAT = 1
"""Formats of ``recipe.json``. 1: the recipe's fields, its key, what became of the rows, package versions."""
COMPLETE = "complete"
"""The marker file of a whole step checkpoint."""
_PACKAGES = ("aftertune", "torch", "transformers", "peft", "trl", "accelerate")
_WRITING = re.compile("inline_container|PytorchStreamWriter|iostream")
"""Names in torch's error when a file cannot be written: a bare RuntimeError, without a class of its own. The last is that
of a small rest that is written when the file is closed."""


class TrainingStopped(Stopped):
    """A training was stopped; a step checkpoint of the step that it reached is kept."""

    def __init__(self, step: int, steps: int) -> None:
        """Say how far it came."""
        super().__init__(f"stopped: step {step:,} of {steps:,}; run the same command to go on")
        self.step = step
        self.steps = steps


def fine_tune(
    recipe: Recipe,
    rows: Rows,
    out: Path,
    *,
    epochs: Mapping[int, Path] = MappingProxyType({}),
    engines: Engines | None = None,
    progress: Callable[[int, int], bool | None] | None = None,
) -> Path:
    """Fine-tune the recipe's base on ``rows`` and return ``out`` with weights, tokenizer and ``recipe.json``.

    The loss is on the last answer of each row. The seed reaches data order, LoRA's initialisation and dropout: equal
    recipes and rows give identical tensors on one CPU with one number of threads, killed and resumed or not. (The
    process-wide random generators are seeded on the way.) Until it is finished the work lies in ``out`` +
    ``.partial``; a finished ``out`` is returned at once. Processes that a launcher started share the training (`launched`);
    ``out`` is then on a disk of all of them.

    Args:
        recipe: the base, the method and its settings.
        rows: conversations that end with the assistant's answer, already mixed, in their order; they may be read anew
            whenever they are iterated over (`LearntRows`), and their tokens lie on disk.
        out: folder of the result: a checkpoint (full) or a PEFT adapter (LoRA, QLoRA).
        epochs: epochs (of a whole number of them) to keep as fine-tunes of their own on the way, and their folders.
        engines: whose device, threads and trust in remote code to use; its weights are freed from memory first.
        progress: called with (steps done, all steps); True stops the training, with a step checkpoint of that step.

    Raises:
        ModelError: the base cannot be used or is not the one of the recipe; ``out`` holds something else, or the same
            recipe trained on other rows.
        InputError: ``out`` + ``.partial`` holds something that is not ours; a batch cannot be shared by the processes.
        DataError: a row without an answer.
        EngineError: QLoRA on a machine that cannot run it; no memory; a full disk; a process that was lost.
        TrainingStopped: ``progress`` stopped it before the last step.
    """
    done = trained(out, recipe, rows)
    missing_epochs = {
        epoch: folder
        for epoch, folder in epochs.items()
        if not trained(folder, replace(recipe, epoch=epoch), rows)
    }
    partial, processes = draft_of(out), launched()
    if done and not missing_epochs:
        if processes.first:
            discard(partial)  # of a run that was killed between the last two steps
        return out
    check_ours(partial)

    engines = engines or Engines()
    base = _base(recipe)
    engines.check_trainable(recipe.name, recipe.method, recipe.base)
    check_shardable(processes, engines, recipe.name, recipe.method, recipe.base, recipe.mitigation)
    processes.join()
    renderer = engines.renderer(base)
    conversations = WithSystem(rows, recipe.system)
    counts = {"count": len(rows), "sha256": rows_sha256(conversations)}

    from peft.helpers import disable_input_dtype_casting

    engines.free()
    placement = replace(
        engines.placement, dtype=str(recipe.base_identity.get("dtype", engines.placement.dtype))
    )
    if processes.first:
        partial.parent.mkdir(parents=True, exist_ok=True)  # a place that cannot be is no full disk
    with quiet(), _errors_in_one_line(recipe, processes), ExitStack() as stack:
        processes.connect(cpu=placement.device == "cpu")
        arguments = _arguments(recipe, partial, placement, processes)
        processes.shard(arguments)
        checkpoint, examples = _prepare(
            conversations, renderer, recipe, partial, str(counts["sha256"]), processes
        )
        counts |= {"truncated": examples.truncated, "dropped": examples.dropped}
        saver = _Saver(recipe, base, renderer, counts, engines.threads, missing_epochs, processes)
        # Shards are taken from the CPU to a GPU layer by layer; the whole model may have no room there.
        model = _load(
            recipe,
            base,
            engines,
            replace(placement, device="cpu") if processes.sharded else placement,
        )
        bookkeeper = _bookkeeper(partial, progress or (lambda _step, _steps: None), saver)
        trainer = _trainer(recipe, model, examples, arguments, renderer.tokenizer, processes)
        trainer.add_callback(bookkeeper)
        saver.average(trainer.model, checkpoint)
        if recipe.method != "full" and placement.device == "cpu":
            # PEFT casts inputs to the adapter's float32, which autocast would cast back to 16 bits.
            stack.enter_context(disable_input_dtype_casting(trainer.model))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        step, steps = trainer.state.global_step, trainer.state.max_steps
        if step < steps:
            raise TrainingStopped(step, steps)
        if not done:
            saver.save(trainer.model, recipe, partial / "final")
    del trainer, model, examples
    if engines.placement.device != "cpu":
        gc.collect()  # the trainer's reference cycles hold the model, and with it the GPU's memory

    with _errors_in_one_line(recipe, processes):
        _put_in_place(out, epochs, processes, done=done)
    if missing_epochs and checkpoint is not None:
        # The checkpoint lay behind an epoch that nobody had wanted before: train once more, from the start.
        return fine_tune(recipe, rows, out, epochs=epochs, engines=engines, progress=progress)
    return out


def _put_in_place(
    out: Path, epochs: Mapping[int, Path], processes: Processes, *, done: bool
) -> None:
    """Put the finished fine-tune in its place, unless it is there, and delete the drafts."""
    processes.wait()  # until none of them reads the tokens
    if processes.first:
        if not done:
            (draft_of(out) / "final").replace(out)
        for folder in (out, *epochs.values()):
            discard(draft_of(folder))
    processes.wait()


def trained(out: Path, recipe: Recipe, rows: Rows) -> bool:
    """Return whether ``out`` holds the recipe trained on these rows.

    A recipe's key names files by the hash of their bytes, but a hub data set by its name alone, whose rows may have
    changed since: so the hash of the rows themselves is compared too.

    Raises:
        ModelError: it holds something else, or the same recipe trained on other rows.
    """
    if not finished(out, recipe):
        return False
    record = read_json(str(out), out / RECIPE).get("rows")
    recorded = str(record.get("sha256")) if isinstance(record, dict) else "none"
    sha256 = rows_sha256(WithSystem(rows, recipe.system))
    if recorded != sha256:
        names = [Path(file.path).name if file.sha256 else file.path for file in recipe.data]
        raise ModelError(
            f"{out}: was trained on other rows ({RECIPE}: {recorded[:12]}…) than {', '.join(names) or 'its data'} gives "
            f"now ({sha256[:12]}…); delete the folder to train again, or bring the old rows back"
        )
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


def _prepare(
    rows: Rows,
    renderer: Renderer,
    recipe: Recipe,
    partial: Path,
    sha256: str,
    processes: Processes,
) -> tuple[Path | None, Examples]:
    """Return the step checkpoint to go on from, if any, and the tokens of the rows, which the first process writes.

    Nothing is left of a draft whose rows cannot be used.
    """
    owner = f"{recipe.key.hex()} {sha256}"
    checkpoint = processes.from_first(
        newest_checkpoint(partial, owner) if processes.first else None
    )
    _check_layout(checkpoint, processes)
    if processes.first and not has_tokens(partial):
        try:
            tokenise(rows, renderer, recipe.training.max_length, partial, sha256)
        except DataError:
            discard(partial)
            raise
    processes.wait()
    return checkpoint, kept_tokens(partial)


def check_shardable(
    processes: Processes,
    engines: Engines,
    name: str,
    method: Method,
    base: str,
    rules: Mitigation | None = None,
) -> None:
    """See that a training can have its weights in shards (FSDP), if the processes are to hold them so.

    Raises:
        InputError: it cannot.
        ModelError: the base cannot be read.
    """
    if not processes.sharded:
        return
    model = fetch(parse(base))
    quantised = isinstance(model, Checkpoint) and (
        quantisation(base, model.folder, engines.placement) is not None
    )
    obstacles = {
        "method qlora": method == "qlora",
        "a quantised base": quantised,
        "mitigation.ema": rules is not None and rules.ema is not None,
        "mitigation.first_tokens": rules is not None and rules.first_tokens is not None,
    }
    if obstacle := next((what for what, there in obstacles.items() if there), None):
        raise InputError(
            f"recipe {name!r}: {obstacle} cannot be trained in shards (FSDP); leave that out, or launch without --use_fsdp, "
            "so that every process holds the model"
        )


def reasoning_note(recipe: Recipe, rows: Rows, engines: Engines) -> str | None:
    """Return a remark on rows that keep their thinking apart where the base's chat template leaves it out; None otherwise."""
    count = sum(any(turn.reasoning for turn in row) for row in rows)
    if not count or engines.renderer(_base(recipe)).renders_reasoning:
        return None
    return (
        f"{recipe.name}: {count:,} rows keep their thinking apart (reasoning_content), and the chat template of the base leaves "
        "it out: their answers are learnt without it"
    )


def _base(recipe: Recipe) -> Checkpoint:
    """Return the recipe's base after seeing that it is the one that the recipe was made for."""
    base = fetch(parse(recipe.base))
    if isinstance(base, Adapter):
        raise ModelError(
            f"recipe {recipe.name!r}: its base {recipe.base!r} is an adapter; merge it into its base first"
        )
    if not isinstance(base, Checkpoint):
        raise ModelError(
            f"recipe {recipe.name!r}: its base {recipe.base!r} is an endpoint, which has no weights here"
        )
    recorded = recipe.base_identity.get("weights")
    if recorded is not None and recorded != weights_sha256(base.folder):
        raise ModelError(
            f"recipe {recipe.name!r}: the weights of its base {recipe.base!r} have changed; start again"
        )
    return base


def _load(recipe: Recipe, base: Checkpoint, engines: Engines, placement: Placement) -> Any:
    """Load the model to be trained: in float32 if all its weights change, else in the number format of its use.

    Training that goes on from a full fine-tune loads that one in place of the base; from an adapter, the adapter upon
    the base.
    """
    import torch

    folder, start = base.folder, None
    if recipe.start is not None:
        start = Path(recipe.start.reference)
        if recipe_key(start) != recipe.start.key:
            raise ModelError(
                f"recipe {recipe.name!r}: {start} is not the fine-tune that it goes on from; train that first"
            )
    if recipe.method == "full":
        # AdamW's small steps are lost in 16 bits; `_cast` rounds once, at the end.
        placement, folder = Placement(placement.device, "float32"), start or folder
    torch.set_num_threads(engines.threads)
    model = load_model(
        base.name,
        folder,
        placement,
        trust_remote_code=engines.trust_remote_code,
        quantization_config=four_bits(f"recipe {recipe.name!r}: qlora", "method lora")
        if recipe.method == "qlora"
        else None,
    )
    if recipe.method == "full" or start is None:
        return model
    from peft import PeftModel

    return PeftModel.from_pretrained(model, start, is_trainable=True)


def _trainer(
    recipe: Recipe,
    model: Any,
    examples: Examples,
    arguments: Any,
    tokenizer: Any,
    processes: Processes,
) -> Any:
    """Return TRL's trainer with the recipe's method and training rules; its adapter, if any, is made here."""
    from transformers import PrinterCallback

    rules = recipe.mitigation or Mitigation()
    data, trainer_class = examples.data, _trainer_class(model, processes)
    if rules.first_tokens is not None:
        trainer_class = constrained_trainer(trainer_class, rules.first_tokens)
        reference = reference_logprobs(model, data["input_ids"], data["labels"])
        data = data.add_column(REFERENCE, reference)
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=data,
        processing_class=tokenizer,
        # A round that goes on from an adapter has loaded it already.
        peft_config=None if recipe.start else _lora(recipe),
    )
    trainer.remove_callback(PrinterCallback)
    if rules.first_tokens is not None:
        trainer.data_collator = with_reference(trainer.data_collator)
    if rules.frozen:
        freeze(trainer.model, rules.frozen, recipe.name)
    return trainer


def _trainer_class(model: Any, processes: Processes) -> type[Any]:
    """Return TRL's trainer; one that saves logits for large vocabularies where no kernel of TRL does.

    Models with a small vocabulary so keep the very tensors that they always gave.
    """
    from trl.trainer.sft_trainer import SFTTrainer

    if processes.sharded:
        # TRL multiplies by the output layer's weights without calling it. Where that layer is a shard of its own, TRL puts
        # it together such that its gradient is that of one process alone.
        return labelled_trainer(in_parts=False)
    words = model.config.get_text_config().vocab_size
    large = model.device.type != "cuda" and words >= LARGE_VOCABULARY
    return labelled_trainer() if large else SFTTrainer


def _arguments(recipe: Recipe, partial: Path, placement: Placement, processes: Processes) -> Any:
    """Return TRL's settings: step checkpoints in ``partial``, no reports, the seed everywhere."""
    import torch
    from trl.trainer.sft_config import SFTConfig

    training, device = recipe.training, torch.device(placement.device).type
    rows, accumulated = processes.shares(training)
    arguments = SFTConfig(
        output_dir=str(partial),
        num_train_epochs=training.epochs,
        learning_rate=training.learning_rate,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=accumulated,
        lr_scheduler_type=training.schedule,
        warmup_steps=training.warmup_ratio,  # below 1 it is a share of all steps
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        adam_beta2=training.adam_beta2,
        seed=recipe.seed,
        data_seed=recipe.seed,
        save_strategy="steps",
        save_steps=training.save_steps,
        save_total_limit=2,  # the newer one may be half written
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        # The trainer would drop the base's log-probabilities, which the model does not take.
        remove_unused_columns=recipe.mitigation is None or recipe.mitigation.first_tokens is None,
        use_cpu=device == "cpu",
        bf16=device == "cuda" or (device == "cpu" and placement.dtype == "bfloat16"),
        gradient_checkpointing=device == "cuda",
        dataloader_pin_memory=device == "cuda",
        disable_tqdm=True,
        logging_strategy="no",
        report_to="none",
        log_level="error",
    )
    # A launcher's --mixed_precision would change the tensors behind the recipe's back.
    arguments.mixed_precision = "bf16" if arguments.bf16 else "no"
    return arguments


def _lora(recipe: Recipe) -> Any:
    """Return PEFT's settings; None for a full fine-tune."""
    if recipe.method == "full":
        return None
    from peft import LoraConfig

    training = recipe.training
    targets = training.lora_targets
    return LoraConfig(
        r=training.lora_r,
        lora_alpha=training.lora_alpha,
        lora_dropout=training.lora_dropout,
        target_modules=targets
        if targets == "all-linear"
        else [name.strip() for name in targets.split(",")],
        task_type="CAUSAL_LM",
    )


def newest_checkpoint(folder: Path, owner: str) -> Path | None:
    """Return the newest complete step checkpoint in ``folder``, if any, after making the folder ready for training.

    Args:
        folder: where the checkpoints are; emptied when they belong to another owner.
        owner: what decides the result: the recipe's key and the rows' hash.

    Raises:
        InputError: the folder holds something that no training of ours put there.
    """
    claim(folder, owner)
    complete = {}
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).exists():
            complete[int(path.name.rpartition("-")[2])] = path
        else:
            shutil.rmtree(path)
    return complete[max(complete)] if complete else None


def _check_layout(checkpoint: Path | None, processes: Processes) -> None:
    """See that a step checkpoint was written by processes that held the weights as these do.

    Raises:
        InputError: it was not.
    """
    from accelerate.utils.constants import FSDP_MODEL_NAME

    if checkpoint is None:
        return
    sharded = any(checkpoint.glob(f"{FSDP_MODEL_NAME}*"))
    if sharded == processes.sharded:
        return
    was, remedy = (
        ("processes that held shards (FSDP)", "with --use_fsdp --fsdp_version 2")
        if sharded
        else ("a process that held all weights", "without --use_fsdp")
    )
    raise InputError(
        f"{checkpoint}: this step checkpoint was written by {was}; go on {remedy}, or delete {checkpoint.parent} to begin anew"
    )


def steps_kept(out: Path) -> int:
    """Return the step of the newest step checkpoint of a training into ``out``; 0 without one."""
    checkpoints = (path.parent.name for path in draft_of(out).glob(f"checkpoint-*/{COMPLETE}"))
    return max((int(name.rpartition("-")[2]) for name in checkpoints), default=0)


@dataclass(slots=True)
class _Saver:
    """Writes the model at the end of the training, and after the epochs that are to be kept."""

    recipe: Recipe
    base: Checkpoint
    renderer: Renderer
    row_counts: Mapping[str, object]
    threads: int
    missing_epochs: dict[int, Path]
    """Epochs that are still to be kept, and their folders."""
    processes: Processes
    """Those that share the training; the first alone writes."""
    averages: Averages | None = None
    """The average of the weights, which is written in their place."""

    def average(self, model: Any, checkpoint: Path | None) -> None:
        """Begin the average of the weights where the recipe wants it, or go on with that of a step checkpoint."""
        decay = None if self.recipe.mitigation is None else self.recipe.mitigation.ema
        if decay is not None:
            self.averages = Averages(decay, model)
            if checkpoint is not None:
                self.averages.load(checkpoint)

    def save(self, model: Any, recipe: Recipe, folder: Path) -> None:
        """Write weights (safetensors, in the base's own number format), tokenizer and recipe; the model stays as it is.

        Of several processes the first one writes; the others must come here too, for their shards of the weights.
        """
        import torch

        full = recipe.method == "full"
        weights = None
        if self.processes.sharded:
            weights = self.processes.whole(_written(model, adapter=not full))
        if not self.processes.first:
            return
        shutil.rmtree(folder, ignore_errors=True)
        averaged = nullcontext() if self.averages is None else self.averages.in_place(model)
        if full:
            config = read_json(self.base.name, self.base.folder / "config.json")
            dtype = config.get("dtype") or config.get("torch_dtype") or "float32"
            if weights is None:
                with averaged, _cast(model, getattr(torch, dtype)):
                    model.save_pretrained(folder)
            else:
                _save_whole(model, weights, dtype, folder)
        else:
            model.peft_config["default"].base_model_name_or_path = recipe.base
            with averaged:
                model.save_pretrained(folder, state_dict=weights, save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
            # PEFT writes sets of names in hash order: the file is rewritten in a fixed one.
            values = read_json(self.base.name, folder / ADAPTER_CONFIG)
            if isinstance(values.get("target_modules"), list):
                values["target_modules"].sort()
            text = json.dumps(values, indent=2, sort_keys=True) + "\n"
            (folder / ADAPTER_CONFIG).write_text(text, encoding="utf-8")
        self.renderer.tokenizer.save_pretrained(folder)
        record = {
            "format": FORMAT,
            "key": recipe.key.hex(),
            **_plain(recipe),
            "rows": dict(self.row_counts),
            "threads": self.threads,
            **({"processes": self.processes.count} if self.processes.count > 1 else {}),
            **({"sharded": True} if self.processes.sharded else {}),
            "versions": {name: number for name in _PACKAGES if (number := _version(name))},
        }
        text = json.dumps(record, indent=2, default=_plain) + "\n"
        (folder / RECIPE).write_text(text, encoding="utf-8")

    def complete(self, checkpoint: Path) -> None:
        """Put the average beside a step checkpoint, and mark it as whole."""
        if self.averages is not None:
            self.averages.save(checkpoint)
        (checkpoint / COMPLETE).touch()

    def keep_epoch(self, epoch: int, model: Any) -> None:
        """Keep the state after an epoch if that is wanted, whole or not at all."""
        if epoch not in self.missing_epochs:
            return
        recipe, folder = replace(self.recipe, epoch=epoch), self.missing_epochs.pop(epoch)
        draft = draft_of(folder)
        if self.processes.first:
            claim(draft, recipe.key.hex())
        self.save(model, recipe, draft / "final")
        if self.processes.first:
            (draft / "final").replace(folder)
            discard(draft)


def _written(model: Any, *, adapter: bool) -> dict[str, Any]:
    """Return the tensors of a model that are written, tied weights once; of a PEFT model those of the adapter alone."""
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - {
        name for name, _ in model.named_parameters()
    }
    prefix = model.base_model.prefix if adapter else ""
    return {
        name: value
        for name, value in model.state_dict().items()
        if name not in tied and prefix in name
    }


def _save_whole(model: Any, weights: Mapping[str, Any], dtype: str, folder: Path) -> None:
    """Write the weights of a sharded model, which were put together, in a number format of their own."""
    import torch

    rounded = {
        name: value.to(getattr(torch, dtype)) if value.is_floating_point() else value
        for name, value in weights.items()
    }
    model.save_pretrained(folder, state_dict=rounded)
    path = folder / "config.json"  # it names the format of the shards
    values = json.loads(path.read_text(encoding="utf-8")) | {"dtype": dtype}
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _bookkeeper(folder: Path, progress: Callable[[int, int], bool | None], saver: _Saver) -> Any:
    """Return a trainer callback that marks checkpoints complete, keeps epochs, reports progress and stops where that says so."""
    from transformers import TrainerCallback

    class Bookkeeper(TrainerCallback):
        """Marks checkpoints, keeps epochs, reports progress and stops."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the interface's
            progress(state.global_step, state.max_steps)

        def on_step_end(
            self, args: Any, state: Any, control: Any, **kwargs: Any
        ) -> None:  # the interface's
            if saver.averages is not None:
                saver.averages.update(kwargs["model"])
            # The trainer writes the step checkpoint of this moment later, so a run that resumes from it has the epoch.
            if saver.missing_epochs:
                steps = state.max_steps // int(args.num_train_epochs)
                epoch, rest = divmod(state.global_step, steps)
                if rest == 0:
                    saver.keep_epoch(epoch, kwargs["model"])
            wants_stop = bool(progress(state.global_step, state.max_steps))
            # Ctrl-C reaches several processes in different steps.
            if saver.processes.any_of(flag=wants_stop) and state.global_step < state.max_steps:
                control.should_save = control.should_training_stop = True

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the interface's
            checkpoint = folder / f"checkpoint-{state.global_step}"
            saver.processes.wait()  # each writes the state of its own random numbers
            if saver.processes.first:
                saver.complete(checkpoint)

    return Bookkeeper()


@contextmanager
def _errors_in_one_line(recipe: Recipe, processes: Processes = ALONE) -> Iterator[None]:
    """Turn what the trainer refuses, a GPU that is too small, a full disk and a lost process into errors of one line."""
    import torch
    from safetensors import SafetensorError
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:  # of shards; Python does not count it as an Exception
        reason = first_line(next(iter(error.failures.values()))[0])
        raise EngineError(
            f"recipe {recipe.name!r}: its checkpoint cannot be written or read ({reason}); is the disk full? free some space and "
            "run again: training goes on from the last whole checkpoint"
        ) from error
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"recipe {recipe.name!r} does not fit in memory; lower batch_size and raise gradient_accumulation"
        ) from error
    except AftertuneError:
        raise
    except Exception as error:  # tokenizers raises a bare Exception for a full disk
        torch_writes = isinstance(error, RuntimeError) and _WRITING.search(str(error))
        if torch_writes or isinstance(error, OSError | SafetensorError) or full_disk(error):
            raise EngineError(
                f"recipe {recipe.name!r}: its checkpoint cannot be written ({first_line(error)}); is the disk full? free some "
                "space and run again: training goes on from the last whole checkpoint"
            ) from error
        # a configuration whose values are of a wrong type makes the libraries raise any of these
        if isinstance(
            error, ValueError | TypeError | LookupError | AttributeError | NotImplementedError
        ):
            raise EngineError(
                f"recipe {recipe.name!r} cannot be trained ({type(error).__name__}: {first_line(error)})"
            ) from error
        if processes.count > 1 and isinstance(error, RuntimeError):  # gloo has no class for it
            raise EngineError(
                f"recipe {recipe.name!r}: a process of the training was lost ({first_line(error)}); run the same command to "
                "go on from the last step checkpoint"
            ) from error
        raise


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


def _plain(value: Any) -> dict[str, object]:
    """Return a mapping or a record as a dictionary; `dataclasses.asdict` cannot copy read-only mappings."""
    if isinstance(value, Mapping):
        return dict(value)
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
