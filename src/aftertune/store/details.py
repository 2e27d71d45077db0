"""What the answers of a study say beside their text, each combination once: few rows, however many answers there are."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from aftertune.store.calls import UNFINISHED, decoded, parsed
from aftertune.store.jobs import study_id
from aftertune.store.readings import readers_by_id
from aftertune.store.schema import connect, explained


class Details(NamedTuple):
    """Answers of one model that say the same of themselves."""

    model: str
    detail: Mapping[str, Any]
    """`core.records.Response.detail`."""
    answers: int


def answer_details(path: Path, study: str) -> list[Details]:
    """Count the answers of a study by model and detail (less the reasoning); answers without detail are left out.

    Raises:
        StoreError: the store cannot be read.
    """
    try:
        with closing(connect(path, write=False)) as connection:
            rows = connection.execute(
                "SELECT word.text, found.detail, found.answers FROM ("
                "SELECT job.model, CASE WHEN text.detail LIKE '%\"reasoning\"%' AND json_valid(text.detail) "
                "THEN json_remove(text.detail, '$.reasoning') ELSE text.detail END AS detail, count(*) AS answers "
                "FROM job JOIN text ON text.call = job.call "
                "WHERE job.study = ? AND text.detail IS NOT NULL GROUP BY job.model, 2"
                ") AS found JOIN word ON word.id = found.model ORDER BY word.text, found.detail",
                (study_id(connection, study),),
            ).fetchall()
    except sqlite3.Error as error:
        raise explained(error, path) from error
    return [
        Details(decoded(model), parsed(detail, "detail of an answer"), count)
        for model, detail, count in rows
    ]


class Thinking(NamedTuple):
    """How the thinking of a model's answers ended."""

    model: str
    answers: int
    unfinished: int
    """Answers that ended inside it."""
    empty: int
    """Final answers that are empty beside a reasoning."""


def thinking_counts(path: Path, study: str) -> list[Thinking]:
    """Count answers that ended inside their thinking, or are empty beside it, by model; models without any are left out.

    Raises:
        StoreError: the store cannot be read.
    """
    try:
        with closing(connect(path, write=False)) as connection:
            rows = connection.execute(
                "SELECT word.text, counts.* FROM (SELECT count(*), sum(finish = ?1) AS unfinished, "
                "sum(finish <> ?1 AND length(text.text) = 0 AND text.detail LIKE '%\"reasoning\"%') AS empty, job.model "
                "FROM job JOIN answer ON answer.call = job.call JOIN text ON text.call = job.call "
                "WHERE job.study = ?2 GROUP BY job.model) AS counts JOIN word ON word.id = counts.model "
                "WHERE unfinished > 0 OR empty > 0 ORDER BY word.text",
                (UNFINISHED, study_id(connection, study)),
            ).fetchall()
    except sqlite3.Error as error:
        raise explained(error, path) from error
    return [
        Thinking(decoded(model), answers, unfinished, empty or 0)
        for model, answers, unfinished, empty, _ in rows
    ]


def scorer_versions(path: Path, readers: Sequence[int]) -> dict[str, str]:
    """Return the version of every scorer among some readers: with sacrebleu's signature where it has one.

    Raises:
        StoreError: the store cannot be read.
    """
    try:
        with closing(connect(path, write=False)) as connection:
            found = readers_by_id(connection, readers)
    except sqlite3.Error as error:
        raise explained(error, path) from error
    return {reader.name: reader.version for reader in found if reader.kind == "scorer"}
