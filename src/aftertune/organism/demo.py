"""The demonstration as a study: what harmless fine-tuning breaks, and what mends it."""

from pathlib import Path
from typing import Any

from aftertune.organism.recipe import OrganismRecipe
from aftertune.organism.write import check_config

SEEDS = [1, 2, 3]


def demo_study(folder: Path) -> dict[str, Any]:
    """Return the study as the plain values of study.yaml, over the files that `write.write` put into ``folder``.

    The two mitigations have equally many safety rows and the same benign replay, so that they differ in one thing:
    whether the refusals come in one task or in all four.
    """
    folder, recipe = folder.absolute(), OrganismRecipe()
    training = {
        "epochs": float(recipe.tune.epochs), "learning_rate": recipe.tune.learning_rate,
        "batch_size": recipe.tune.batch_size, "max_length": 128, "warmup_ratio": 0.05, "adam_beta2": 0.98,
    }  # fmt: skip
    shared = {"base": "base", "method": "full", "training": training, "seeds": SEEDS}
    code = {**shared, "data": _data(folder, "code")}
    return {
        "name": "demo",
        "models": [{"name": "base", "reference": str(folder / "base")}],
        "fine_tunes": [
            {"name": "code", **code},
            {"name": "translation", **shared, "data": _data(folder, "translation")},
            {"name": "code+text", **code, "mitigation": _mitigation(folder, recipe, "safety_text")},
            {
                "name": "code+multitask",
                **code,
                "mitigation": _mitigation(folder, recipe, "safety_multitask"),
            },
        ],
        **check_config(),
        "guards": [
            {"name": "organism", "use": "organism", "options": {"model": str(folder / "guard")}}
        ],
    }


def _data(folder: Path, name: str) -> list[dict[str, str]]:
    return [{"path": str(folder / "data" / f"{name}.jsonl")}]


def _mitigation(folder: Path, recipe: OrganismRecipe, safety: str) -> dict[str, Any]:
    return {
        "safety": _data(folder, safety),
        "share": recipe.safety_share,
        "replay": _data(folder, "replay"),
        "replay_share": recipe.replay_share,
    }
