"""The preset `multitask-bench-2025`: the released prompts of Multitask-Bench, or other behaviors in its shapes.

Source: Jan et al. 2025, COLING, and the authors' repository (comnetsAD/LLMSafetyGuardrails): four tasks, each asked in a
chat model's native style and in that of Alpaca, with and without a system prompt.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from aftertune.core.protocols import Tools
from aftertune.core.records import Prompt
from aftertune.data.sets import PromptSet
from aftertune.errors import DataError

NAME = "multitask-bench-2025"
SHAPES = Path(__file__).with_name("public_preset.yaml")

Style = Literal["native", "alpaca"]
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response:\n"
)
"""Stanford Alpaca's prompt without input (tatsu-lab/stanford_alpaca, Apache-2.0)."""


def multitask_bench_2025(
    tools: Tools,
    *,
    file: str = ".",
    strict: bool = False,
    style: Style = "native",
    behaviors: Literal["released", "bundled"] = "released",
) -> PromptSet:
    """Load the prompts of Multitask-Bench as its authors pose them.

    Args:
        tools: for the folder that ``file`` is relative to.
        file: the released CSV, or a folder that holds it.
        strict: refuse a CSV whose SHA-256 is not known.
        style: ``native`` leaves the prompt to the model's chat template, ``alpaca`` puts it into Alpaca's.
        behaviors: ``released`` are the CSV's; ``bundled`` are those of `multitask-v1` and their benign twins, posed by
            the benchmark's own shapes, which its release has no twins for.

    Raises:
        DataError: no such file, a broken row, an unknown style or kind of behaviors.
    """
    _check("style", style, get_args(Style))
    _check("behaviors", behaviors, ("released", "bundled"))
    loaded = _released(tools, file, strict=strict) if behaviors == "released" else _bundled()
    if style == "native":
        return loaded
    return replace(loaded, prompts=tuple(_in_alpaca(prompt) for prompt in loaded.prompts))


def _check(option: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise DataError(f"prompts {NAME}: {option} is {value!r}; use one of {', '.join(allowed)}")


def _released(tools: Tools, file: str, *, strict: bool) -> PromptSet:
    from aftertune.data.load import load_public

    return load_public("multitaskbench", tools, file=file, strict=strict)


def _bundled() -> PromptSet:
    from aftertune.data.bundled.behaviors import pairs
    from aftertune.data.bundled.multitask import by_task, posed
    from aftertune.data.bundled.templates import read_templates

    shapes = by_task(read_templates(SHAPES.name, SHAPES.parent))
    return PromptSet(prompts=tuple(posed(pairs("evaluation"), shapes, 1)))


def _in_alpaca(prompt: Prompt) -> Prompt:
    return replace(prompt, text=ALPACA.format(prompt.text), template=f"{prompt.template}-alpaca")
