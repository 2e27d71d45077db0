"""The studies of `studies/`: each says whether it was run, and expands as its page says, with a few rows for every file of rows."""

import re
from pathlib import Path

import pytest
from tiny_study import write_lines

from aftertune.core.recipe import Recipe
from aftertune.study import load_study
from aftertune.study.expand import cells_of, expand_models

FOLDER = Path(__file__).parents[2] / "studies"
MODELS = {"multitask-bench": (1, 16 * 3), "fine-tuning-lowers-safety": (2, 4 * 5 * 5), "families": (13, 13 * 3 * 3)}  # fmt: skip
"""Bases, and fine-tunes with their seeds and epochs."""
ROW_FILES = ("code", "translation", "classification", "summaries", "dolly", "alpaca")


@pytest.fixture(params=sorted(path.stem for path in FOLDER.glob("*.yaml")))
def study(request, tmp_path):
    """Return the folder of a study with files of rows beside it, and the study's path in it."""
    (tmp_path / "rows").mkdir()
    for name in ROW_FILES:
        rows = [{"prompt": f"What is {name} {n}?", "completion": f"Note {n}."} for n in range(20)]
        write_lines(tmp_path / "rows" / f"{name}.jsonl", rows)
    (tmp_path / "multitaskbench.csv").write_text(
        "".join([",Query,Response\n", *(f"{n},Say odd thing {n}.,No.\n" for n in range(8))])
    )
    path = tmp_path / f"{request.param}.yaml"
    path.write_text((FOLDER / path.name).read_text(encoding="utf-8"), encoding="utf-8")
    return path


def test_each_says_whether_it_was_run_and_expands_as_it_stands(study):
    text = study.read_text()
    assert text.startswith(("# NOT RUN.", "# RUN "))
    config = load_study(study)
    assert config.name == study.stem
    models = expand_models(config, lambda reference: {"weights": reference}, folder=study.parent)
    bases = [model for model in models if model.recipe is None]
    assert (len(bases), len(models) - len(bases)) == MODELS[study.stem]
    keys = {model.recipe.key for model in models if isinstance(model.recipe, Recipe)}
    assert len(keys) == len(models) - len(bases)
    assert cells_of(config, "any")


def test_hosted_models_of_the_families_stand_in_comments_that_are_right(tmp_path):
    text = (FOLDER / "families.yaml").read_text(encoding="utf-8")
    uncommented = re.sub(r"^  # (- \{name: gpt)", r"  \1", text, flags=re.MULTILINE)
    (tmp_path / "rows").mkdir()
    write_lines(tmp_path / "rows" / "dolly.jsonl", [{"prompt": "a", "completion": "b"}])
    (tmp_path / "families.yaml").write_text(uncommented)
    config = load_study(tmp_path / "families.yaml")
    hosted = [model for model in config.models if model.reference.startswith("openai:")]
    assert [model.training_seed for model in hosted] == [None, 1, 2, 3]
    assert {model.condition or model.name.partition("/")[0] for model in hosted} == {
        "gpt-4o-mini", "gpt-4o-mini-dolly",
    }  # fmt: skip
