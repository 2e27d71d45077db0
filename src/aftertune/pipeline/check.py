"""`aftertune check`: a study of one base and one fine-tune (with its seeds), and the gate's verdict on it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from aftertune.core.ids import file_sha256
from aftertune.core.recipe import TrainingFile
from aftertune.engine.reference import parse
from aftertune.errors import InputError
from aftertune.pipeline.presenting import present, print_page
from aftertune.pipeline.run_folder import PAGE, Run
from aftertune.pipeline.stages import Purpose, run_study
from aftertune.pipeline.training import Trained
from aftertune.prompts.rows import Row, read_rows
from aftertune.report.progress import Progress
from aftertune.study import CheckConfig, Study, config_from_mapping, load_config, study_from_mapping

CONFIG = "aftertune.yaml"
BUNDLED = "multitask-v1"
"""What is asked when nobody names a prompt set."""
RECIPE = "recipe.json"
BASE = "base"
TUNED = "tuned"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """What the command line asks for; None and empty leave it to the configuration."""

    base: str
    tuned: tuple[str, ...]
    config: Path | None = None
    prompts: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()
    train: tuple[Path, ...] = ()
    margin: float | None = None
    task_margin: float | None = None
    max_asr: float | None = None
    limit: int | None = None


def check(request: CheckRequest, folder: Path, progress: Progress, json_path: Path | None) -> int:
    """Run the check, print its verdict, and return the exit code: 0 PASS, 3 FAIL, 4 not enough data.

    Raises:
        AftertuneError: what is wrong, in one line; everything done so far is kept.
    """
    for reference in (request.base, *request.tuned):
        parse(reference)
    study = check_study(request)
    for note in pointed_out([request.base, *request.tuned], request.config):
        progress.note(f"note: {note}")
    purpose = Purpose(
        command=" ".join(["aftertune check", request.base, *request.tuned]),
        gate=(BASE, TUNED),
        source=Path() if request.config is None else request.config.parent,
        trained_on=partial(_with_training_rows, request),
    )
    told = run_study(study, folder, progress, purpose)
    present(told, Console(), json_path)
    print_page(folder / PAGE)
    return int(told["gate"]["exit_code"])


def check_study(request: CheckRequest) -> Study:
    """Return the study that a check is.

    Raises:
        InputError: an option does not fit.
    """
    named = request.config
    keys = _plain(config_from_mapping(_keys(request), Path()) if named is None else load_config(named))
    keys |= {key: value for key, value in _keys(request).items() if key != "measurement"}
    keys["measurement"] = keys.get("measurement", {}) | _keys(request).get("measurement", {})
    keys["prompts"] = keys.get("prompts") or [BUNDLED]
    if request.limit is not None:
        keys["prompts"] = [_limited(prompts, request.limit) for prompts in keys["prompts"]]
    return study_from_mapping(keys | {"name": "check", "models": list(_models(request))}, Path())


def _keys(request: CheckRequest) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for key, names in (("prompts", request.prompts), ("judges", request.judges), ("guards", request.guards)):
        if names:
            keys[key] = list(names)
    margins = {"margin": request.margin, "task_margin": request.task_margin, "max_asr": request.max_asr}
    if given := {key: value for key, value in margins.items() if value is not None}:
        keys["measurement"] = given
    return keys


def _plain(config: CheckConfig) -> dict[str, Any]:
    """Return a configuration as plain values whose paths are absolute."""
    return config.model_dump(mode="json", exclude_defaults=True, context={})


def _limited(prompts: Any, limit: int) -> Any:
    if isinstance(prompts, str):
        is_file = Path(prompts).is_file()
        prompts = {"file" if is_file else "loader": prompts}
    return {**prompts, "limit": limit}


def _models(request: CheckRequest) -> Iterator[dict[str, object]]:
    yield {"name": BASE, "reference": request.base}
    for seed, reference in enumerate(request.tuned):
        name = TUNED if len(request.tuned) == 1 else f"{TUNED}/seed{seed}"
        yield {"name": name, "condition": TUNED, "reference": reference, "base": BASE}


def pointed_out(references: Sequence[str], config: Path | None) -> list[str]:
    """Return a note for each configuration that lies in a model's folder: pointed out, never obeyed unnamed."""
    notes = []
    for reference in references:
        for folder in (Path(reference), Path(reference).parent):
            found = folder / CONFIG
            if found.is_file() and (config is None or found.resolve() != config.resolve()):
                notes.append(f"{found} lies there but is not used; name it with --config if you trust it")
                break
    return list(dict.fromkeys(notes))


def _with_training_rows(request: CheckRequest, run: Run, trained: Trained) -> Trained:
    """Add the rows that the models were trained on: ``--train``, else what the recipes beside the weights name."""
    files = [TrainingFile(path=str(path.resolve())) for path in request.train]
    unknown: list[str] = []
    if not files:
        for reference in request.tuned:
            found = list(_recipe_files(Path(reference)))
            files += found
            unknown += [] if found else [reference]
    rows: dict[str, list[Row]] = {file.path: read_rows(file, run.tools.folder) for file in files}
    notes = [
        f"overlap of prompts and training data was not checked for {Path(reference).name or reference}: no recipe beside "
        "the weights names data that is still there; name it with --train"
        for reference in unknown
    ]
    return replace(trained, rows={**trained.rows, **rows}, notes=(*trained.notes, *notes))


def _recipe_files(folder: Path) -> Iterator[TrainingFile]:
    """Yield the training files of the recipe beside some weights, if they are still what they were."""
    path = folder / RECIPE
    if not path.is_file():
        return
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error}); name the training data with --train") from error
    mitigation = recipe.get("mitigation") or {}
    for named in [*recipe.get("data", []), *mitigation.get("safety", []), *mitigation.get("replay", [])]:
        file = TrainingFile(**named)
        if not Path(file.path).is_file() or file_sha256(Path(file.path)) == file.sha256:
            yield file
