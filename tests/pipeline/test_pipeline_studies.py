"""The studies of `studies/`: each says whether it was run, expands as its page says, and is counted without what is not public."""

import importlib
import json
import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from tiny_classifiers import make_tokenizer
from tiny_study import write_lines

from aftertune.core.recipe import Recipe
from aftertune.study import load_study
from aftertune.study.expand import cells_of, expand_models

FOLDER = Path(__file__).parents[2] / "studies"
MODELS = {"multitask-bench": (1, 16 * 3), "fine-tuning-lowers-safety": (2, 4 * 5 * 5), "families": (13, 13 * 3 * 3)}  # fmt: skip
"""Bases, and fine-tunes with their seeds and epochs."""
DATA = os.environ.get("AFTERTUNE_DATA", "")
PUBLIC = pytest.param(
    Path(DATA),
    id="public",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(not DATA, reason="AFTERTUNE_DATA names no folder of public files"),
    ],
)
MODELS_ASKED = {
    "multitask-bench": {"multitask-bench", "llama-guard-3", "openai-moderation"},
    "fine-tuning-lowers-safety": {"sorry-bench"},
    "families": {"llama-guard-3"} | ({"wildguard"} if find_spec("wildguard") else set()),
}
"""The scorers of each study that ask a model."""
ANY_TEXT = (
    "{% for m in messages %}<turn>{{ m.role }}: {{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant: {% endif %}"
)
FEW = 4
"""Behaviors of each prompt set."""
ROW_FILES = ("code", "translation", "classification", "summaries", "dolly", "alpaca")


@pytest.fixture(params=sorted(path.stem for path in FOLDER.glob("*.yaml")))
def study(request, tmp_path):
    """Return the folder of a study with files of rows beside it, and the study's path in it."""
    (tmp_path / "rows").mkdir()
    for name in ROW_FILES:
        rows = [{"prompt": f"What is {name} {n}?", "completion": f"Note {n}."} for n in range(20)]
        write_lines(tmp_path / "rows" / f"{name}.jsonl", rows)
    (tmp_path / "multitaskbench").mkdir()
    (tmp_path / "multitaskbench" / "multitaskbench.csv").write_text(
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


@pytest.fixture
def costs(monkeypatch):
    """The script that counts the studies, which stands in for what is not public."""
    monkeypatch.syspath_prepend(FOLDER)
    script = importlib.import_module("costs")
    monkeypatch.setattr(script, "STAND_IN_ROWS", 40)
    return script


@pytest.mark.parametrize("data", [pytest.param(None, id="invented"), PUBLIC])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_dry_run_and_a_plan_count_every_model_and_scorer(name, data, costs, command, tmp_path):
    make_tokenizer(["a text"], ANY_TEXT).save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "study").mkdir()
    standing = costs.stand_in(
        FOLDER / f"{name}.yaml",
        tmp_path / "study",
        data=data,
        tokenizer_of=tmp_path / "tokenizer",
    )
    declared = yaml.safe_load(standing.path.read_text())
    for prompts in declared["prompts"]:
        prompts["limit"] = FEW
    standing.path.write_text(yaml.safe_dump(declared))
    code, out, err = command("run", standing.path, "--dry-run")
    assert code == 0, err
    assert all(scorer in out for scorer in MODELS_ASKED[name])
    code, _, err = command("plan", standing.path, "--json", "plan.json", "-q")
    assert code == 0, err
    plan = json.loads(Path("plan.json").read_text())
    models = [cost for cost in plan["costs"] if cost["kind"] == "model"]
    bases, tuned = MODELS[name]
    assert (len(models), sum(cost["to_be_trained"] for cost in models)) == (bases + tuned, tuned)
    assert len({cost["calls"] for cost in models}) == 1
    assert models[0]["calls"] >= FEW * len(declared["prompts"])
    asked = [cost for cost in plan["costs"] if cost["kind"] != "model"]
    assert {cost["name"] for cost in asked} == MODELS_ASKED[name]
    assert all(cost["calls"] > 0 for cost in asked)
    assert len(list(costs.table_rows(name, plan))) == 1 + len(asked)
