"""`aftertune mix`: safety rows into a training file, by their share of the final file, row by row from file to file."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aftertune.cli.options import MOST_SEED, DataOption, command_app
from aftertune.core.files import real
from aftertune.core.recipe import TrainingFile
from aftertune.core.records import Intent
from aftertune.data.bundled.planted import evaluation_rows
from aftertune.data.bundled.safety_rows import safety_pools
from aftertune.data.draw import Candidates, Draw, added, draw
from aftertune.data.formats import FORMATS, OWN_COLUMNS, Columns, converted, in_columns
from aftertune.data.formats_beside import (
    TARGETS,
    TRAINERS,
    beside,
    known_sets,
    write_axolotl,
    write_llama_factory,
)
from aftertune.data.mix_card import Pools, write_card
from aftertune.data.mix_scan import Seen, refuse_evaluation, scan, warnings
from aftertune.data.repose import INPUT, PromptFormat, find_format, repose
from aftertune.data.rowfile import RowFile, scan_pools
from aftertune.data.rows import Row, read_columns, write_lines
from aftertune.data.sources import answered_rows, licence_of
from aftertune.errors import DataError, InputError
from aftertune.report.wording import clean

app = command_app()


@app.command()
def command(
    train: Annotated[
        Path, typer.Argument(help="Your training file; none of its rows is dropped or altered.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The mixed file (JSONL).")
    ],
    safety: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Safety rows to draw from instead of the bundled ones: a file, a public set, or SET=FILE. Repeat for several.",
        ),
    ] = None,
    share: Annotated[float, typer.Option(help="Safety rows / all rows of the mixed file.")] = 0.15,
    replay_from: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Benign rows to draw from instead of the bundled ones. Repeat for several.",
        ),
    ] = None,
    replay: Annotated[
        float | None,
        typer.Option(
            help="Benign replay rows / all rows (0.15 where there are rows to draw from, which the bundled set has)."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="MAP", help="Weights of tasks: code=2,translation=1; others have 1."),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Pose the added rows in this training file's prompt format (often TRAIN).",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Convert to messages, prompt-completion, prompt-completion-text, alpaca, openai, vertex, sharegpt, "
            "llama-factory or axolotl; without it the format of TRAIN.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="MAP", help="For files in no known format, as `tune --columns`."),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write a dataset card (README.md of a hub data set)."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Seed of the draw and of the order.")
    ] = 0,
    folder: DataOption = Path(),
) -> None:
    """Mix safety rows into a training file, by their share of the final file."""
    replayed = (0.0 if safety and not replay_from else 0.15) if replay is None else replay
    request = MixRequest(
        train=train,
        out=out,
        columns=columns,
        safety=named(safety or (), folder, share, "--safety"),
        replay=named(replay_from or (), folder, replayed, "--replay-from"),
        seed=seed,
        weights=weights,
        like=like,
        to=to,
        card=card,
    )
    mix(request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """Rows to draw from and their share of the final file."""

    files: Sequence[TrainingFile] = field(default=())
    share: float = 0.0
    licences: Sequence[str] = field(default=())
    """Of each file, as far as it is known; empty: none is."""

    @property
    def paths(self) -> list[Path]:
        """Where the files lie."""
        return [Path(file.path) for file in self.files]


def named(names: Sequence[str], folder: Path, share: float, option: str) -> Addition:
    """Return the rows to draw from that a user names, as `answered_rows` finds them.

    Raises:
        DataError: as `answered_rows`.
    """
    files = [answered_rows(name, folder, option) for name in names]
    return Addition(files=files, share=share, licences=[licence_of(name) for name in names])


@dataclass(frozen=True, slots=True, kw_only=True)
class MixRequest:
    """What the command line asks for."""

    train: Path
    out: Path
    columns: str | None = None
    """``prompt=question,completion=answer``, for a training file in no known format."""
    safety: Addition
    replay: Addition
    seed: int = 0
    weights: str | None = None
    """``code=2,translation=1``."""
    like: Path | None = None
    """A training file whose prompt format the added rows take."""
    to: str | None = None
    """One of `formats_beside.TARGETS`; the training file's own format without it."""
    card: Path | None = None
    """Where a dataset card goes."""


def mix(request: MixRequest) -> None:
    """Write the mixed file and say what went into it.

    Without safety files the bundled set is drawn from, `multitask-safety-v1`: its refusals, and as replay its answers to
    the benign twins in the same templates.

    Raises:
        InputError: an option makes no sense, or the output would replace an input.
        DataError: a file cannot be read, the training file holds evaluation behaviors, or a row does not fit into the
            format.
    """
    weights = _check(request)
    with ExitStack() as stack:

        def opened(file: TrainingFile) -> RowFile:
            return stack.enter_context(RowFile(file, Path()))

        rows = opened(TrainingFile(path=str(request.train), columns=read_columns(request.columns)))
        seen = scan(rows)
        refuse_evaluation(request.train, seen)
        like = None if request.like is None else _like(request, rows, seen, opened)
        safety = _pool(request.safety, Intent.HARMFUL, like, opened)
        replay = _pool(request.replay, Intent.BENIGN, like, opened)
        shares = (request.safety.share, request.replay.share)
        made = draw(
            seen.questions, (safety, replay), shares=shares, seed=request.seed, weights=weights
        )
        target = request.to or seen.format
        pools: Pools = {"safety": safety, "replay": replay}
        write = _writer(TRAINERS.get(target, target), rows.file.columns, like)
        write_lines(
            _lines(made, rows, pools, request.to and TRAINERS.get(request.to, request.to), write),
            request.out,
        )
        notes = [*warnings(seen, request.to), *made.notes]
        if request.card is not None:
            posed = [] if like is None else like.described()
            write_card(request, rows, pools, made, target, (posed, notes))
    _write_beside(request)
    _say(made, request, target, like, notes)


def _check(request: MixRequest) -> dict[str, float]:
    """See that the options fit together, and return the weights."""
    share, replay = request.safety.share, request.replay.share
    try:
        added(1, share, replay)
    except DataError as error:
        raise InputError(f"--share {share:g} --replay {replay:g}: {error}") from error
    if replay > 0 and request.safety.files and not request.replay.files:
        raise InputError(
            "--replay needs rows to draw from beside your own --safety; name a file with --replay-from"
        )
    out = request.out
    if not out.name.endswith(".jsonl") or out.is_dir():
        raise InputError(
            f"--out {out}: the mixed file is JSONL; give it a name that ends in .jsonl"
        )
    if request.to is not None and request.to not in TARGETS:
        raise InputError(f"--to {request.to}: use one of {', '.join(TARGETS)}")
    inputs = {
        real(path)
        for path in (request.train, request.like, *request.safety.paths, *request.replay.paths)
        if path
    }
    outputs: set[Path] = set()
    for option, path in (
        ("--out", out),
        ("--to", beside(out, request.to or "")),
        ("--card", request.card),
    ):
        if path is None:
            continue
        if real(path) in inputs:
            raise InputError(f"{option}: {path} is one of the inputs; give the output another name")
        if real(path) in outputs:
            raise InputError(
                f"{option}: {path} is written already as another output; give this one another name"
            )
        outputs.add(real(path))
    if request.to == "llama-factory":
        known_sets(out.with_name("dataset_info.json"))
    return _weights(request.weights)


def _weights(text: str | None) -> dict[str, float]:
    """Read ``code=2,translation=1``."""
    weights: dict[str, float] = {}
    for pair in text.split(",") if text else []:
        task, _, number = (part.strip() for part in pair.partition("="))
        if task in weights:
            raise InputError(f"--weights {text}: {task!r} stands there twice; say it once")
        try:
            weights[task] = float(number)
        except ValueError:
            weights[task] = -1.0
        if not task or not 0 <= weights[task] < float("inf"):
            raise InputError(
                f"--weights {text}: {pair!r} is no task and number, as in code=2,translation=1"
            )
    return weights


def _like(
    request: MixRequest, rows: RowFile, seen: Seen, opened: Callable[[TrainingFile], RowFile]
) -> PromptFormat:
    """Find the prompt format of the file that is named, which may be the training file itself."""
    if request.like is None or real(request.like) == real(request.train):
        return find_format(rows, inputs=seen.inputs / len(rows))
    other = opened(TrainingFile(path=str(request.like)))
    inputs = sum(
        bool("instruction" in scanned.record and str(scanned.record.get("input") or "").strip())
        for scanned in other.scan()
    )
    return find_format(other, inputs=inputs / len(other))


def _pool(
    addition: Addition,
    intent: Intent,
    like: PromptFormat | None,
    opened: Callable[[TrainingFile], RowFile],
) -> Mapping[str, Candidates]:
    """Return the rows to draw from by task: the files', or the bundled ones of an intent."""
    if addition.share == 0:
        return {}
    pools: Mapping[str, Sequence[Row]] = (
        scan_pools([opened(file) for file in addition.files])
        if addition.files
        else safety_pools(intent)
    )
    posed = None if like is None or not like.found else lambda row: repose(row, like)
    barred = (lambda row: any(evaluation_rows([row]))) if addition.files else None
    return {task: Candidates(rows, posed, barred) for task, rows in pools.items()}


def _lines(
    made: Draw,
    rows: RowFile,
    pools: Pools,
    to: str | None,
    write: Callable[[Row], Mapping[str, object]],
) -> Iterator[str]:
    """Yield the lines of the mixed file; the user's are those of the training file unless a format is asked for."""
    for part, task, number in made:
        try:
            if part != "user":
                yield _line(write(pools[part][task].row(number)))
            elif to is None:
                yield rows.line(number)
            else:
                yield _line(converted(rows.record(number), rows[number], to, rows.file.columns))
        except DataError as error:
            where = (
                f"{rows.file.path}, row {number + 1}"
                if part == "user"
                else f"a {part} row ({task})"
            )
            raise DataError(f"{where}: {error}") from error


def _writer(
    name: str, columns: Columns, like: PromptFormat | None
) -> Callable[[Row], Mapping[str, object]]:
    """Return what writes an added row; into a field ``input`` only where the file that it is like has one."""
    if name == OWN_COLUMNS:
        return lambda row: in_columns(row, columns)
    fields = (
        name == "alpaca"
        and like is not None
        and any(frame.middle == INPUT for frame in like.frames)
    )
    return _with_input if fields else FORMATS[name].write


def _with_input(row: Row) -> Mapping[str, object]:
    record = FORMATS["alpaca"].write(row)
    instruction, _, payload = record["instruction"].partition(INPUT)
    return record | {"instruction": instruction, "input": payload}


def _line(record: Mapping[str, object]) -> str:
    return json.dumps(record, ensure_ascii=False)


def _write_beside(request: MixRequest) -> None:
    if request.to == "llama-factory":
        write_llama_factory(request.out)
    elif request.to == "axolotl":
        write_axolotl(request.out)


def _say(
    made: Draw, request: MixRequest, target: str, like: PromptFormat | None, notes: Sequence[str]
) -> None:
    console = Console(highlight=False, soft_wrap=True)
    total = len(made.order)
    counts = (made.user, *(len(part.numbers) for part in made.parts))
    for count, what in zip(counts, ("yours", "safety", "benign replay"), strict=True):
        console.print(f"{count:>8,}  {count / total:6.1%}  {what}", markup=False)
    console.print(f"{total:>8,}          rows in {request.out}, format {target}", markup=False)
    for part, what in zip(made.parts, ("safety", "replay"), strict=True):
        if len(part.by_task) > 1:
            drawn = ", ".join(f"{task} {count:,}" for task, count in part.by_task.items())
            console.print(clean(f"{what} rows by task: {drawn}"), markup=False)
    if like is not None:
        console.print(clean(f"prompt format of {request.like}:"), markup=False)
        for line in like.described():
            console.print(clean(f"  {line}"), markup=False)
        if like.inside_a_line:
            notes = [*notes, INSIDE]
    for path in filter(None, (request.card, beside(request.out, request.to or ""))):
        console.print(f"also written: {path}", markup=False)
    for note in notes:
        console.print(clean(f"note: {note}"), markup=False)


INSIDE = (
    "the prefix ends inside a line: if it is an instruction (as in 'Translate into French:') and not only a frame, the answers "
    "of added rows do not follow it; then leave --like out"
)
