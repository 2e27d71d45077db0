"""`aftertune data`: the sets that there are, the content of one, the faults of a training file, the overlap of two."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console

from aftertune.cli.options import DataOption, JsonOption, command_group
from aftertune.core.records import (
    TASKS,
    Intent,
    Prompt,
    Sample,
    VerdictValue,
)
from aftertune.core.registry import factories
from aftertune.core.rounding import percent
from aftertune.core.untrusted import marker_pattern, neutralised
from aftertune.data.bundled.behaviors import SET
from aftertune.data.bundled.safety import SAFETY_SETS
from aftertune.data.bundled.summary import summary
from aftertune.data.checks import (
    BYTES_PER_TOKEN,
    CHECKS,
    KEPT,
    LEVELS,
    PERCENTILES,
    Checker,
    Measure,
    Report,
    estimated,
)
from aftertune.data.files import read_records
from aftertune.data.overlap import Finder, How, normalise, unit_of
from aftertune.data.prompt_sets import PROMPT_COLUMN
from aftertune.data.public import PublicSet, public_sets
from aftertune.data.rows import Row, read_columns
from aftertune.data.sources import NamedSource, named_source
from aftertune.errors import DataError, ModelError
from aftertune.models.gguf import GgufFile, HubFile
from aftertune.models.reference import (
    Adapter,
    Checkpoint,
    HubModel,
    fetch,
    has_tokenizer,
    parse,
    read_json,
)
from aftertune.models.rendering import Renderer
from aftertune.models.thinking import separate
from aftertune.report.document import write_json
from aftertune.report.terminal import Output
from aftertune.report.wording import clean, listing, plural
from aftertune.score.refusal import RefusalRules

FORMAT = 1
"""The version of the JSON documents that ``--json`` writes; it grows when a field changes its meaning or goes."""
SHOWN = 60
"""Characters of a foreign text that are shown: enough to recognise it, too few to be of use."""
NAMED = 3
"""Rows or examples of a kind that the screen names; the JSON has up to 100."""
_MARKERS = marker_pattern()

app = command_group(
    "Look at data before using it: prompt sets, training files, and what two of them share."
)


@app.command("list")
def data_list(folder: DataOption = Path(), json: JsonOption = None) -> None:
    """List every prompt set and data set that has a loader, and which of them lie here."""
    public = [_public_entry(table, folder) for table in public_sets()]
    others = sorted(factories("prompts").keys() - {SET, *(entry["name"] for entry in public)})
    sets = [
        _entry(
            SET, kind="prompts and benign twins", tasks=list(TASKS), intent="both",
            licence="Apache-2.0", facts="file",
        ),
        *(
            _entry(
                name, kind="safety rows (mix)", tasks=list(TASKS), intent="both",
                licence="Apache-2.0", facts="file",
            )
            for name in SAFETY_SETS
        ),
        *public,
        *(_entry(name, kind="of a plug-in") for name in others),
    ]  # fmt: skip
    if json is not None:
        write_json(json, {"format": FORMAT, "sets": sets})
    console = _console()
    rows = [{name: _cell(name, entry[name]) for name in COLUMNS} for entry in sets]
    lines = [_line({name: name for name in COLUMNS}), *map(_line, rows), ""]
    console.print("\n".join(lines))
    here = sum(entry["here"] for entry in sets)
    _say(console, f"{len(sets)} sets, {here} of them here. {LEGEND}")


@app.command("show")
def data_show(
    name: Annotated[
        str, typer.Argument(help="A set of `data list`, a file of prompts, or a training file.")
    ],
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The set's file; looked for in --data otherwise."),
    ] = None,
    folder: DataOption = Path(),
    json: JsonOption = None,
) -> None:
    """Show what a set holds: counts, lengths, hazards by task, duplicates, licence, and a few rows, shortened."""
    source = named_source(SET if name in SAFETY_SETS else name, folder, file=file)
    if source.prompts is None:
        raise DataError(f"{name}: {_remedy_for_rows(source.file or Path(name))}")
    document = _set_document(source.title, source)
    if json is not None:
        write_json(json, document)
    console = _console()
    _print_set(document, console)
    if source.title == SET:
        console.print()
        for line in summary().splitlines():
            _say(console, line)


@app.command("check")
def data_check(
    file: Annotated[Path, typer.Argument(help="A training file: JSONL, JSON, CSV, Parquet.")],
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="MAP", help="For CSV: prompt=COLUMN,completion=COLUMN[,input=COLUMN]."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Count tokens as this model does: hub id or folder; estimated otherwise."
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tokens per row; longer rows are cut (the model's context, else 1024)."
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Find what is wrong with a training file, row by row: exit 0 fit for training, 3 not."""
    measure, context = (estimated, None) if model is None else open_tokenizer(model)
    limit = max_length or context or MAX_LENGTH
    checker = Checker(
        limit=limit,
        measure=measure,
        columns=read_columns(columns),
        further={"refusal": refusal},
    )
    with closing(read_records(file, checker.unreadable)) as records:
        for where, record in records:
            checker.check(where, record)
    report = checker.report()
    if not report.rows:
        raise DataError(f"{file}: no rows; a training file needs at least one")
    counted_by = (
        f"estimated at one for {BYTES_PER_TOKEN} bytes"
        if model is None
        else f"counted by the tokenizer of {Path(model).name}"
    )
    if json is not None:
        write_json(json, _check_document(file.name, report, limit, counted_by))
    console = _console()
    _print_lengths(file.name, report, limit, counted_by, console)
    _print_findings(file.name, report, console)
    console.print()
    _say(console, _check_verdict(report, estimate=model is None))
    raise typer.Exit(FAILED if report.worst() == "error" else 0)


@app.command("overlap")
def data_overlap(
    a: Annotated[
        str, typer.Argument(metavar="A", help="What is asked: a set, SET=FILE, or a file.")
    ],
    b: Annotated[
        str, typer.Argument(metavar="B", help="Where it may stand: a set, SET=FILE, or a file.")
    ],
    columns: Annotated[
        str | None,
        typer.Option(metavar="MAP", help="For files in no known format, as `tune --columns`."),
    ] = None,
    folder: DataOption = Path(),
    json: JsonOption = None,
) -> None:
    """Count what of A stands in B, verbatim, as a payload or inside longer lines, and name it."""
    ours, theirs = (named_source(name, folder, columns=columns) for name in (a, b))
    prompts = ours.questions().prompts
    finder, counts = Finder(prompts), _OverlapCounts()
    for where, row in theirs.rows():
        counts.add(where, finder.held(row))
    document = _overlap_document(ours.title, theirs.title, prompts, counts)
    if json is not None:
        write_json(json, document)
    _print_overlap(document, _console())


def shortened(text: str, characters: int = SHOWN) -> str:
    """Return the beginning of a foreign text on one line, unable to steer a terminal or a chat template."""
    line = clean(neutralised(text, _MARKERS))
    return line if len(line) <= characters else f"{line[: characters - 1].rstrip()}…"


def _console() -> Console:
    """Return a console that takes nothing in what it prints for markup."""
    return Output(highlight=False, markup=False, emoji=False, soft_wrap=True)


def _say(console: Console, line: str, lead: str = "") -> None:
    """Print a sentence behind ``lead``; lines that do not fit follow under its beginning."""
    width, indent = max(console.width, len(lead) + 20), " " * len(lead)
    console.print(textwrap.fill(line, width, initial_indent=lead, subsequent_indent=indent))


def _print_facts(console: Console, facts: Mapping[str, str]) -> None:
    """Print names and values side by side; empty values are left out."""
    width = max(map(len, facts))
    for name, value in facts.items():
        if value:
            _say(console, value, lead=f"{name:<{width}}  ")


def _counted(counts: Mapping[str, int]) -> str:
    """Return ``text 12, code 3``."""
    return ", ".join(f"{clean(name)} {count:,}" for name, count in counts.items())


# data list

LETTERS: Mapping[str, str] = {"text": "t", "code": "c", "translation": "r", "classification": "l"}
COLUMNS: Mapping[str, int] = {
    "name": 25, "intent": 7, "tasks": 5, "rows": 7, "licence": 14, "gated": 5, "facts": 6, "here": 4,
}  # fmt: skip
"""The facts of a set that the screen shows, with the width of each: 80 columns together."""
GATES: Mapping[str, str] = {"automatic": "form", "manual": "hand"}
LEGEND = (
    "tasks: t text, c code, r translation, l classification (as posed without options). rows: as published. gated: the "
    "hub asks to accept a licence (form) or an author decides (hand). facts: where they were read: file, page, or memory "
    "(unchecked). here: the file lies in --data. --json has the whole licence, the home and the citation."
)


def _entry(name: str, **facts: Any) -> dict[str, Any]:
    return {
        "name": name, "kind": "", "tasks": [], "rows": None, "intent": "", "licence": "", "gated": "", "here": True,
        "facts": "", "home": "", "citation": "", **facts,
    }  # fmt: skip


def _public_entry(table: PublicSet, folder: Path) -> dict[str, Any]:
    patterns = (table.file, Path(table.file).name) if table.file else ()
    return _entry(
        table.name,
        kind=table.kind,
        tasks=list(table.tasks),
        rows=table.rows,
        intent=table.intent.value if table.intent is not None else "both",
        licence=table.licence,
        gated=table.gated,
        here=any(next(folder.glob(pattern), None) is not None for pattern in patterns),
        facts=table.facts_from,
        home=table.page,
        citation=table.citation,
    )


def _cell(column: str, value: Any) -> str:
    if column == "tasks":
        return "".join(LETTERS.get(task, "+") for task in value)
    if column == "rows":
        return "" if value is None else f"{value:,}"
    if column == "here":
        return "yes" if value else ""
    return GATES.get(value, value) if column == "gated" else str(value)


def _line(cells: Mapping[str, str]) -> str:
    return " ".join(
        f"{shortened(text, width):{'>' if name == 'rows' else '<'}{width}}"
        for (name, width), text in zip(COLUMNS.items(), cells.values(), strict=True)
    ).rstrip()


# data show

EXAMPLES = 5
HAZARD_WIDTH = 14


def _remedy_for_rows(path: Path) -> str:
    """Return how to look at a file that holds no prompts: as the public set that its name and column fit, or as rows."""
    with closing(read_records(path)) as records:
        _, first = next(records, ("", {}))
    for table in public_sets():
        if table.file and Path(table.file).name == path.name and table.payload in first:
            return f"looks like the public set {table.name}; look at it with: aftertune data show {table.name} --file {path}"
    if {"prompt", "intent"} <= first.keys() and not first.keys() & {"completion", "messages"}:
        return PROMPT_COLUMN
    return f"holds training rows, not prompts; look at them with: aftertune data check {path}"


def _set_document(title: str, source: NamedSource) -> dict[str, Any]:
    loaded = source.questions()
    prompts = loaded.prompts
    lengths = sorted(len(prompt.text) for prompt in prompts)
    texts = Counter(normalise(prompt.text) for prompt in prompts)
    harmful = [prompt for prompt in prompts if prompt.intent is Intent.HARMFUL]
    pairs = {prompt.pair for prompt in harmful} - {None}
    hazards: dict[str, dict[str, int]] = {}
    counts = Counter((prompt.hazard, prompt.task) for prompt in harmful)
    for (hazard, task), count in sorted(counts.items()):
        hazards.setdefault(hazard, {})[task] = count
    return {
        "format": FORMAT,
        "name": title,
        "prompts": len(prompts),
        "behaviors": len({prompt.behavior for prompt in prompts}),
        "twins": len(
            {p.behavior for p in prompts if p.intent is Intent.BENIGN and p.pair in pairs}
        ),
        "by": {
            column: dict(
                sorted(Counter(str(getattr(prompt, column)) for prompt in prompts).items())
            )
            for column in ("intent", "task", "template", "harm_basis")
        },
        "hazards": hazards,
        "characters": {
            f"p{rank}": lengths[(len(lengths) - 1) * rank // 100] for rank in PERCENTILES if lengths
        },
        "references": sum(prompt.reference is not None for prompt in prompts),
        "repeated": sum(count - 1 for count in texts.values()),
        "dropped": dict(loaded.dropped),
        "facts": _public_facts(title),
        "notes": list(loaded.notes),
        "examples": [
            shortened(prompt.text)
            for prompt in prompts[:: max(1, len(prompts) // EXAMPLES)][:EXAMPLES]
        ],
    }


def _public_facts(title: str) -> dict[str, str]:
    """Return the facts about a public set beside its rows; nothing about a file that merely has some name."""
    table = {table.name: table for table in public_sets()}.get(title)
    if table is None:
        return {}
    gates = {"": "no", "automatic": "accept the licence", "manual": "the authors decide"}
    origins = {
        "file": "read from the file",
        "page": "read from a page",
        "memory": "from memory, unchecked",
    }
    return {
        "licence": table.licence,
        "gated": gates[table.gated],
        "home": table.page,
        "published": "" if table.rows is None else f"{table.rows:,} rows",
        "citation": table.citation,
        "facts": origins[table.facts_from],
    }


def _print_set(document: Mapping[str, Any], console: Console) -> None:
    by, sizes = document["by"], document["characters"]
    twins = f", {plural(document['twins'], 'benign twin')} among them" if document["twins"] else ""
    _say(
        console,
        f"{clean(document['name'])}: {plural(document['prompts'], 'prompt')} ({_counted(by['intent'])}) of "
        f"{plural(document['behaviors'], 'behavior')}{twins}",
    )
    facts = {
        "tasks": _counted(by["task"]),
        "templates": _counted(by["template"]),
        "harm basis": _counted(by["harm_basis"]),
        "length": f"{sizes['p0']:,} to {sizes['p100']:,}, median {sizes['p50']:,} characters"
        if sizes
        else "",
        "references": f"{document['references']:,} prompts have a correct answer"
        if document["references"]
        else "",
        "repeated": f"{document['repeated']:,} prompts say what an earlier one says (case, punctuation aside)",
        "left out": _counted(document["dropped"]) or "nothing",
        **document["facts"],
    }
    _print_facts(console, facts)
    if document["hazards"]:
        _print_hazards(document["hazards"], list(by["task"]), console)
    examples = (f"  {text}" for text in document["examples"])
    console.print("\n".join(["\nfor example:", *examples]))
    for note in document["notes"]:
        _say(console, clean(note), lead="note: ")


def _print_hazards(
    hazards: Mapping[str, Mapping[str, int]], tasks: Sequence[str], console: Console
) -> None:
    shown = [task for task in tasks if any(task in counts for counts in hazards.values())]
    widths = {task: max(len(task), 7) + 1 for task in shown}
    names = "".join(f"{clean(task):>{widths[task]}}" for task in shown)
    lines = [f"\n{'harmful':<{HAZARD_WIDTH}}{names}"]
    for hazard, counts in hazards.items():
        cells = "".join(f"{counts.get(task, 0):>{widths[task]},}" for task in shown)
        lines.append(f"{clean(hazard)[: HAZARD_WIDTH - 1]:<{HAZARD_WIDTH}}{cells}")
    console.print("\n".join(lines))


# data check

FAILED = 3
"""The exit code where a row cannot, or must not, be trained on."""
IN_FULL = ("unreadable", "roles")
"""Kinds of which the first row's error is not shortened: it says what to do."""
INDENT = " " * 9
MAX_LENGTH = 1024
"""Tokens of a row that are trained on where no model says: those of `aftertune tune`."""


def refusal(row: Row) -> str | None:
    """Return the beginning of a row's final answer, behind its thinking, if the refusal rules take it for a refusal."""
    thought = separate(row[-1].content)
    answer = row[-1].content if thought is None else thought.answer
    score = RefusalRules().score(Sample(prompt="", response=answer))
    return shortened(answer, 40) if score.value is VerdictValue.REFUSED else None


def open_tokenizer(reference: str) -> tuple[Measure, int | None]:
    """Open a model's tokenizer and chat template, without its weights.

    Args:
        reference: hub id, checkpoint folder, adapter folder, or a folder with a tokenizer alone.

    Returns:
        the function that counts the tokens of rows, and the tokens that the model can read; None where its config does not say.

    Raises:
        ModelError: there is no tokenizer, or it is an endpoint's.
    """
    folder = _tokenizer_folder(reference)
    path = folder / "config.json"
    config = read_json(reference, path) if path.is_file() else {}
    context = (config.get("text_config") or config).get("max_position_embeddings")
    renderer = Renderer(reference, folder)

    def measure(rows: Sequence[Row]) -> list[tuple[int, int]]:
        """Return the tokens up to the last answer, and those of that answer with its end token, of each row."""
        return [(len(prompt), len(answer)) for prompt, answer in renderer.exchanges(rows)]

    return measure, context if isinstance(context, int) else None


def _tokenizer_folder(reference: str) -> Path:
    folder = Path(reference).expanduser()
    if folder.is_dir() and has_tokenizer(folder) and (folder / "config.json").is_file():
        return folder
    model = parse(reference)
    while isinstance(model, Adapter):
        model = model.base
    if isinstance(model, GgufFile | HubFile):
        model = fetch(model)
    if isinstance(model, Checkpoint):
        return model.folder
    if not isinstance(model, HubModel):
        raise ModelError(
            f"model {reference!r}: a served model's tokenizer is not at hand; name its checkpoint or hub id"
        )
    from huggingface_hub import snapshot_download

    try:
        files = ["*.json", "*.jinja", "*.model", "*.txt"]
        return Path(snapshot_download(model.id, allow_patterns=files))
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"model {model.id!r} is no folder here and its tokenizer cannot be had from the hub ({reason})"
        ) from error


def _check_document(name: str, report: Report, limit: int, counted_by: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "file": name,
        "rows": report.rows,
        "formats": dict(report.shapes),
        "limit": limit,
        "tokens": counted_by,
        "lengths": {
            name: {
                f"p{percent}": length for percent, length in zip(PERCENTILES, lengths, strict=False)
            }
            for name, lengths in report.lengths.items()
        },
        "languages": dict(report.languages),
        "findings": {
            kind: {
                "level": CHECKS[kind][0],
                "what": CHECKS[kind][1],
                "rows": count,
                "first": [
                    {"where": finding.where, "detail": finding.detail}
                    for finding in report.findings[kind]
                ],
            }
            for kind, count in report.counts.items()
        },
    }


def _print_lengths(
    name: str, report: Report, limit: int, counted_by: str, console: Console
) -> None:
    if len(report.shapes) == 1:
        formats = f"format {next(iter(report.shapes))}"
    else:
        formats = f"formats {_counted(report.shapes)}" if report.shapes else "in no known format"
    _say(console, f"{clean(name)}: {plural(report.rows, 'row')}, {formats}")
    sizes = {name: _range(lengths) for name, lengths in report.lengths.items()}
    sampled = f" (of {sum(report.languages.values()):,} questions, evenly sampled)"
    _print_facts(
        console,
        {
            "questions": sizes["question"] and f"{sizes['question']} characters",
            "answers": sizes["answer"] and f"{sizes['answer']} characters",
            "rows": sizes["tokens"] and f"{sizes['tokens']} tokens, {counted_by}; limit {limit:,}",
            "languages": _counted(report.languages) + sampled if report.languages else "",
        },
    )


def _range(lengths: Sequence[int]) -> str:
    if not lengths:
        return ""
    least, median, p95, p99, most = lengths
    return f"{least:,} to {most:,}, median {median:,}, 95 % up to {p95:,}, 99 % up to {p99:,}"


def _print_findings(name: str, report: Report, console: Console) -> None:
    for kind, count in report.counts.items():
        level, what = CHECKS[kind]
        console.print()
        _say(console, f"{plural(count, 'row')} ({kind}): {what}", lead=f"{level:<8} ")
        for number, finding in enumerate(report.findings[kind][:NAMED]):
            detail = f": {finding.detail}" if finding.detail else ""
            place = f"{name}, {finding.where}{detail}"
            if number == 0 and kind in IN_FULL:
                _say(console, clean(place), lead=INDENT)
            else:
                console.print(f"{INDENT}{shortened(place, console.width - len(INDENT))}")
        if count > NAMED:
            console.print(f"{INDENT}and {count - NAMED:,} more")


def _check_verdict(report: Report, *, estimate: bool) -> str:
    kinds = {level: sum(CHECKS[kind][0] == level for kind in report.counts) for level in LEVELS}
    named = [
        f"{count} {'kind' if count == 1 else 'kinds'} of {level}"
        for level, count in kinds.items()
        if count
    ]
    many = any(count > NAMED for count in report.counts.values())
    kept = f" (--json names up to {KEPT} rows of each)" if many else ""
    if report.worst() == "error":
        return f"Not fit for training: {listing(named)}{kept}. Mend or remove the rows with errors."
    remark = " Lengths in tokens are estimated: name --model to count them." if estimate else ""
    return f"Fit for training: {listing(named) if named else 'nothing found'}{kept}.{remark}"


# data overlap

HOWS: Sequence[How] = get_args(How)
MEANINGS: Mapping[How, str] = {
    "verbatim": "the prompt is the question",
    "payload": "one is a line of the other",
    "inside": "a request inside a longer line",
}


@dataclass(slots=True)
class _OverlapCounts:
    """The running counts of an overlap while the rows of B pass by."""

    rows: int = 0
    ways: dict[str, How] = field(default_factory=dict)
    """The strictest way in which each prompt of A occurs, by its id."""
    places: dict[str, str] = field(default_factory=dict)
    """The place where each prompt first occurred in its strictest way."""
    rows_by_way: Counter[How] = field(default_factory=Counter)

    def add(self, where: str, held: Mapping[str, How]) -> None:
        self.rows += 1
        if held:
            self.rows_by_way[min(held.values(), key=HOWS.index)] += 1
        for prompt, how in held.items():
            if prompt not in self.ways or HOWS.index(how) < HOWS.index(self.ways[prompt]):
                self.ways[prompt] = how
                self.places[prompt] = where


def _overlap_document(
    ours: str, theirs: str, prompts: Sequence[Prompt], counts: _OverlapCounts
) -> dict[str, Any]:
    ways = Counter(counts.ways.values())
    hit = {unit_of(prompt) for prompt in prompts if prompt.id in counts.ways}
    texts = {prompt.id: prompt.text for prompt in prompts if prompt.id in counts.ways}
    examples: dict[str, list[dict[str, str]]] = {how: [] for how in HOWS if ways[how]}
    for prompt, where in counts.places.items():
        of_way = examples[counts.ways[prompt]]
        if len(of_way) < KEPT:
            file, _, place = where.rpartition(
                ", "
            )  # without the folders, which say nothing elsewhere
            of_way.append(
                {"where": f"{Path(file).name}, {place}", "prompt": shortened(texts[prompt])}
            )
    return {
        "format": FORMAT,
        "asked": ours,
        "in": theirs,
        "prompts": {
            "all": len(prompts),
            "found": len(counts.ways),
            **{how: ways[how] for how in HOWS},
        },
        "behaviors": {"all": len({unit_of(prompt) for prompt in prompts}), "found": len(hit)},
        "rows": {
            "all": counts.rows,
            "found": counts.rows_by_way.total(),
            **{how: counts.rows_by_way[how] for how in HOWS},
        },
        "examples": examples,
    }


def _print_overlap(document: Mapping[str, Any], console: Console) -> None:
    _say(
        console,
        f"What {clean(document['asked'])} asks, in {clean(document['in'])} (every prompt and row in the strictest way "
        "that fits):",
    )
    prompts, rows = document["prompts"], document["rows"]
    meanings = [*((how, f"  {MEANINGS[how]}") for how in HOWS), ("found", ""), ("all", "")]
    lines = [f"\n{'':<10}{'prompts of A':>15}{'rows of B':>15}"]
    lines += [
        f"{name:<10}{prompts[name]:>15,}{rows[name]:>15,}{meaning}" for name, meaning in meanings
    ]
    for how, examples in document["examples"].items():
        shown = [f"{example['where']}: {example['prompt']}" for example in examples[:NAMED]]
        lines += [f"\n{how}:", *("  " + shortened(line, console.width - 2) for line in shown)]
        if prompts[how] > NAMED:
            lines.append(f"  and {prompts[how] - NAMED:,} more")
    console.print("\n".join([*lines, ""]))
    hit, total = document["behaviors"]["found"], document["behaviors"]["all"]
    closing_line = (
        f"None of the {plural(total, 'behavior')} of A stands in B; paraphrases are not found."
    )
    if hit:
        closing_line = (
            f"{hit:,} of {total:,} behaviors of A ({percent(hit / total)}) stand in B: a model trained on B cannot be "
            "measured by them, and a study drops them for all its models. Paraphrases are not found."
        )
    _say(console, closing_line)
