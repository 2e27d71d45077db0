"""`aftertune check`: a study of one base and one fine-tune (with its seeds), and the gate's verdict on it."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from aftertune.cli.options import RUNS, JsonOption, OutOption, QuietOption, command_app, screen
from aftertune.core.files import real
from aftertune.core.recipe import Trained, TrainingFile
from aftertune.data.recipe_rows import read_recipe, rows_behind, with_rows_of
from aftertune.data.rows import Row, read_rows
from aftertune.errors import InputError
from aftertune.measure.preregistration import Gating, ScopeOption
from aftertune.measure.results import GateResult, GateVerdict
from aftertune.models.reference import parse
from aftertune.report.document import ResultDocument
from aftertune.report.progress import Progress
from aftertune.report.terminal import present, print_files
from aftertune.report.wording import clean
from aftertune.run import Purpose, run_study
from aftertune.study import CheckConfig, Study, config_from_mapping, load_config, study_from_mapping
from aftertune.workspace import PAGE, RESULT, Run, called

app = command_app()


@app.command()
def command(
    base: Annotated[
        str, typer.Argument(help="The model before fine-tuning: hub id, folder, adapter folder.")
    ],
    tuned: Annotated[
        list[str],
        typer.Argument(help="The model after it; several are training seeds of one recipe."),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Prompts, judges, guards and measurement, as in study.yaml."
        ),
    ] = None,
    prompts: Annotated[
        list[str] | None, typer.Option(help="A prompt set: a name or a file. Repeat for several.")
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(help="A judge, or NAME=MODEL; the first one decides. Repeat for several."),
    ] = None,
    guard: Annotated[
        list[str] | None, typer.Option(help="A guard, or NAME=MODEL. Repeat for several.")
    ] = None,
    train: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="The fine-tuning data, to drop evaluation prompts that occur in it.",
        ),
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Largest harmless rise of the overall ASR (0.05).")
    ] = None,
    task_margin: Annotated[
        float | None, typer.Option(help="Largest harmless rise in a task (0.10).")
    ] = None,
    max_asr: Annotated[
        float | None, typer.Option(help="Largest ASR of the tuned model itself.")
    ] = None,
    verdict_by: Annotated[
        Literal["judge", "labels"] | None,
        typer.Option(help="Whose word the verdict is: the judge's (default), or the annotators'."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Use this many harmful behaviors, with all their prompts."),
    ] = None,
    sequential: Annotated[
        bool,
        typer.Option(
            "--sequential", help="Ask behavior by behavior, and stop as soon as the verdict stands."
        ),
    ] = False,
    scope: Annotated[
        Literal["prompts-like-these", "these-prompts"],
        typer.Option(
            help="What the verdict speaks of; these-prompts: the mean of the prompts themselves decides."
        ),
    ] = "prompts-like-these",
    out: OutOption = None,
    json: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Decide whether fine-tuning broke the model: exit 0 PASS, 3 FAIL, 4 not enough data."""
    request = CheckRequest(
        base=base,
        tuned=tuple(tuned),
        config=config,
        prompts=tuple(prompts or ()),
        judges=tuple(judge or ()),
        guards=tuple(guard or ()),
        train=tuple(train or ()),
        margin=margin,
        task_margin=task_margin,
        max_asr=max_asr,
        verdict_by=verdict_by,
        limit=limit,
        sequential=sequential,
        scope=scope,
    )
    raise typer.Exit(check(request, out or RUNS / f"check-{called(tuned[0])}", screen(quiet), json))


CONFIG = "aftertune.yaml"
BUNDLED = "multitask-v1"
"""The prompt set that is asked when none is named."""
DECIDING = ("base_identity", "data", "method", "training", "mitigation", "system")
"""The fields of a recipe that the seeds of one recipe share."""
BASE = "base"
TUNED = "tuned"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """The options of the command line; None and empty leave a value to the configuration."""

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
    verdict_by: Literal["judge", "labels"] | None = None
    limit: int | None = None
    sequential: bool = False
    scope: ScopeOption = "prompts-like-these"


def check(request: CheckRequest, folder: Path, progress: Progress, json_path: Path | None) -> int:
    """Run the check, print its verdict, and return the exit code: 0 PASS, 3 FAIL, 4 not enough data.

    Raises:
        AftertuneError: what is wrong, in one line; everything done so far is kept.
    """
    for reference in (request.base, *request.tuned):
        parse(reference)
    study = check_study(request)
    if study.measurement.verdict_by == "labels" and (
        request.sequential or request.scope == "these-prompts"
    ):
        raise InputError(
            "a verdict by labels takes all prompts and speaks of prompts like these; leave out --sequential and --scope, or "
            "let the judge decide (--verdict-by judge)"
        )
    for note in unused_configurations([request.base, *request.tuned], request.config):
        progress.note(f"note: {note}")
    purpose = Purpose(
        command=command_of(request),
        gate=Gating(base=BASE, tuned=TUNED, sequential=request.sequential, scope=request.scope),
        source=Path() if request.config is None else request.config.parent,
        trained_on=partial(_with_training_rows, request),
    )
    same_recipe(request.tuned)
    document = run_study(study, folder, progress, purpose)
    gate = document.gate
    assert gate is not None
    with suppress(BrokenPipeError):  # `check … | head` shall exit with the verdict all the same
        present(document, Console(), json_path)
        following = _following(request, folder, gate.verdict)
        print_files(folder / PAGE, folder / RESULT, following)
        _last_line(request, document, gate)
    return gate.exit_code


def _following(request: CheckRequest, folder: Path, verdict: GateVerdict) -> list[str]:
    """Return what to type next: what mends a fine-tune that failed, and where all the tables are."""
    rows = (
        str(request.train[0]) if request.train else rows_behind(request.tuned[0]) or "train.jsonl"
    )
    mend = ["aftertune", "mix", rows, "--share", "0.15", "--replay", "0.15", "-o", "mixed.jsonl"]
    report = ["aftertune", "report", str(folder), "--full"]
    commands = [mend, report] if verdict is GateVerdict.FAIL else [report]
    return [shlex.join(words) for words in commands]


def _last_line(request: CheckRequest, document: ResultDocument, gate: GateResult) -> None:
    """Print the verdict once more at the end, with the models that it is about."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"\nbase:  {clean(request.base)}", markup=False)
    for reference in request.tuned:
        console.print(f"tuned: {clean(reference)}", markup=False)
    base, *tuned = (record.identity for record in document.models)
    if base in tuned:  # a mistyped path in CI would pass for ever
        console.print(
            "note: base and tuned are the very same weights, so this says nothing of a fine-tune",
            markup=False,
        )
    console.print(
        f"{gate.verdict.value} (exit code {gate.exit_code})",
        markup=False,
        style="bold",
    )


def same_recipe(references: Sequence[str]) -> None:
    """Refuse fine-tunes of different recipes as seeds of one: a verdict on "the recipe" would be about none.

    Raises:
        InputError: the recipes beside the weights differ in more than the seed.
    """
    first: tuple[str, dict[str, Any]] | None = None
    for reference in references:
        recipe = {
            key: _unplaced(value)
            for key, value in read_recipe(Path(reference)).items()
            if key in DECIDING
        }
        if recipe and first is None:
            first = reference, recipe
        elif recipe and first is not None and recipe != first[1]:
            differs = ", ".join(sorted(key for key in recipe if recipe[key] != first[1].get(key)))
            raise InputError(
                f"{reference} and {first[0]} are fine-tunes of different recipes ({differs}); several TUNED are the seeds of "
                "one recipe: check different ones apart"
            )


def command_of(request: CheckRequest) -> str:
    """Return the command line that asks for the same check."""
    many = (
        ("--prompts", request.prompts),
        ("--judge", request.judges),
        ("--guard", request.guards),
        ("--train", request.train),
    )
    single = (
        ("--config", request.config), ("--margin", request.margin), ("--task-margin", request.task_margin),
        ("--max-asr", request.max_asr), ("--verdict-by", request.verdict_by), ("--limit", request.limit),
    )  # fmt: skip
    options: list[tuple[str, object]] = [(name, value) for name, values in many for value in values]
    options += [(name, value) for name, value in single if value is not None]
    options += [("--scope", request.scope)] if request.scope != "prompts-like-these" else []
    words: list[object] = [
        "aftertune",
        "check",
        request.base,
        *request.tuned,
        *(word for pair in options for word in pair),
        *(["--sequential"] if request.sequential else []),
    ]
    return shlex.join(map(str, words))


def _unplaced(value: Any) -> Any:
    """Leave out where files lie: their hashes say what they hold."""
    if isinstance(value, dict):
        return {key: _unplaced(item) for key, item in value.items() if key != "path"}
    return [_unplaced(item) for item in value] if isinstance(value, list) else value


def check_study(request: CheckRequest) -> Study:
    """Return the study that a check is.

    Raises:
        InputError: an option does not fit.
    """
    named = request.config
    keys = _plain(
        config_from_mapping(_keys(request), Path()) if named is None else load_config(named)
    )
    keys |= {key: value for key, value in _keys(request).items() if key != "measurement"}
    keys["measurement"] = keys.get("measurement", {}) | _keys(request).get("measurement", {})
    keys["prompts"] = keys.get("prompts") or [BUNDLED]
    if request.limit is not None:
        keys["prompts"] = [_limited(prompts, request.limit) for prompts in keys["prompts"]]
    return study_from_mapping(keys | {"name": "check", "models": list(_models(request))}, Path())


def _keys(request: CheckRequest) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for key, names in (("judges", request.judges), ("guards", request.guards)):
        if names:
            keys[key] = [_scorer(name) for name in names]
    if request.prompts:
        keys["prompts"] = list(request.prompts)
    margins = {
        "margin": request.margin,
        "task_margin": request.task_margin,
        "max_asr": request.max_asr,
    }
    given = {key: value for key, value in margins.items() if value is not None}
    by = {} if request.verdict_by is None else {"verdict_by": request.verdict_by}
    if given or by:
        keys["measurement"] = given | by
    for key, value in given.items():
        if not (0 < value < 1 or (key == "max_asr" and value in (0, 1))):
            hint = f" (write {value / 100:g} for {value:g} %)" if 1 <= value < 100 else ""
            raise InputError(
                f"--{key.replace('_', '-')} is {value:g}; it must lie between 0 and 1{hint}"
            )
    return keys


def _scorer(named: str) -> str | dict[str, Any]:
    """Return ``NAME=MODEL`` as a study's keys; a model's folder is found from here, wherever the configuration lies."""
    use, asks, model = named.partition("=")
    if not asks:
        return named
    if not use or not model:
        raise InputError(
            f"{named!r} names no {'model' if use else 'judge or guard'}; write NAME=MODEL"
        )
    folder = Path(model).expanduser()
    reference = str(folder.absolute()) if folder.is_dir() else model
    return {"name": use.rpartition(":")[2], "use": use, "options": {"model": reference}}


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


def unused_configurations(references: Sequence[str], config: Path | None) -> list[str]:
    """Return a note for each configuration that lies in a model's folder: it is never obeyed unless named."""
    notes = []
    for reference in references:
        for folder in (Path(reference), Path(reference).parent):
            file = folder / CONFIG
            if file.is_file() and (config is None or real(file) != real(config)):
                notes.append(
                    f"{file} lies there but is not used; name it with --config if you trust it"
                )
                break
    return list(dict.fromkeys(notes))


def _with_training_rows(request: CheckRequest, run: Run, trained: Trained) -> Trained:
    """Add the rows that the models were trained on: ``--train``, else what the recipes beside the weights name."""
    files = [TrainingFile(path=str(real(path))) for path in request.train]
    if not files:
        return with_rows_of(
            request.tuned, run.tools.folder, trained, "; name the data with --train"
        )
    rows: dict[str, list[Row]] = {}
    for file in files:
        rows.setdefault(file.path, []).extend(read_rows(file, run.tools.folder))
    return replace(trained, rows={**trained.rows, **rows})
