"""`aftertune mix`: safety rows into a training file, by their share of the final file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.options import MOST_SEED, DataOption, command_app
from aftertune.core.files import real, write_whole
from aftertune.core.records import HarmBasis
from aftertune.data.bundled.safety import SAFETY_SETS
from aftertune.data.card import card as dataset_card
from aftertune.data.formats import TARGETS, TRAINERS, beside, listed_sets
from aftertune.data.mix import added
from aftertune.data.mix_file import Addition, MixedFile, MixRequest, mix_file
from aftertune.data.rows import read_columns
from aftertune.data.rules import SHIPPED_RULES, read_rules
from aftertune.data.sources import answered_rows, licence_of
from aftertune.errors import DataError, InputError, OptionError
from aftertune.report.terminal import Output
from aftertune.report.wording import clean

WRONG_ANSWERS = (
    "the prefix ends inside a line: if it is an instruction (as in 'Translate into French:') and not only a frame, the answers "
    "of added rows do not follow it; then leave --like out"
)


READ_BY_TRL = " (TRL reads it as it is)"
NOT_READ_BY_TRL = " (TRL does not read it: --to messages writes what TRL reads)"

app = command_app()


@app.command()
def command(
    train: Annotated[
        Path, typer.Argument(help="Your training file; none of its rows is dropped or altered.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The mixed file (.jsonl, or .json for one array)."
        ),
    ],
    safety: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Safety rows to draw from instead of the bundled ones: a file, a public set, or SET=FILE. Repeat for several.",
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Rules in place of safety rows: their violations are posed in all tasks and refused by the rule. "
            "'principles' is the shipped list.",
        ),
    ] = None,
    basis: Annotated[
        HarmBasis | None,
        typer.Option(
            help="Only added rows that ask for help ('assistance'), or only those that process a text ('content'); of bundled rows and --rules."
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
    replay_share = (0.0 if safety and not replay_from else 0.15) if replay is None else replay
    try:
        added(1, share, replay_share)
    except DataError as error:
        raise OptionError(f"--share {share:g} --replay {replay_share:g}: {error}") from error
    if to is not None and to not in TARGETS:
        raise OptionError(f"--to {to}: use one of {', '.join(TARGETS)}")
    task_weights = _weights(weights)
    read_columns(columns)
    request = MixRequest(
        train=train,
        out=out,
        columns=columns,
        safety=_safety(safety or (), rules, basis, folder, share),
        replay=_addition(replay_from or (), folder, replay_share, "--replay-from", basis),
        seed=seed,
        weights=task_weights,
        like=like,
        to=to,
    )
    if replay_share > 0 and safety and not replay_from:
        raise InputError(
            "--replay needs rows to draw from beside your own --safety; name a file with --replay-from"
        )
    _check_outputs(request, card)
    mixed = mix_file(request)
    if card is not None:
        write_whole(card, [dataset_card(request, mixed)])
    _print(mixed, request, card)


def _addition(
    names: Sequence[str], folder: Path, share: float, option: str, basis: HarmBasis | None
) -> Addition:
    """Return the rows to draw from that a user names, as `answered_rows` finds them; bundled ones of a harm basis."""
    files = [answered_rows(name, folder, option) for name in names]
    licences = [licence_of(name) for name in names]
    return Addition(files=files, share=share, licences=licences, basis=basis)


def _safety(
    names: Sequence[str],
    rules: Path | None,
    basis: HarmBasis | None,
    folder: Path,
    share: float,
) -> Addition:
    """Return the safety rows to draw from: of rules, of files, or the bundled ones.

    Raises:
        InputError: rules beside files; a harm basis of files, whose rows do not state it.
        DataError: the rules cannot be used.
    """
    if rules is not None and names:
        raise InputError(
            "--rules and --safety both say where the safety rows come from; give one of them, or mix twice"
        )
    if basis is not None and (own := [name for name in names if name not in SAFETY_SETS]):
        raise InputError(
            f"--basis {basis}: the rows of {own[0]} do not say what they ask for; take them out of the file, or use the bundled "
            "rows or --rules"
        )
    if rules is None:
        return _addition(names, folder, share, "--safety", basis)
    path = rules if rules.is_file() else SHIPPED_RULES.get(str(rules), rules)
    return Addition(rules=read_rules(path), rules_file=path, share=share, basis=basis)


def _check_outputs(request: MixRequest, card: Path | None) -> None:
    out = request.out
    if out.suffix not in (".jsonl", ".json") or out.is_dir():
        raise InputError(
            f"--out {out}: the mixed file is JSON; give it a name that ends in .jsonl (a row a line) or .json (one array)"
        )
    inputs = {
        real(path)
        for path in (
            request.train,
            request.like,
            request.safety.rules_file,
            *(Path(file.path) for file in (*request.safety.files, *request.replay.files)),
        )
        if path
    }
    outputs: set[Path] = set()
    for option, path in (
        ("--out", out),
        ("--to", beside(out, request.to or "")),
        ("--card", card),
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
        listed_sets(out.with_name("dataset_info.json"))


def _weights(text: str | None) -> dict[str, float]:
    """Return the weights that an option such as ``code=2,translation=1`` gives to tasks.

    Raises:
        OptionError: a pair is no task and number, or a task stands there twice.
    """
    weights: dict[str, float] = {}
    for pair in text.split(",") if text else []:
        task, _, number = (part.strip() for part in pair.partition("="))
        if task in weights:
            raise OptionError(f"--weights {text}: {task!r} stands there twice; say it once")
        try:
            weights[task] = float(number)
        except ValueError:
            weights[task] = -1.0
        if not task or not 0 <= weights[task] < float("inf"):
            raise OptionError(
                f"--weights {text}: {pair!r} is no task and number, as in code=2,translation=1"
            )
    return weights


def _print(mixed: MixedFile, request: MixRequest, card: Path | None) -> None:
    draw = mixed.draw
    total = len(draw.order)
    safety, replay = draw.parts
    counts = {
        "yours": draw.user,
        "safety": len(safety.numbers),
        "benign replay": len(replay.numbers),
    }
    lines = [f"{count:>8,}  {count / total:6.1%}  {what}" for what, count in counts.items()]
    reader = "" if request.to in TRAINERS else READ_BY_TRL if mixed.read_by_trl else NOT_READ_BY_TRL
    lines.append(
        clean(f"{total:>8,}          rows in {request.out}, format {mixed.format}{reader}")
    )
    for part, what in ((safety, "safety"), (replay, "replay")):
        if len(part.by_task) > 1:
            tasks = ", ".join(f"{task} {count:,}" for task, count in part.by_task.items())
            lines.append(clean(f"{what} rows by task: {tasks}"))
    notes = list(mixed.notes)
    if mixed.like is not None:
        lines.append(clean(f"prompt format of {request.like}:"))
        lines += [clean(f"  {line}") for line in mixed.like.described()]
        if mixed.like.inside_a_line:
            notes.append(WRONG_ANSWERS)
    written = filter(None, (card, beside(request.out, request.to or "")))
    lines += [f"also written: {path}" for path in written]
    lines += [clean(f"note: {note}") for note in notes]
    Output(highlight=False, markup=False, soft_wrap=True).print("\n".join(lines))
