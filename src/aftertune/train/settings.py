"""A recipe in the words of TRL, PEFT and bitsandbytes."""

from pathlib import Path
from typing import Any

from aftertune.core.recipe import Recipe
from aftertune.models.quantisation import four_bits as quantised


def arguments(recipe: Recipe, partial: Path, device: str) -> Any:
    """Return TRL's settings: step checkpoints in ``partial``, no reports, the seed everywhere."""
    from trl.trainer.sft_config import SFTConfig

    training = recipe.training
    return SFTConfig(
        output_dir=str(partial),
        num_train_epochs=training.epochs,
        learning_rate=training.learning_rate,
        per_device_train_batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation,
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
        use_cpu=device == "cpu",
        bf16=device == "cuda",
        gradient_checkpointing=device == "cuda",
        dataloader_pin_memory=device == "cuda",
        disable_tqdm=True,
        logging_strategy="no",
        report_to="none",
        log_level="error",
    )


def lora(recipe: Recipe) -> Any:
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


def four_bits(recipe: Recipe) -> Any:
    """Return QLoRA's quantisation of the frozen base; None for the other methods.

    Raises:
        EngineError: this machine cannot run it.
    """
    if recipe.method != "qlora":
        return None
    return quantised(f"recipe {recipe.name!r}: qlora", "method lora")
