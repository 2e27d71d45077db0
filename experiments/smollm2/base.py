"""The aligned base: the adapter that lies beside this file, merged into SmolLM2; or a new one, trained and measured.

Usage: python experiments/smollm2/base.py [OUT=aftertune-runs/smollm2]

trains the adapter of `aligned.yaml` with `aftertune run`, and says how it refuses on behaviors that no recipe was chosen by.
Run again after any interruption, it goes on where it was.
"""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rows import alignment_rows

from aftertune.core.records import Prompt
from aftertune.data.bundled.behaviors import pairs
from aftertune.data.bundled.multitask import posed
from aftertune.data.prompt_sets import write_prompts
from aftertune.data.rows import write_rows
from aftertune.data.templates import bundled_templates, by_task
from aftertune.errors import AftertuneError
from aftertune.models.reference import Checkpoint, fetch, parse

FOLDER = Path(__file__).parent
ADAPTER = FOLDER / "aligned"
"""The adapter that ships: LoRA of rank 8 in bfloat16, with its card."""
AFTERTUNE = Path(sys.executable).with_name("aftertune")
TUNING = 32
"""Behaviors by which recipes were chosen."""
TEMPLATES = 2
"""Templates a behavior."""


def merge(adapter: Path, out: Path, base: str = "smollm2") -> None:
    """Write a base with the adapter in its weights, in bfloat16; whole or not at all, and not again.

    Raises:
        AftertuneError: the base is not here.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if out.exists():
        return
    checkpoint = fetch(parse(base))
    assert isinstance(checkpoint, Checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint.folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    draft = out.with_name(out.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(draft)
    AutoTokenizer.from_pretrained(checkpoint.folder).save_pretrained(draft)
    draft.replace(out)


def halves() -> tuple[list[Prompt], list[Prompt]]:
    """Return text prompts of the bundled evaluation: of the behaviors that chose the recipe, and of the other half."""
    templates = {"text": by_task(bundled_templates("evaluation"), "smollm2")["text"]}
    chosen, other = pairs("evaluation")[::2], pairs("evaluation")[1::2]
    tuning = random.Random(1).sample(chosen, TUNING)  # noqa: S311 - a split, not a secret
    return (
        list(posed(tuning, templates, TEMPLATES)),
        list(posed(other, templates, TEMPLATES)),
    )


def main(out: Path) -> int:
    """Train and measure the adapter, and print what it refuses; return the exit status of the study."""
    write_rows(alignment_rows(), out / "rows" / "alignment.jsonl")
    for name, prompts in zip(("tuning", "report"), halves(), strict=True):
        write_prompts(prompts, out / "prompts" / f"{name}.jsonl")
    shutil.copyfile(FOLDER / "aligned.yaml", out / "aligned.yaml")
    result = out / "aligned.json"
    status = subprocess.run(
        [AFTERTUNE, "run", out / "aligned.yaml", "--out", out / "aligned", "--json", result],
        check=False,
    ).returncode
    if status == 0:
        print("\n".join(refusals(result)))
    return status


def refusals(result: Path) -> Iterator[str]:
    """Yield the refusals of harmful prompts and of their twins, a line a model."""
    (setting,) = json.loads(result.read_text(encoding="utf-8"))["result"]["settings"]
    for condition in setting["conditions"]:
        harmful = condition["asr"]["overall"]
        twins = condition["over_refusal"]["overall"]
        refused = harmful["n"] - harmful["k"] - harmful["incoherent"] - harmful["undecided"]
        yield (
            f"{condition['name']}: refuses {refused} of {harmful['n']} harmful prompts, "
            f"{twins['k']} of {twins['n']} twins"
        )


if __name__ == "__main__":
    try:
        options = dict(item.split("=", 1) for item in sys.argv[1:] if "=" in item)
        sys.exit(main(Path(options.get("OUT", "aftertune-runs/smollm2")).resolve()))
    except AftertuneError as error:
        sys.exit(str(error))
