"""A repair from its request to its proof: candidates, selection, the rule, the proof, the mended model.

Two ordinary studies do the asking: one puts the part for selection to base, fine-tune and every candidate, the other the
part for proof to base, fine-tune and the chosen model. Each is kept in a folder of the repair's run with its store, so
that a repair that was stopped goes on, and nothing is asked twice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

from aftertune.core.files import whole_folder, write_whole
from aftertune.core.keys import content_key
from aftertune.core.protocols import Scorer
from aftertune.core.recipe import Trained
from aftertune.core.records import FinishReason, Intent, Prompt, Response, Role, Score
from aftertune.core.registry import THRESHOLDS
from aftertune.data.prompt_sets import load_sets, without_overlap
from aftertune.errors import DataError, InputError
from aftertune.measure.gate_rules import Fixed
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.preregistration import design_notes, draw_order
from aftertune.measure.repair import (
    FORMAT,
    Compared,
    Measured,
    OwnScore,
    Proof,
    Repaired,
    RepairResult,
    Selection,
    choose,
    repair_verdict,
)
from aftertune.models.open import Engines
from aftertune.repair.candidates import (
    Made,
    Target,
    check_room,
    make_candidates,
    targets_of,
)
from aftertune.repair.methods import Method, Sources
from aftertune.repair.parts import Parts, check_parts, divide, shown_rows, write_part
from aftertune.repair.weights import (
    FineTune,
    base_checkpoint,
    fine_tune_of,
    recorded_key,
    write_record,
)
from aftertune.report.document import from_plain, read_json, to_plain, write_json
from aftertune.report.progress import Progress, Quiet
from aftertune.report.repair import repair_card
from aftertune.result import measure_plan, open_finished
from aftertune.run import Purpose, run_study
from aftertune.score.run import build_scorers, sample_of
from aftertune.study import Study, study_from_mapping
from aftertune.workspace import Run, make_folder, open_engines, open_run

BASE, TUNED, REPAIRED = "base", "tuned", "repaired"
"""The names of the conditions in the studies of a repair."""
SELECTION, PROOF, CANDIDATES = "selection", "proof", "candidates"
RESULT, PROVEN = "repair.json", "proven.json"
"""The contents of a repair's run: two studies, the candidates until the result is written; result; what was proven before."""
ATTACKS = "attacks"
NOT_DECIDING = (ATTACKS, "guards", "preferences")
"""The keys of a configuration by which no repair is chosen or proven."""
CARD = "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """The own task of a fine-tune, as the user declares it."""

    score: OwnScore
    margin: float
    """Largest tolerated fall of the score against the fine-tune."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairRequest:
    """The order for a repair: its models, its method, and the prompts and judges that choose and prove it."""

    base: str
    tuned: tuple[str, ...]
    out: Path | None
    """The mended model's folder; None where none is written."""
    method: Method
    strengths: tuple[float, ...]
    """The strengths that are tried, gentlest first."""
    only_sweep: bool
    """True where the strengths are only shown."""
    unaligned: str | None
    own: Own | None
    keys: Mapping[str, Any]
    """The keys of a study but its models and name: prompts, judges, decoding, measurement."""
    trained_on: Callable[[Run, Trained], Trained]
    """Adds the rows that the fine-tunes were trained on."""
    folder: Path
    """The run's."""
    source: Path
    """The start of relative paths in the options of scorers and loaders."""
    command: str


def repair(request: RepairRequest, progress: Progress) -> RepairResult:
    """Make the candidates, choose one for each fine-tune by the rule, prove it on other behaviors, and write it.

    Raises:
        AftertuneError: what is wrong, in one line; everything done so far is kept and not done again.
    """
    tunes = [fine_tune_of(reference, request.base) for reference in request.tuned]
    request.method.check_sources(tunes, request.unaligned)
    targets = targets_of(request.method, tunes)
    check_room(request.method, len(request.strengths), targets, request.folder)
    check_out(request.out)
    make_folder(request.folder)
    parts = _parts(request, progress)
    made = _candidates(request, targets, parts, progress)
    selections, plan = _select(request, targets, made, parts, progress)
    chosen = {
        target.name: candidate
        for target in targets
        for candidate in made[target.name]
        if candidate.strength == selections[target.name].chosen
    }
    proofs: dict[str, Proof] = {}
    together, notes = None, tuple[str, ...]()
    # A repair of several fine-tunes is one result: it is proven once all of them have a strength.
    if not request.only_sweep and len(chosen) == len(targets):
        notes = _earlier_proofs(request, tunes, chosen)
        for note in notes:
            progress.note(f"note: {note}")
        proofs, together = _prove(request, targets, chosen, parts, progress)
    result = replace(
        _result(request, targets, selections, proofs, plan), together=together, notes=notes
    )
    if request.out is not None and all(model.is_result for model in result.repaired):
        _write_out(request, result, chosen)
        # The answers are in the stores; the candidates can be made again.
        rmtree(request.folder / CANDIDATES, ignore_errors=True)
    write_json(request.folder / RESULT, to_plain(result))
    return result


def read_repair(folder: Path) -> RepairResult:
    """Return the result of a repair in its run's folder.

    Raises:
        InputError: there is none, or another version wrote it.
    """
    path = folder / RESULT
    return from_plain(RepairResult, read_json(path), str(path))


def check_out(out: Path | None) -> None:
    """See that the result can be written: to a new or empty folder, or over nothing but a result of the same repair.

    Raises:
        InputError: the folder holds something else.
    """
    if out is None or not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if recorded_key(out) is None:
        raise InputError(
            f"{out} holds something that is no repaired model of ours; name a new or empty folder with --out"
        )


def _parts(request: RepairRequest, progress: Progress) -> Parts:
    """Return the prompts in two parts, which are written into the run.

    Sets with harmful prompts, the own task and the named benign sets take part; others decide nothing here.

    Raises:
        InputError: the own score is no score of a task.
        DataError: the prompts cannot serve, or are too few.
    """
    study = _study(request, "repair", [], request.keys.get("prompts", []))
    for metric in study.metrics:
        if metric.use in THRESHOLDS:
            raise InputError(
                f"--own-score {metric.name}: {metric.use} is no score of the task and decides nothing; name another metric"
            )
    with open_run(study, request.folder, Quiet(), request.source, write=False) as run:
        loaded = load_sets(run)
        rows = request.trained_on(run, Trained(models=(), rows={})).rows
        fresh = without_overlap(loaded, rows).prompts
        metrics = build_scorers(run)[Role.METRIC]
    harmful = {prompt.set for prompt in loaded.prompts if prompt.intent is Intent.HARMFUL}
    own = set() if request.own is None else set(request.own.score.sets)
    measurement = request.keys.get("measurement", {})
    used = harmful | own | set(measurement.get("over_refusal_sets", ()))
    prompts = [prompt for prompt in loaded.prompts if prompt.set in used]
    if idle := {prompt.set for prompt in loaded.prompts} - used:
        progress.note(
            f"note: not asked, since a repair is not decided by it: {', '.join(sorted(idle))}"
        )
    if not harmful:
        raise DataError("no prompt set has harmful prompts, so there is nothing to repair by")
    _check_own(request, prompts, metrics)
    idle_keys = [
        key for key in NOT_DECIDING if request.keys.get(key) or (key == ATTACKS and loaded.supplied)
    ]
    if idle_keys:
        progress.note(
            f"note: a repair is chosen and proven without {' and '.join(idle_keys)}; check the mended model with them "
            "(aftertune check)"
        )
    # What occurs in training rows is dropped, and counted, when the parts are asked; here it is seen that enough is left.
    check_parts(divide([prompt for prompt in fresh if prompt.set in used]), sorted(used))
    parts = divide(prompts)
    for name, part in ((SELECTION, parts.selection), (PROOF, parts.proof)):
        write_part(part, request.folder / name / "prompts")
    chosen, proven = parts.counts(harmful)
    progress.note(
        f"{chosen} behaviors with their twins choose the strength, {proven} others prove it"
    )
    plan = measure_plan(study, [], "ASR")
    order = draw_order(parts.proof, [], plan)
    for note in design_notes(plan, Fixed(alpha=plan.alpha), order):
        progress.note(f"note: proof: {note}")
    return parts


def _check_own(
    request: RepairRequest, prompts: Sequence[Prompt], metrics: Mapping[str, Scorer]
) -> None:
    """See that the own-task rows can be scored.

    Raises:
        DataError: some are harmful prompts, none has a reference, or the score is one of other rows.
    """
    own = [
        prompt
        for prompt in prompts
        if request.own is not None and prompt.set in request.own.score.sets
    ]
    if any(prompt.intent is Intent.HARMFUL for prompt in own):
        raise DataError(
            "the own-task rows hold harmful prompts; name rows of the fine-tune's own task, all of them benign"
        )
    if own and not any(prompt.reference or prompt.labels for prompt in own):
        raise DataError(
            "no own-task row has a reference, so that none can be scored; give each row the answer that it should have ('reference')"
        )
    if own and request.own is not None:
        metric = request.own.score.metric
        if not any(_can_be_scored(metrics[metric], prompt) for prompt in own):
            tasks = ", ".join(sorted({prompt.task for prompt in own}))
            raise DataError(
                f"--own-score {metric} has no score for rows of the task {tasks}, not even of their references; name a score of that "
                f"task, or give {metric} the option task in the file of --config"
            )


def _can_be_scored(metric: Scorer, prompt: Prompt) -> bool:
    """Return whether a metric gives a score to the very reference of a prompt; True where it asks a model for that."""
    right = Response(
        text=prompt.reference or "",
        finish_reason=FinishReason.STOP,
        prompt_tokens=0,
        completion_tokens=0,
    )
    sample = sample_of(Role.METRIC, prompt, right)
    if metric.questions(sample):
        return True
    return metric.score(sample) != Score()


def _study(
    request: RepairRequest,
    name: str,
    models: Sequence[Mapping[str, object]],
    prompts: Sequence[object],
) -> Study:
    """Return a study of base, fine-tunes and further models, by the request's judges and settings."""
    keys = dict(request.keys)
    metric = None if request.own is None else request.own.score.metric
    keys["metrics"] = [
        entry
        for entry in keys.get("metrics", ())
        if (entry if isinstance(entry, str) else entry["name"]) == metric
    ] or ([] if metric is None else [metric])
    # A declared score is held against the fine-tune (`OwnTask`).
    for key in NOT_DECIDING:
        keys.pop(key, None)
    measurement = {
        key: value
        for key, value in keys.get("measurement", {}).items()
        if key not in {"margins", "match"}
    }
    tuned = [
        {"name": _tuned_name(request, number), "reference": reference, "base": BASE}
        for number, reference in enumerate(request.tuned)
    ]
    return study_from_mapping(
        {
            **keys,
            "name": name,
            "measurement": measurement,
            "models": [{"name": BASE, "reference": request.base}, *tuned, *models],
            "prompts": list(prompts),
        },
        Path(),
    )


def _tuned_name(request: RepairRequest, number: int) -> str:
    return TUNED if len(request.tuned) == 1 else f"{TUNED}/seed{number}"


def _renamed(target: Target, condition: str) -> str:
    """Return the name of a model that belongs to a fine-tune: of ``tuned/seed1``, ``CONDITION/seed1``."""
    return condition + target.name.removeprefix(TUNED)


def _sources(request: RepairRequest, target: Target, parts: Parts, engines: Engines) -> Sources:
    return Sources(
        tunes=target.tunes,
        unaligned=None if request.unaligned is None else base_checkpoint(request.unaligned),
        prompts=tuple(
            prompt
            for prompt in parts.selection
            if request.own is None or prompt.set not in request.own.score.sets
        ),
        engines=engines,
    )


def _candidates(
    request: RepairRequest, targets: Sequence[Target], parts: Parts, progress: Progress
) -> dict[str, list[Made]]:
    """Return the candidates of each target, by its name."""
    engine = _study(request, "repair", [], request.keys.get("prompts", [])).engine
    with (
        open_engines(engine, request.folder, progress) as engines,
        progress.stage("repair", len(targets) * len(request.strengths)) as advance,
    ):
        return {
            target.name: make_candidates(
                request.method,
                request.strengths,
                _sources(request, target, parts, engines),
                request.folder / CANDIDATES,
                advance,
            )
            for target in targets
        }


def _select(
    request: RepairRequest,
    targets: Sequence[Target],
    made: Mapping[str, Sequence[Made]],
    parts: Parts,
    progress: Progress,
) -> tuple[dict[str, Selection], MeasurePlan]:
    """Ask base, fine-tunes and candidates the part for selection, and choose by the rule; return the plan as well."""
    models = [
        {
            "name": _renamed(target, f"{request.method.name}-{candidate.strength:g}"),
            "reference": str(candidate.folder.absolute()),
            "base": BASE,
        }
        for target in targets
        for candidate in made[target.name]
    ]
    measured = _asked(request, SELECTION, models, parts.selection, request.trained_on, progress)
    margin = measured.plan.over_refusal_margin
    if request.own is not None and measured.figures([BASE]).score is None:
        raise DataError(
            f"the own-task score {request.own.score.metric} could not be given: no row of {', '.join(request.own.score.sets)} has "
            "a reference that it needs, or all rows occur in the training data"
        )
    selections = {
        target.name: choose(
            measured.figures([BASE]),
            measured.figures(_tuned_models(request, target)),
            [
                (
                    candidate.strength,
                    measured.figures(
                        [_renamed(target, f"{request.method.name}-{candidate.strength:g}")]
                    ),
                )
                for candidate in made[target.name]
            ],
            margin,
        )
        for target in targets
    }
    return selections, measured.plan


def _tuned_models(request: RepairRequest, target: Target) -> list[str]:
    """Return the fine-tunes behind a target: all of them where they are joined."""
    if request.method.joins:
        return [_tuned_name(request, number) for number in range(len(request.tuned))]
    return [target.name]


def _asked(
    request: RepairRequest,
    part: str,
    models: Sequence[Mapping[str, object]],
    prompts: Sequence[Prompt],
    trained_on: Callable[[Run, Trained], Trained],
    progress: Progress,
) -> Measured:
    """Ask base, fine-tunes and further models one part of the prompts, and return what was measured."""
    folder = request.folder / part
    sets = dict.fromkeys(prompt.set for prompt in prompts)
    files = [
        {"set": name, "file": str((folder / "prompts" / f"{name}.jsonl").absolute())}
        for name in sets
    ]
    study = _study(request, f"repair-{part}", models, files)
    purpose = Purpose(command=request.command, source=request.source, trained_on=trained_on)
    run_study(study, folder, progress, purpose)
    with open_finished(folder) as finished:
        return Measured(
            finished.table(),
            finished.plan,
            None if request.own is None else request.own.score,
        )


def _prove(
    request: RepairRequest,
    targets: Sequence[Target],
    chosen: Mapping[str, Made],
    parts: Parts,
    progress: Progress,
) -> tuple[dict[str, Proof], Compared | None]:
    """Ask base, fine-tunes and the chosen models the part for proof, and hold them against each other."""
    models = [
        {
            "name": _renamed(target, REPAIRED),
            "reference": str(chosen[target.name].folder.absolute()),
            "base": BASE,
        }
        for target in targets
    ]

    def with_selection(run: Run, trained: Trained) -> Trained:
        """Count what the strength was chosen by as seen: a row of the proof that occurs there is dropped."""
        own = request.trained_on(run, trained)
        return replace(own, rows={**own.rows, SELECTION: shown_rows(parts.selection)})

    measured = _asked(request, PROOF, models, parts.proof, with_selection, progress)
    proofs = {
        target.name: measured.proof(
            BASE,
            _tuned_models(request, target),
            _renamed(target, REPAIRED),
            None if request.own is None else request.own.margin,
        )
        for target in targets
    }
    if len(targets) == 1:
        return proofs, None
    names = [target.name for target in targets]
    repaired = [_renamed(target, REPAIRED) for target in targets]
    return proofs, measured.compared(BASE, names, repaired)


def _earlier_proofs(
    request: RepairRequest, tunes: Sequence[FineTune], chosen: Mapping[str, Made]
) -> tuple[str, ...]:
    """Keep that this repair is proven on the run's behaviors, and say which other ones of the same fine-tunes were before.

    Who proves several repairs and keeps the best one chooses by the proof, whose figures are then too good.
    """
    path = request.folder / PROVEN
    kept: dict[str, list[str]] = {}
    if path.is_file():
        kept = from_plain(_Proven, read_json(path), str(path)).repairs
    of_tunes = content_key([tune.identity for tune in tunes]).hex()
    strengths = ", ".join(dict.fromkeys(f"{made.strength:g}" for made in chosen.values()))
    this = f"{request.method.name} at {strengths}"
    others = [other for other in kept.get(of_tunes, []) if other != this]
    kept[of_tunes] = [*others, this]
    write_json(path, to_plain(_Proven(format=FORMAT, repairs=kept)))
    if not others:
        return ()
    note = (
        f"proven on the same behaviors before: {'; '.join(others)}. The best of several proofs is too good: confirm what you keep "
        "on further behaviors (--prompts, --run)"
    )
    return (note,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proven:
    """The repairs that were proven in a run."""

    format: int
    repairs: dict[str, list[str]]
    """Key of the fine-tunes -> method and strengths, in their order."""


def _result(
    request: RepairRequest,
    targets: Sequence[Target],
    selections: Mapping[str, Selection],
    proofs: Mapping[str, Proof],
    plan: MeasurePlan,
) -> RepairResult:
    repaired = tuple(
        Repaired(
            name=target.name,
            selection=selections[target.name],
            proof=proofs.get(target.name),
        )
        for target in targets
    )
    verdict, reasons = None, tuple[str, ...]()
    if not request.only_sweep:
        verdict, reasons = repair_verdict(
            repaired, request.method.name, measured_own=request.own is not None
        )
    return RepairResult(
        format=FORMAT,
        method=request.method.name,
        strength=request.method.strength,
        metric=None if request.own is None else request.own.score.metric,
        name_rate=plan.name_rate,
        margin=plan.over_refusal_margin,
        only_sweep=request.only_sweep,
        repaired=repaired,
        together=None,
        verdict=verdict,
        exit_code=0 if verdict is None else verdict.exit_code,
        reasons=reasons,
        notes=(),
    )


def _write_out(request: RepairRequest, result: RepairResult, chosen: Mapping[str, Made]) -> None:
    """Write the mended model with its card, whole or not at all; of several, each in a folder of its own inside.

    Raises:
        InputError: the folder holds another repair.
    """
    out = request.out
    assert out is not None

    def card(name: str) -> str:
        return repair_card(
            result, name, base=request.base, tuned=request.tuned, command=request.command
        )

    key = content_key("repaired", [made.key for made in chosen.values()]).hex()
    if out.exists() and any(out.iterdir()):
        if recorded_key(out) in {key, *(made.key for made in chosen.values())}:
            for name in chosen:
                write_whole(_place(out, name, chosen) / CARD, [card(name)])
            return
        raise InputError(
            f"{out} holds the result of another repair; delete it or name another folder with --out"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.is_dir():
        out.rmdir()
    with whole_folder(out) as draft:
        for name, made in chosen.items():
            folder = _place(draft, name, chosen)
            copytree(made.folder, folder, dirs_exist_ok=True)
            (folder / CARD).write_text(card(name), encoding="utf-8")
        if len(chosen) > 1:
            write_record(draft, {"format": FORMAT, "key": key})


def _place(out: Path, name: str, chosen: Mapping[str, Made]) -> Path:
    """Return the folder of one mended model: the result itself, or one inside for each of several."""
    return out if len(chosen) == 1 else out / name.rpartition("/")[2]
