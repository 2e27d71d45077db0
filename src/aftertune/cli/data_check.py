"""`aftertune data check`: what is wrong with a training file, row by row, before anybody trains on it."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from aftertune.cli.data_tokens import tokens_of
from aftertune.cli.data_words import counted, facts, say, screen, shortened
from aftertune.core.records import FinishReason, Intent, JudgeJob, VerdictValue
from aftertune.data.files import read_records
from aftertune.data.lint import (
    BYTES_PER_TOKEN,
    CHECKS,
    KEPT,
    LEVELS,
    PERCENTILES,
    Lint,
    Report,
    estimated,
)
from aftertune.data.rows import Row, read_columns
from aftertune.errors import DataError
from aftertune.report.files import write_json
from aftertune.report.wording import clean, listing, plural
from aftertune.score.rules import RefusalRules

FORMAT = 1
"""Formats of the JSON. 1: file, rows, formats, limit, tokens, lengths, languages, findings."""
FAILED = 3
"""The exit code where a row cannot, or must not, be trained on."""
NAMED = 3
"""Rows of a kind that the screen names; the JSON names up to `lint.KEPT`."""
IN_FULL = ("unreadable", "roles")
"""Kinds of which the first row's error is not shortened: it says what to do."""
INDENT = " " * 9
MAX_LENGTH = 1024
"""Where no model says: what `aftertune tune` cuts rows at unless told otherwise."""

_RULES = RefusalRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """A training file, and what it is checked for."""

    path: Path
    columns: str | None = None
    """As `aftertune tune --columns`."""
    model: str | None = None
    """Whose tokenizer counts."""
    max_length: int | None = None
    """Tokens of a row that are trained on; by default the model's context, or `MAX_LENGTH`."""


def check_file(file: CheckedFile, json_path: Path | None) -> int:
    """Lint a training file, print what was found, and return the exit code: 0, or 3 if a row must not stay as it is.

    Raises:
        DataError: the file cannot be read at all, or holds no rows.
        ModelError: the model's tokenizer cannot be had.
    """
    tokens = tokens_of(file.model) if file.model else None
    limit = file.max_length or (tokens.context if tokens else None) or MAX_LENGTH
    lint = Lint(
        limit=limit,
        measure=tokens.measure if tokens else estimated,
        columns=read_columns(file.columns),
        looks={"refusal": refusal},
    )
    with closing(read_records(file.path, lint.broken)) as records:
        for where, record in records:
            lint.see(where, record)
    report = lint.report()
    if not report.rows:
        raise DataError(f"{file.path}: no rows; a training file needs at least one")
    counted_by = f"counted by the tokenizer of {Path(file.model).name}" if file.model else ""
    told = _document(file.path.name, report, limit, counted_by)
    if json_path is not None:
        write_json(json_path, told)
    _print(told, report, screen())
    return FAILED if report.worst() == "error" else 0


def refusal(row: Row) -> str | None:
    """Return the beginning of a row's answer if the refusal rules take it for a refusal."""
    answer = row[-1].content
    job = JudgeJob(
        key=b"",
        behavior="",
        task="text",
        intent=Intent.BENIGN,
        prompt="",
        response=answer,
        finish_reason=FinishReason.STOP,
    )
    return shortened(answer, 40) if _RULES.read(job, None).value is VerdictValue.REFUSED else None


def _document(name: str, report: Report, limit: int, counted_by: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "file": name,
        "rows": report.rows,
        "formats": dict(report.shapes),
        "limit": limit,
        "tokens": counted_by or f"estimated at one for {BYTES_PER_TOKEN} bytes",
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
                    {"where": each.where, "detail": each.detail} for each in report.findings[kind]
                ],
            }
            for kind, count in report.counts.items()
        },
    }


def _print(told: Mapping[str, Any], report: Report, console: Console) -> None:
    say(
        console,
        f"{clean(told['file'])}: {plural(told['rows'], 'row')}, {_formats(told['formats'])}",
    )
    sizes = {name: _range(lengths) for name, lengths in told["lengths"].items()}
    facts(
        console,
        {
            "questions": sizes["question"] and f"{sizes['question']} characters",
            "answers": sizes["answer"] and f"{sizes['answer']} characters",
            "rows": sizes["tokens"]
            and f"{sizes['tokens']} tokens, {told['tokens']}; limit {told['limit']:,}",
            "languages": _languages(report.languages),
        },
    )
    for kind, found in told["findings"].items():
        console.print()
        say(
            console,
            f"{plural(found['rows'], 'row')} ({kind}): {found['what']}",
            lead=f"{found['level']:<8} ",
        )
        for number, each in enumerate(found["first"][:NAMED]):
            detail = f": {each['detail']}" if each["detail"] else ""
            place = f"{told['file']}, {each['where']}{detail}"
            if number == 0 and kind in IN_FULL:
                say(console, clean(place), lead=INDENT)
            else:
                console.print(f"{INDENT}{shortened(place, console.width - len(INDENT))}")
        if (more := found["rows"] - NAMED) > 0:
            console.print(f"{INDENT}and {more:,} more")
    console.print()
    say(console, _verdict(report, told["tokens"]))


def _formats(formats: Mapping[str, int]) -> str:
    if len(formats) == 1:
        return f"format {next(iter(formats))}"
    return f"formats {counted(formats)}" if formats else "in no known format"


def _range(lengths: Mapping[str, int]) -> str:
    if not lengths:
        return ""
    return (
        f"{lengths['p0']:,} to {lengths['p100']:,}, median {lengths['p50']:,}, 95 % up to {lengths['p95']:,}, "
        f"99 % up to {lengths['p99']:,}"
    )


def _languages(languages: Mapping[str, int]) -> str:
    if not languages:
        return ""
    return f"{counted(dict(languages))} (of {sum(languages.values()):,} questions, evenly sampled)"


def _kinds(count: int, level: str) -> str:
    return f"{count} {'kind' if count == 1 else 'kinds'} of {level}"


def _verdict(report: Report, tokens: str) -> str:
    kinds = {level: sum(CHECKS[kind][0] == level for kind in report.counts) for level in LEVELS}
    named = (
        listing(_kinds(count, level) for level, count in kinds.items() if count)
        if report.counts
        else ""
    )
    kept = (
        f" (--json names up to {KEPT} rows of each)"
        if any(n > NAMED for n in report.counts.values())
        else ""
    )
    if report.worst() == "error":
        return f"Not fit for training: {named}{kept}. Mend or remove the rows with errors."
    estimate = (
        " Lengths in tokens are estimated: name --model to count them."
        if tokens.startswith("estimated")
        else ""
    )
    return f"Fit for training: {named or 'nothing found'}{kept}.{estimate}"
