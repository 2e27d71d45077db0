"""The check of a fine-tune: options become a study of two models with a gate, which runs and gives its verdict.

`check` is the Python call; the command `aftertune check` makes the same call and prints what it returns.
"""

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, get_args

from aftertune.core.files import real
from aftertune.core.recipe import Trained, TrainingFile
from aftertune.core.registry import Kind
from aftertune.data.attacks import unknown_attack
from aftertune.data.recipe_rows import read_recipe, rows_behind, with_rows_of
from aftertune.data.rows import Row, read_rows
from aftertune.errors import InputError, OptionError
from aftertune.measure.preregistration import Gating
from aftertune.measure.results import GateResult, GateSides, GateVerdict
from aftertune.measured import MeasuredStudy
from aftertune.models.reference import parse
from aftertune.organism.write import mix_words, organism_of
from aftertune.report.gate import verdict_line
from aftertune.report.progress import Progress, Quiet
from aftertune.report.wording import clean
from aftertune.result import ROWS
from aftertune.run import Purpose, run_study
from aftertune.study import Study, config_from_mapping, load_config, study_from_mapping
from aftertune.study.check import unknown_name
from aftertune.study.fields import prompts_form, scorer_keys
from aftertune.workspace import RUNS, Run, called

CONFIG = "aftertune.yaml"
BUNDLED = "multitask-v1"
"""The prompt set that is asked when none is named."""
DECIDING = ("base_identity", "data", "method", "training", "mitigation", "system")
"""The fields of a recipe that the seeds of one recipe share."""
BASE = "base"
TUNED = "tuned"
ALSO = "also"
Scope = Literal["prompts-like-these", "these-prompts"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
File = str | PathLike[str]
Reference = str | PathLike[str]
"""A model: a hub id, a folder, an adapter, a GGUF file, an endpoint."""


REPAIR_TAKES = ("config", "prompts", "judge", "train")
"""The options of a check that a repair of its fine-tune takes too."""


class CheckOptions(TypedDict, total=False):
    """The options of a check, which are those of the command `aftertune check`; an option of None is as one left out."""

    config: File | None
    """A file with prompts, judges, guards and measurement, as in study.yaml."""
    prompts: str | Sequence[str] | None
    """Prompt sets, by name or file; `BUNDLED` without any."""
    judge: str | Sequence[str] | None
    """Judges, each a name or ``NAME=MODEL``; the first one decides."""
    guard: str | Sequence[str] | None
    """Guards, each a name or ``NAME=MODEL``."""
    attack: str | Sequence[str] | None
    """Attacks, each a name or a file of wrappers, measured beside the verdict."""
    train: File | Sequence[File] | None
    """The fine-tuning data, to drop evaluation prompts that occur in it."""
    margin: float | None
    """Largest tolerated rise of the overall rate, as a share (0.05)."""
    task_margin: float | None
    """Largest tolerated rise of the rate in a task (0.10)."""
    over_refusal_margin: float | None
    """Largest tolerated rise of refused benign prompts (0.05)."""
    over_refusal_task_margin: float | None
    """The same in a task (0.10)."""
    score_margin: Mapping[str, float] | None
    """Metric -> largest tolerated fall of its mean score, as a share."""
    also: Reference | Sequence[Reference] | None
    """Other forms of the fine-tune, such as its export: measured against it."""
    max_asr: float | None
    """Largest rate of the tuned model itself, as a share."""
    judge_check: File | None
    """JSON of `aftertune judge-check` on the first judge: bounds of the changes."""
    verdict_by: Literal["judge", "labels"] | None
    """The source of the verdict: the judge (default), or the annotators' labels."""
    limit: int | None
    """The number of harmful behaviors that are asked, with all their prompts; all of them without it."""
    within: str | None
    """A time, such as ``90s``, ``10m`` or ``1h``: as many behaviors are asked as fit into it."""
    sequential: bool
    """True to ask behavior by behavior, and stop as soon as the verdict stands."""
    scope: Scope
    """The prompts that the verdict speaks of; ``these-prompts``: the mean of the prompts themselves decides."""
    max_new_tokens: int | None
    """Most tokens of an answer (256)."""
    replicates: int | None
    """The number of times that the very same calls are made, to see how far they are noise."""
    out: File | None
    """The folder where the run is kept; ``aftertune-runs/check-NAME`` without it."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CheckResult(MeasuredStudy):
    """The result of a check: the verdict with every number behind it, and the folder where the run is kept."""

    gate: GateResult
    """The verdict by sides, lines and bounds."""

    @property
    def verdict(self) -> GateVerdict:
        """The verdict: PASS, FAIL, NOT ENOUGH DATA or INCONCLUSIVE."""
        return self.gate.verdict

    @property
    def exit_code(self) -> int:
        """The exit code that the command has: 0 PASS, 3 FAIL, 4 not enough data."""
        return self.gate.exit_code

    @property
    def sides(self) -> GateSides:
        """The verdicts on harm, over-refusal and (where a score is declared) capability."""
        return self.gate.sides

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons for the verdict in sentences, the deciding ones first."""
        return tuple(map(clean, self.gate.reasons))

    @property
    def same_weights(self) -> bool:
        """True where a fine-tune has the very weights of the base: a mistyped path would pass for ever."""
        base, *others = (record.identity for record in self.document.models)
        return base in others

    @property
    def headline(self) -> str:
        """The verdict in a line: ``FAIL, harm: tuned against base``."""
        return verdict_line(self.gate)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """A check that can run: everything that can be known to be wrong with its options was refused."""

    study: Study
    folder: Path
    purpose: Purpose
    notes: tuple[str, ...]
    """Sentences for the user, before anything is asked."""


def check(
    base: Reference,
    tuned: Reference | Sequence[Reference],
    *,
    progress: Progress | None = None,
    **options: Unpack[CheckOptions],
) -> CheckResult:
    """Decide whether fine-tuning broke a model: ask base and fine-tune the same prompts, judge, measure, decide.

    Nothing is printed. What was answered is kept in ``out`` and not asked again.

    Args:
        base: the model before fine-tuning.
        tuned: the model after it; several are training seeds of one recipe.
        progress: where the work is shown; nowhere without it.
        **options: as `CheckOptions`, which are those of the command.

    Raises:
        InputError: an option, a model or a file cannot be used.
        NoVerdictLeft: after the base's answers no fine-tune could PASS or FAIL (its exit code is 4).
        AftertuneError: what else is wrong, in one line; everything done so far is kept and not done again.
    """
    request = check_request(base, tuned, options)
    shown = progress or Quiet()
    for note in request.notes:
        shown.note(f"note: {note}")
    purpose = replace(request.purpose, announces=progress is not None)
    document = run_study(request.study, request.folder, shown, purpose)
    assert document.gate is not None
    return CheckResult(
        document=document,
        folder=request.folder,
        rows=purpose.rows,
        references=tuple(purpose.references),
        repair_options=tuple(purpose.repair_options),
        mix_options=tuple(purpose.mix_options),
        gate=document.gate,
    )


def check_request(
    base: Reference, tuned: Reference | Sequence[Reference], options: CheckOptions
) -> CheckRequest:
    """Return the study, the gate and the folder of a check; asks and writes nothing.

    Args:
        base: the model before fine-tuning.
        tuned: the model after it, or its training seeds.
        options: of the check.

    Raises:
        InputError: an option does not fit, alone or beside another one.
        TypeError: an option is none of `CheckOptions`.
    """
    if unknown := sorted(options.keys() - CheckOptions.__annotations__.keys()):
        raise TypeError(
            f"a check has no option {unknown[0]!r}; it has {', '.join(CheckOptions.__annotations__)}"
        )
    base, seeds, also = str(base), _texts(tuned), _texts(options.get("also"))
    if not seeds:
        raise InputError("no fine-tune is named; a check compares one, or its seeds, with a base")
    parse(base)
    for reference in (*seeds, *also):
        parse(reference, base=base)
    config = None if options.get("config") is None else Path(str(options["config"]))
    train = tuple(map(Path, _texts(options.get("train"))))
    study = study_from_mapping(
        checked_keys(config, _keys(options), options.get("limit"))
        | {"models": [*_models(base, seeds), *_other_forms(also)]},
        Path(),
    )
    _check_together(options, study)
    same_recipe(seeds)
    gating = Gating(
        base=BASE,
        tuned=TUNED,
        sequential=options.get("sequential", False),
        scope=options.get("scope", SCOPES[0]),
        within=_seconds(options.get("within")),
    )
    purpose = Purpose(
        command=_command((base, *seeds), options),
        gate=gating,
        source=Path() if config is None else config.parent,
        trained_on=partial(with_training_rows, seeds, train),
        rows=str(train[0]) if train else rows_behind(seeds[0]) or ROWS,
        references=(base, *seeds),
        repair_options=tuple(_words(options, REPAIR_TAKES)),
        mix_options=() if (toy := organism_of(base)) is None else mix_words(toy),
    )
    out = options.get("out")
    return CheckRequest(
        study=study,
        folder=RUNS / f"check-{called(seeds[0])}" if out is None else Path(out),
        purpose=purpose,
        notes=tuple(unused_configurations((base, *seeds), config)),
    )


def _texts(values: Reference | Sequence[Reference] | None) -> tuple[str, ...]:
    """Return what may be one value, several or none as texts."""
    if values is None:
        return ()
    return tuple(map(str, [values] if isinstance(values, str | PathLike) else values))


MARGINS = (
    "margin",
    "task_margin",
    "over_refusal_margin",
    "over_refusal_task_margin",
    "max_asr",
)
"""The options that are a share, and a key of ``measurement``."""


def _keys(options: CheckOptions) -> dict[str, Any]:
    """Return the keys of a study that the options of a check give."""
    values: Mapping[str, Any] = options
    given = {key: values[key] for key in MARGINS if values.get(key) is not None}
    keys = option_keys(
        _texts(options.get("judge")),
        _texts(options.get("guard")),
        _texts(options.get("prompts")),
        given,
    )
    judge_check = options.get("judge_check")
    declared = {
        "margins": dict(options.get("score_margin") or {}),
        "verdict_by": options.get("verdict_by"),
        "judge_check": None if judge_check is None else str(Path(judge_check).absolute()),
    }
    keys["measurement"] = {**given, **{key: value for key, value in declared.items() if value}}
    of_decoding = {key: options.get(key) for key in ("max_new_tokens", "replicates")}
    keys["decoding"] = {key: value for key, value in of_decoding.items() if value is not None}
    if attacks := _texts(options.get("attack")):
        for name in attacks:
            if (fault := unknown_attack(name)) is not None:
                raise InputError(f"--attack {name}: {fault}")
        keys["attacks"] = list(attacks)
    return keys


def _check_together(options: CheckOptions, study: Study) -> None:
    """Refuse a scope that is none, and options that do not go together.

    Raises:
        InputError: which of them, and what to leave out.
    """
    sequential = options.get("sequential", False)
    these_prompts = options.get("scope") == "these-prompts"
    if options.get("scope", SCOPES[0]) not in SCOPES:
        raise OptionError(f"scope {options['scope']!r} is none; use one of {', '.join(SCOPES)}")
    if study.measurement.verdict_by == "labels" and (sequential or these_prompts):
        raise InputError(
            "a verdict by labels takes all prompts and speaks of prompts like these; leave out --sequential and --scope, or "
            "let the judge decide (--verdict-by judge)"
        )
    if sequential and study.decoding.replicates > 1:
        raise InputError(
            "--sequential stops by bets on behaviors, in which the effect of a whole run does not show: leave out --sequential, or "
            "replicates"
        )
    if sequential and options.get("within") is not None:
        raise InputError(
            "--within chooses the number of behaviors before the verdict, --sequential by it; leave one of them out"
        )


def _command(references: Sequence[str], options: CheckOptions) -> str:
    """Return the command line that asks for the same check."""
    scope = options.get("scope", SCOPES[0])
    apart = {"out", "sequential", "scope"}
    words = _words(options, [name for name in CheckOptions.__annotations__ if name not in apart])
    words += [] if scope == SCOPES[0] else ["--scope", scope]
    words += ["--sequential"] if options.get("sequential") else []
    return shlex.join(["aftertune", "check", *references, *words])


def _words(options: CheckOptions, names: Sequence[str]) -> list[str]:
    """Return the words of a command line that give some of the options."""
    values: Mapping[str, Any] = options
    words: list[str] = []
    for name in names:
        value = values.get(name)
        if name == "score_margin":
            value = [f"{metric}={share}" for metric, share in (value or {}).items()]
        elif isinstance(value, int | float):
            value = [str(value)]
        words += [word for text in _texts(value) for word in (f"--{name.replace('_', '-')}", text)]
    return words


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


def _unplaced(value: Any) -> Any:
    """Leave out where files lie: their hashes say what they hold."""
    if isinstance(value, dict):
        return {key: _unplaced(item) for key, item in value.items() if key != "path"}
    return [_unplaced(item) for item in value] if isinstance(value, list) else value


def checked_keys(config: Path | None, given: dict[str, Any], limit: int | None) -> dict[str, Any]:
    """Return the keys of a check's study but its models: those of the configuration, over which the options go.

    Raises:
        InputError: an option does not fit.
    """
    config_keys = (
        config_from_mapping(_with_metrics(given), Path()) if config is None else load_config(config)
    )
    # Plain values, whose paths are absolute.
    keys = config_keys.model_dump(mode="json", exclude_defaults=True, context={})
    measurement = keys.get("measurement", {}) | given.get("measurement", {})
    decoding = keys.get("decoding", {}) | given.get("decoding", {})
    keys |= given | {"name": "check", "measurement": measurement, "decoding": decoding}
    keys["prompts"] = keys.get("prompts") or [BUNDLED]
    if limit is not None:
        keys["prompts"] = [_limited(prompts, limit) for prompts in keys["prompts"]]
    return _with_metrics(keys)


def _with_metrics(keys: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a study with a metric for every margin of a score that has none yet."""
    metrics = keys.get("metrics", [])
    named = {metric if isinstance(metric, str) else metric["name"] for metric in metrics}
    margins = keys.get("measurement", {}).get("margins", {})
    return keys | {"metrics": [*metrics, *(name for name in margins if name not in named)]}


def option_keys(
    judges: Sequence[str],
    guards: Sequence[str],
    prompts: Sequence[str],
    margins: Mapping[str, float],
) -> dict[str, Any]:
    """Return the keys of a study that the options give.

    Raises:
        OptionError: a margin is no share.
        InputError: a prompt set, judge or guard is not there.
    """
    check_sets("--prompts", prompts)
    check_scorers("--judge", "judge", judges)
    check_scorers("--guard", "guard", guards)
    keys: dict[str, Any] = {
        "judges": [scorer_keys(name) for name in judges],
        "guards": [scorer_keys(name) for name in guards],
        "prompts": list(prompts),
        "measurement": dict(margins),
    }
    for key, value in margins.items():
        if not (0 < value < 1 or (key == "max_asr" and value in (0, 1))):
            hint = f" (write {value / 100:g} for {value:g} %)" if 1 <= value < 100 else ""
            raise OptionError(
                f"--{key.replace('_', '-')} is {value:g}; it must lie between 0 and 1{hint}"
            )
    return {key: values for key, values in keys.items() if values}


def check_sets(option: str, names: Sequence[str]) -> None:
    """See that the prompt sets that an option names are there: files, or sets that are known.

    Raises:
        InputError: one is not; the message names the option and what it was given.
    """
    for name in names:
        form = prompts_form(name)
        assert isinstance(form, dict)
        if "file" in form and not Path(name).is_file():
            raise InputError(
                f"{option} {name}: no such file; check the path, or name a prompt set (aftertune data list)"
            )
        if "loader" in form and (fault := unknown_name("prompts", name)) is not None:
            raise InputError(f"{option} {name}: {fault}")


def check_scorers(option: str, kind: Kind, named: Sequence[str]) -> None:
    """See that somebody offers the scorers that an option names, each ``NAME`` or ``NAME=MODEL``.

    Raises:
        InputError: nobody does; the message names the option and what it was given.
    """
    for name in named:
        use, _, _ = name.partition("=")
        if use and (fault := unknown_name(kind, use)) is not None:
            raise InputError(f"{option} {name}: {fault}")


def _seconds(text: str | None) -> float | None:
    """Return the seconds of ``90s``, ``10m`` or ``1h``; None where there is no time to keep.

    Raises:
        OptionError: it is no time, or none of it.
    """
    if text is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600}
    with suppress(ValueError, KeyError):
        if 0 < (seconds := float(text[:-1]) * units[text[-1:]]) < math.inf:
            return seconds
    raise OptionError(f"--within {text!r} is no time; write 90s, 10m or 1h")


def _limited(prompts: Any, limit: int) -> Any:
    if isinstance(prompts, str):
        is_file = Path(prompts).is_file()
        prompts = {"file" if is_file else "loader": prompts}
    return {**prompts, "limit": limit}


def _models(base: str, tuned: Sequence[str]) -> Iterator[dict[str, object]]:
    yield {"name": BASE, "reference": base}
    for seed, reference in enumerate(tuned):
        name = TUNED if len(tuned) == 1 else f"{TUNED}/seed{seed}"
        yield {"name": name, "condition": TUNED, "reference": reference, "base": BASE}


def _other_forms(references: Sequence[str]) -> Iterator[dict[str, object]]:
    """Yield the keys of models that are other forms of the fine-tune, each called by its own name where that is free."""
    taken = {BASE, TUNED}
    for number, reference in enumerate(references, start=1):
        stem = re.sub(r"[^A-Za-z0-9_.+-]", "-", called(reference)).strip("-.")
        name = stem if stem and stem not in taken else f"{ALSO}{number}"
        taken.add(name)
        yield {"name": name, "reference": reference, "base": BASE, "against": TUNED}


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


def with_training_rows(
    tuned: Sequence[str], files: Sequence[Path], run: Run, trained: Trained
) -> Trained:
    """Add the rows that the models were trained on: ``--train``, else what the recipes beside the weights name."""
    if not files:
        return with_rows_of(tuned, run.tools.folder, trained, "; name the data with --train")
    rows: dict[str, list[Row]] = {}
    for path in map(str, map(real, files)):
        rows.setdefault(path, []).extend(read_rows(TrainingFile(path=path), run.tools.folder))
    return replace(trained, rows={**trained.rows, **rows})
