"""The embedded model's prompts as a task of Inspect: ``inspect eval bench/peers/inspect_local.py``."""

import sys
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

sys.path.insert(0, str(Path(__file__).parents[1]))
from local import prompts_of  # every line of prompts.jsonl, once


@task
def answers(prompts: str) -> Task:
    """Ask all prompts once; what the answers are worth does not matter here."""
    samples = [Sample(input=text, target="x") for text in prompts_of(Path(prompts))]
    return Task(dataset=MemoryDataset(samples), solver=generate(), scorer=includes())
