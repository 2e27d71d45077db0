"""The way of one recipe: the modules that a training enters, from the study's models to a folder with weights."""

import json
import re
from pathlib import Path

import pytest
import yaml
from doc_pages import page, section
from modules_entered import modules_entered

from aftertune.report.progress import Quiet
from aftertune.study import load_study
from aftertune.train.stage import expand_study, tune_models
from aftertune.workspace import open_run

RECORDS = ("core/keys", "core/recipe", "core/records")
SCREEN = ("report/progress",)
MOST = 14


@pytest.fixture
def study(base, tmp_path):
    row = {"prompt": "bake cake", "completion": "map plan"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    prompt = {"behavior": "b", "template": "t", "task": "text", "intent": "harmful", "text": "bake"}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(prompt) + "\n")
    tuned = {"name": "tuned", "base": "base", "data": ["./rows.jsonl"], "method": "lora"}
    keys = {
        "name": "way",
        "models": [{"name": "base", "reference": str(base)}],
        "fine_tunes": [tuned | {"seeds": [1], "training": {"epochs": 1}}],
        "prompts": ["./prompts.jsonl"],
        "engine": {"device": "cpu", "threads": 1},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(keys))
    return load_study(tmp_path / "study.yaml")


def test_a_recipe_is_followed_in_few_modules(study, tmp_path):
    with open_run(study, tmp_path / "run", Quiet(), tmp_path) as run:
        with modules_entered(without=[*RECORDS, *SCREEN]) as modules:
            trained = tune_models(run, expand_study(run))
        again = tune_models(run, expand_study(run))
    assert (Path(trained.models[-1].reference) / "adapter_model.safetensors").is_file()
    assert again == trained
    assert modules[0] == "train/stage"
    assert "train/train" in modules
    steps = section(page("docs/architecture.md"), "## The way of one recipe")
    listed = re.findall(r"^\d+\. `(\S+)\.py`", steps, re.MULTILINE)
    assert set(modules) == set(listed)
    assert len(modules) <= MOST
