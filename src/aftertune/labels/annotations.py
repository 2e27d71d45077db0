"""Annotators' labels of a run: checked, kept in its store, and joined to its table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aftertune.core.keys import content_key
from aftertune.core.records import LabelValue, Score
from aftertune.core.table import ADJUDICATED, Table
from aftertune.errors import DataError, InputError
from aftertune.labels.draw import Sample, population
from aftertune.labels.files import Row
from aftertune.report.document import LabelCounts, from_plain, to_plain
from aftertune.report.wording import clean, plural
from aftertune.store import Scored, ScorerKind, Store

LABELS = "labels"
LabelsById = Mapping[str, LabelValue]
"""Id of the response -> label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The labels of a sample."""

    annotators: Mapping[str, LabelsById]
    """By annotator."""
    adjudicated: LabelsById
    """The labels that count where annotators differ."""

    @property
    def ids(self) -> set[str]:
        """The responses that have a label."""
        return {number for by_id in self.annotators.values() for number in by_id}

    def differing(self) -> dict[str, tuple[LabelValue, ...]]:
        """Return the labels of each response whose annotators differ, in an order that does not tell who gave which."""
        order = tuple(LabelValue)
        given = {
            number: [by_id[number] for by_id in self.annotators.values() if number in by_id]
            for number in self.ids
        }
        return {
            number: tuple(sorted(labels, key=order.index))
            for number, labels in given.items()
            if len(set(labels)) > 1
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelNote:
    """The labels of a study as its store notes them; stores of any version have these keys."""

    readers: tuple[int, ...]
    """The store's scorer versions under which each annotator's labels are kept."""
    people: tuple[str, ...]
    """The annotators."""
    drawn: int
    labelled: int
    seed: int
    population: str
    """Hash of the responses that were drawn from."""
    version: str
    """Hash of all labels."""
    adjudicator: int | None = None
    """The scorer version under which the labels are kept that count where annotators differ."""
    adjudicated: int = 0
    """Responses that have such a label."""


def read_note(store: Store, study: str) -> LabelNote | None:
    """Return the note on a study's labels; None without labels."""
    note = store.get_meta(study, LABELS)
    return None if note is None else from_plain(LabelNote, note, f"{store.path}: {LABELS}")


def import_rows(
    store: Store, study: str, sample: Sample, path: Path, rows: Sequence[Row]
) -> LabelNote:
    """Keep the labels of a file beside those that were imported before, and note them.

    Raises:
        DataError: an id that was not exported, or one that comes twice, or a label between annotators where none has one;
            nothing is kept then.
        InputError: nothing is labelled.
    """
    _check_rows(path, rows, sample)
    kept = kept_labels(store, study, sample)
    by_annotator = {name: dict(by_id) for name, by_id in kept.annotators.items()}
    adjudicated = dict(kept.adjudicated)
    for row in rows:
        for annotator, value in row.labels.items():
            by_annotator.setdefault(annotator, {})[row.id] = value
        if row.adjudicated is not None:
            adjudicated[row.id] = row.adjudicated
    if not by_annotator:
        raise InputError(f"{path}: no row has a label; fill in the column label first")
    labels = Labels(annotators=by_annotator, adjudicated=adjudicated)
    for row in rows:
        if row.adjudicated is not None and row.id not in labels.ids:
            raise DataError(
                f"{path}, line {row.line}: {row.id} is {ADJUDICATED}, but no annotator labelled it; import their labels first"
            )
    annotators = sorted(by_annotator)
    parts: list[object] = [[[name, sorted(by_annotator[name].items())] for name in annotators]]
    if adjudicated:
        parts.append(sorted(adjudicated.items()))
    note = LabelNote(
        readers=tuple(
            _keep(store, study, sample, "person", name, by_annotator[name]) for name in annotators
        ),
        people=tuple(annotators),
        drawn=len(sample.items),
        labelled=len(labels.ids),
        seed=sample.seed,
        population=sample.population,
        version=content_key("labels", *parts).hex(),
        adjudicator=_keep(store, study, sample, "adjudicator", "", adjudicated)
        if adjudicated
        else None,
        adjudicated=len(adjudicated),
    )
    store.set_meta(study, LABELS, to_plain(note))
    return note


def _check_rows(path: Path, rows: Sequence[Row], sample: Sample) -> None:
    exported = {item.id for item in sample.items}
    first: dict[str, int] = {}
    for row in rows:
        if row.id not in exported:
            raise DataError(
                f"{path}, line {row.line}: the id {clean(row.id)!r} is not of the last export (seed {sample.seed}, "
                f"{plural(len(exported), 'response')}); import the file that it wrote, or export again with the --n, --benign "
                "and --seed of this one"
            )
        if (line := first.setdefault(row.id, row.line)) != row.line:
            raise DataError(
                f"{path}, line {row.line}: {row.id} stands in line {line} too; keep one of them"
            )


def kept_labels(store: Store, study: str, sample: Sample) -> Labels:
    """Return the labels that were imported before."""
    note = read_note(store, study)
    if note is None:
        return Labels(annotators={}, adjudicated={})
    ids = {(item.key, item.prompt): item.id for item in sample.items}
    drawn = {item.prompt for item in sample.items}
    prompts = [prompt for prompt in store.prompts(study) if prompt.id in drawn]
    annotators: dict[str, dict[str, LabelValue]] = {}
    adjudicated: dict[str, LabelValue] = {}
    for answer in store.responses(study, _scorers(note), prompts):
        number = ids.get((answer.key.hex() if answer.key else "", answer.prompt.id))
        for column, score in answer.scores.items():
            if number is None or not isinstance(score.value, LabelValue):
                continue
            if column == ADJUDICATED:
                adjudicated[number] = score.value
            else:
                annotators.setdefault(column.partition(":")[2], {})[number] = score.value
    return Labels(annotators=annotators, adjudicated=adjudicated)


def _scorers(note: LabelNote) -> tuple[int, ...]:
    """Return the scorer versions under which a study's labels are kept."""
    return (*note.readers, *(() if note.adjudicator is None else (note.adjudicator,)))


def _keep(
    store: Store, study: str, sample: Sample, kind: ScorerKind, name: str, labels: LabelsById
) -> int:
    """Keep labels as scores, under a version of their own: another import takes nothing away."""
    items = [item for item in sample.items if item.id in labels]
    stated = [[item.id, labels[item.id].value, item.probability] for item in items]
    version = store.add_scorer(kind, name, content_key("labels", stated).hex())
    prompts = {prompt.id: prompt for prompt in store.prompts(study)}
    store.add_scores(
        version,
        (
            Scored(
                prompt=prompts[item.prompt],
                key=bytes.fromhex(item.key),
                score=Score(value=labels[item.id], number=item.probability),
            )
            for item in items
        ),
    )
    return version


def labelled_table(
    store: Store, study: str, readers: Sequence[int]
) -> tuple[Table, LabelCounts | None]:
    """Return the table of a study with its labels, and their counts; labels of other responses are left out of the table."""
    table, note = store.table(study, readers), read_note(store, study)
    if note is None:
        return table, None
    counts = LabelCounts(
        drawn=note.drawn,
        labelled=note.labelled,
        annotators=note.people,
        seed=note.seed,
        version=note.version,
        applies=note.population == population(table),
        adjudicated=note.adjudicated,
    )
    return (store.table(study, [*readers, *_scorers(note)]) if counts.applies else table), counts
