"""Builds the study's inputs from the public files: rows, prompts, and the base. Run again, it goes on where it was.

Usage: python experiments/real_text/build.py DATA=folder [OUT=real_text_out]
"""

import json
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from base import (
    ANSWER_TOKENS,
    EVALUATION_TOKENS,
    PROMPT_TOKENS,
    STAGES,
    cut,
    encode,
    new_model,
    train,
    train_tokenizer,
)
from material import Material, gather

from aftertune.core.records import Message
from aftertune.data.prompt_sets import write_prompts
from aftertune.data.rows import Row, write_lines, write_rows
from aftertune.errors import AftertuneError

FOLDER = Path(__file__).parent


def build(data: Path, out: Path) -> None:
    """Write ``rows/``, ``prompts/``, ``base/``, ``material.json`` and ``study.yaml`` below ``out``.

    Raises:
        DataError: a public file is missing or wrong.
    """
    (out / "training").mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    material = gather(data)
    tokenizer = train_tokenizer(
        turn.content for row in material.language + material.alignment for turn in row
    )
    write_material(material, tokenizer, out)
    shutil.copyfile(FOLDER / "study.yaml", out / "study.yaml")
    print(f"rows and prompts: {time.monotonic() - started:.0f} s", flush=True)
    if not (out / "base" / "config.json").exists():
        train_base(material, tokenizer, out)
        print(f"base: {time.monotonic() - started:.0f} s in all", flush=True)


def write_material(material: Material, tokenizer: Any, out: Path) -> None:
    """Write rows and prompts, cut to what the base can read."""
    rows = out / "rows"
    for kind, of_kind in material.fine_tunes.items():
        write_rows(_cut_rows(of_kind, tokenizer), rows / f"{kind}.jsonl")
    _write_pools(material.multitask, rows / "multitask.jsonl", tokenizer)
    _write_pools(material.replay, rows / "replay.jsonl", tokenizer)
    write_rows(_cut_rows(material.instructions, tokenizer), rows / "instructions.jsonl")
    for name, prompts in material.prompts.items():
        shortened = [
            replace(prompt, text=cut(prompt.text, tokenizer, EVALUATION_TOKENS))
            for prompt in prompts
        ]
        write_prompts(shortened, out / "prompts" / f"{name}.jsonl")
    counts = material.counts | {
        "stage 1 rows": len(material.language),
        "stage 2 rows": len(material.alignment),
        "prompts": sum(map(len, material.prompts.values())),
    }
    write_lines([json.dumps(counts, indent=1)], out / "material.json")


def _write_pools(pools: Mapping[str, list[Row]], path: Path, tokenizer: Any) -> None:
    rows = [row for pool in pools.values() for row in pool]
    tasks = [task for task, pool in pools.items() for _ in pool]
    write_rows(_cut_rows(rows, tokenizer), path, tasks=tasks)


def _cut_rows(rows: Iterable[Row], tokenizer: Any) -> list[Row]:
    limits = {"user": PROMPT_TOKENS, "assistant": ANSWER_TOKENS}
    return [
        tuple(
            Message(role=turn.role, content=cut(turn.content, tokenizer, limits[turn.role]))
            for turn in row
        )
        for row in rows
    ]


def train_base(material: Material, tokenizer: Any, out: Path) -> None:
    """Train both stages and save the base, which appears only when it is whole."""
    model = new_model()
    for stage, rows in zip(STAGES, (material.language, material.alignment), strict=True):
        train(
            model, stage, encode(rows, tokenizer, answers_only=stage.answers_only), out / "training"
        )
    draft = out / "base.partial"
    shutil.rmtree(draft, ignore_errors=True)
    model.eval()
    model.generation_config.do_sample = False
    model.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    draft.rename(out / "base")


def arguments(given: list[str]) -> tuple[Path, Path]:
    """Return DATA and OUT, each given as a folder or as ``NAME=folder``, in this order.

    Raises:
        SystemExit: DATA is missing or no folder.
    """
    folders = [item.removeprefix("DATA=").removeprefix("OUT=") for item in given]
    data, out = folders if len(folders) == 2 else ("".join(folders[:1]), "real_text_out")
    if not data or not Path(data).is_dir():
        sys.exit(
            f"DATA={data}: name the folder with the public files (layout: README.md beside this file)"
        )
    return Path(data).resolve(), Path(out).resolve()


if __name__ == "__main__":
    try:
        build(*arguments(sys.argv[1:]))
    except AftertuneError as error:
        sys.exit(str(error))
