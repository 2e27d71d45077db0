"""The responses of a run as rows: nested for JSON lines, flat for CSV and Parquet; harmful texts only where they are wanted."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftertune.core.files import write_whole, write_whole_bytes
from aftertune.core.outcomes import Outcome
from aftertune.core.records import Intent, StoredJob, VerdictValue
from aftertune.errors import InputError
from aftertune.report.document import ModelRecord
from aftertune.report.export_inspect import DECIDED, Row
from aftertune.report.transcripts import is_sensitive
from aftertune.report.wording import spreadsheet_cell

if TYPE_CHECKING:
    import pyarrow as pa

UNDER = f"{DECIDED}_under_"
"""Before a guard's name: the outcome of what it lets through."""
Record = dict[str, Any]
SEVERAL = {
    "verdicts", "reasoning_verdicts", "decisions", "scores", "outcomes_under_guards",
}  # fmt: skip
"""Fields that hold a value for each scorer."""
INTEGERS = {"training_seed", "sample", "replicate", "characters"}
BOOLEANS = {"coherent", "redacted"}
NUMBERS = {"score", "verdict_score"}
"""The first parts of the names of flat columns that hold numbers."""
METADATA = b"aftertune"
"""The key of the metadata of a Parquet file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The score of a response by one scorer."""

    value: Any
    score: float | None
    label: str

    def plain(self) -> Record:
        """Return it as a line of JSON has it."""
        return {"value": self.value, "score": self.score, "label": self.label}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRow:
    """A response of a run with everything that is known of it; the names of the fields are those of the files."""

    model: str
    condition: str
    base: str | None
    training_seed: int | None
    prompt_id: str
    behavior: str
    pair: str | None
    template: str
    task: str
    set: str
    hazard: str
    harm_basis: str
    intent: str
    prompt: str
    attack: str
    posed: str
    prefill: str
    system: str
    decoding: str
    sample: int
    replicate: int
    finish_reason: str | None
    text: str | None
    reasoning: str | None
    redacted: bool
    characters: int | None
    coherent: bool | None
    incoherence: Sequence[str]
    verdicts: Mapping[str, Scored]
    reasoning_verdicts: Mapping[str, Scored]
    decisions: Mapping[str, Mapping[str, Scored]]
    scores: Mapping[str, float | None]
    outcome: str
    outcomes_under_guards: Mapping[str, str]

    def nested(self) -> Record:
        """Return the row as a line of JSON; its keys are the same for every response."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, scores in (
            ("verdicts", self.verdicts),
            ("reasoning_verdicts", self.reasoning_verdicts),
        ):
            values[name] = {judge: score.plain() for judge, score in scores.items()}
        decisions = {
            guard: {side: score.plain() for side, score in sides.items()}
            for guard, sides in self.decisions.items()
        }
        return values | {"decisions": decisions}

    def flat(self) -> Record:
        """Return the row with a column for each scorer: ``verdict:JUDGE``, ``decision:GUARD:SIDE``, ``score:METRIC``, ``outcome_under:GUARD``."""
        values: Record = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in SEVERAL
        }
        values |= {"incoherence": " ".join(self.incoherence)}
        for kind, scores in (
            ("verdict", self.verdicts),
            ("reasoning_verdict", self.reasoning_verdicts),
        ):
            for judge, scored in scores.items():
                values[f"{kind}:{judge}"] = scored.value
                values[f"{kind}_label:{judge}"] = scored.label
                values[f"{kind}_score:{judge}"] = scored.score
        for guard, sides in self.decisions.items():
            values |= {f"decision:{guard}:{side}": scored.value for side, scored in sides.items()}
        values |= {f"score:{metric}": number for metric, number in self.scores.items()}
        values |= {f"outcome_under:{g}": word for g, word in self.outcomes_under_guards.items()}
        return values


def response_row(row: Row, model: ModelRecord, replicate: int, *, show: bool) -> ResponseRow:
    """Return a response as a row of the files.

    Args:
        row: the response with its scores and outcomes.
        model: the one that answered.
        replicate: the number of the run over all prompts that it belongs to.
        show: with the texts that a shared page does not show.
    """
    job, prompt, response = row.job, row.job.prompt, row.job.response
    call = response or job.unfinished
    coherence = job.scores.get("coherent")
    text = None if response is None else response.text
    reasoning = (call and call.reasoning) or None
    hidden = not show and text is not None and _sensitive(row)
    # A model may think through what it then refuses to say, and no judge has read that.
    unread = not show and reasoning is not None and prompt.intent is Intent.HARMFUL
    decisions: dict[str, dict[str, Scored]] = {}
    for name, scored in _of_kind(job, "decision"):
        guard, _, side = name.rpartition(":")
        decisions.setdefault(guard, {})[side] = scored
    return ResponseRow(
        model=job.model,
        condition=model.condition,
        base=model.base,
        training_seed=model.training_seed,
        prompt_id=prompt.id,
        behavior=prompt.behavior,
        pair=prompt.pair,
        template=prompt.template,
        task=prompt.task,
        set=prompt.set,
        hazard=prompt.hazard,
        harm_basis=prompt.harm_basis,
        intent=prompt.intent.value,
        prompt=prompt.text,
        attack=prompt.attack,
        posed=prompt.unwrapped,
        prefill=prompt.prefill,
        system=job.system,
        decoding=job.decoding,
        sample=job.sample,
        replicate=replicate,
        finish_reason=None if call is None else call.finish_reason.value,
        text=None if hidden else text,
        reasoning=None if unread else reasoning,
        redacted=hidden or unread,
        characters=None if text is None else len(text),
        coherent=None if coherence is None else coherence.value is True,
        incoherence=[] if coherence is None else coherence.label.split(),
        verdicts=dict(_of_kind(job, "verdict")),
        reasoning_verdicts=dict(_of_kind(job, "reasoning")),
        decisions=decisions,
        scores={metric: scored.score for metric, scored in _of_kind(job, "score")},
        outcome=row.outcomes[DECIDED],
        outcomes_under_guards={
            name.removeprefix(UNDER): outcome
            for name, outcome in row.outcomes.items()
            if name != DECIDED
        },
    )


def _sensitive(row: Row) -> bool:
    verdicts = (
        score.value
        for column, score in row.job.scores.items()
        if column.startswith("verdict:") and isinstance(score.value, VerdictValue)
    )
    return is_sensitive(row.job.prompt.intent, Outcome(row.outcomes[DECIDED]), verdicts)


def _of_kind(job: StoredJob, wanted: str) -> Iterator[tuple[str, Scored]]:
    """Yield the scores of one kind of column, by the rest of its name."""
    for column, score in job.scores.items():
        kind, _, name = column.partition(":")
        if kind == wanted:
            value = getattr(score.value, "value", score.value)
            yield name, Scored(value=value, score=score.number, label=score.label)


def _headers(rows: Sequence[Record]) -> list[str]:
    """Return the columns of all rows; those of scorers, which some responses lack, stand sorted at the end."""
    names = dict.fromkeys(name for row in rows for name in row)
    return sorted(names, key=lambda name: (":" in name, name if ":" in name else ""))


def json_lines(responses: Iterable[ResponseRow]) -> Iterator[str]:
    """Yield a line of JSON a response."""
    yield from (json.dumps(response.nested()) for response in responses)


def write_csv(path: Path, responses: Iterable[ResponseRow]) -> None:
    """Write responses as CSV for spreadsheets: UTF-8 with its mark, control characters spelled out, no cell a formula.

    Raises:
        AftertuneError: the folder is missing or cannot be written, or the disk is full.
    """
    rows = [response.flat() for response in responses]
    headers = _headers(rows)
    write_whole(path, _csv_lines(headers, rows))


def _csv_lines(headers: Sequence[str], rows: Iterable[Record]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    yield "\ufeff"  # tells spreadsheets that this is UTF-8
    for cells in (headers, *([row.get(name) for name in headers] for row in rows)):
        writer.writerow(
            [spreadsheet_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        )
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def check_parquet() -> None:
    """Refuse Parquet where pyarrow is not installed.

    Raises:
        InputError: it is not.
    """
    if find_spec("pyarrow") is None:
        raise InputError("Parquet needs pyarrow; pip install 'aftertune[report]'")


def write_parquet(
    path: Path, responses: Iterable[ResponseRow], metadata: Mapping[str, Any]
) -> None:
    """Write responses as a Parquet file; half a surrogate pair, which it cannot hold, becomes a question mark.

    Args:
        path: where to.
        responses: the rows.
        metadata: facts about the run, kept as JSON under the key ``aftertune`` of the file's metadata.

    Raises:
        AftertuneError: the folder is missing or cannot be written, or the disk is full.
        InputError: pyarrow is not installed.
    """
    check_parquet()
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [response.flat() for response in responses]
    headers = _headers(rows)
    fields = [pa.field(_text(name), _kind(name)) for name in headers]
    schema = pa.schema(fields, metadata={METADATA: json.dumps(metadata, sort_keys=True).encode()})
    columns = [
        pa.array(
            [_text(value) if isinstance(value := row.get(name), str) else value for row in rows],
            field.type,
        )
        for name, field in zip(headers, fields, strict=True)
    ]
    held = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), held, compression="zstd")
    write_whole_bytes(path, held.getvalue())


def _kind(name: str) -> "pa.DataType":
    import pyarrow as pa

    if name in INTEGERS:
        return pa.int64()
    if name in BOOLEANS:
        return pa.bool_()
    first, has_scorer, _ = name.partition(":")
    number = bool(has_scorer) and first.removeprefix("reasoning_") in NUMBERS
    return pa.float64() if number else pa.string()


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
