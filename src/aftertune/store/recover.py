"""Makes a new store of what is good in a damaged one.

What cannot be made again is taken over: prompts, calls with their answers, failed attempts, notes, annotators' labels, and the
first token's divergence, which is computed while a model answers. The list of jobs, the models and the other scores are left
out: the study's next run makes them again and asks nothing for it, and a changed digit in them could not be seen. An answer counts as good where its checksum fits; a prompt,
where its key does.
"""

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import get_args

from aftertune.core.keys import KEY_BYTES, content_key
from aftertune.core.records import Side
from aftertune.core.table import DIVERGENCE_SCORE, NONE
from aftertune.errors import InputError, StoreDamaged, StoreError, StoreVersion
from aftertune.store.calls import ANSWER_COLUMNS, AnswerRow, Kind, parsed, response_of
from aftertune.store.pages import TABLE_LEAF, Cell, Page, Pages, Value
from aftertune.store.schema import APPLICATION_ID, SCHEMA, connect, explained
from aftertune.store.scores import VALUES, ScorerKind
from aftertune.store.store import WriteLock

Values = tuple[Value, ...]
LABELS: tuple[ScorerKind, ...] = ("person", "adjudicator")
"""The kinds of scorer whose scores cannot be made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The entries of one sort that are in the new store, and those that are known to be lost."""

    kept: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The record of a recovery: what was damaged, kept and lost."""

    pages: int
    """Pages that the damaged file has whole."""
    broken_pages: int
    """Pages that rows, or ways to rows, should be on and that cannot be read."""
    broken_rows: int
    """Rows that cannot be read, or are none that a store holds, on pages that can be."""
    missing_pages: int
    """Pages that the file's header counts and that are not there: its end is cut off."""
    lost_frames: int
    """Pages of commits in a write-ahead log that is gone."""
    answers: Tally
    changed: int
    """Answers among the lost ones that are there and not what was written."""
    prompts: Tally
    labels: Tally
    unchecked: int
    """Answers that were kept and have no checksum, because an older version wrote them."""
    scores: int
    """Scores that were not taken over, because they can be made again."""

    @property
    def damaged(self) -> bool:
        """Damage was seen."""
        lost = (self.answers.lost, self.prompts.lost, self.labels.lost)
        return any(
            (*lost, self.broken_pages, self.broken_rows, self.missing_pages, self.lost_frames)
        )


def recover(source: Path, target: Path) -> Recovery:
    """Write what is good in a damaged store to a new file; the damaged one and its log are only read.

    Raises:
        InputError: there is no such file, the new one is there already, or its folder is not.
        StoreError: nothing of a store can be read in it, or the new one cannot be written.
        StoreVersion: a newer schema wrote it.
        StoreLocked: a run is writing to it.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such store; name the file store.sqlite of a run")
    if target.exists():
        raise InputError(f"{target}: is there already; name a new file")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}; create it or name another")
    with ExitStack() as stack:
        try:
            if source.with_name(f"{source.name}.lock").exists():
                stack.callback(WriteLock(source).release)  # no run writes to it meanwhile
            pages = Pages(source)
        except OSError as error:
            raise explained(error, source) from error
        _check_schema(pages, source)
        return _written(pages, source, target)


def _written(pages: Pages, source: Path, target: Path) -> Recovery:
    """Fill the new file, which appears whole or not at all."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with closing(connect(draft, write=True)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            recovery = _Salvage(pages, connection).recovery()
            if not recovery.answers.kept + recovery.prompts.kept:
                raise StoreError(
                    f"{source}: nothing of a store can be read in it; restore a copy of it, or start a new store"
                )
            connection.execute("COMMIT")
        draft.rename(target)
    except (sqlite3.Error, OSError) as error:
        raise explained(error, target) from error
    finally:
        for rest in ("", "-wal", "-shm"):
            with suppress(OSError):
                draft.with_name(f"{draft.name}{rest}").unlink(missing_ok=True)
    return recovery


def _check_schema(pages: Pages, source: Path) -> None:
    """Refuse a file whose header is whole and says that a newer schema wrote it."""
    application, version = pages.number_at(68), pages.number_at(60)
    if pages.declared and application == APPLICATION_ID and version > SCHEMA:
        raise StoreVersion(
            f"{source}: has schema {version}, this Aftertune reads schema {SCHEMA}; use a newer Aftertune"
        )


# Which table a row is of


def _whole(*values: Value) -> bool:
    return all(isinstance(value, int) for value in values)


def _texts(*values: Value) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_call(values: Values) -> bool:
    key, kind = values[1:]
    return isinstance(key, bytes) and len(key) == KEY_BYTES and kind in get_args(Kind)


def _is_prompt(values: Values) -> bool:
    key, record = values[1:]
    return isinstance(key, bytes) and _texts(record) and content_key("prompt", record) == key


def _is_text(values: Values) -> bool:
    text, detail = values[1:]
    return isinstance(text, bytes) and (detail is None or _texts(detail))


def _is_reader(values: Values) -> bool:
    kind, side = values[1], values[4]
    return _texts(*values[1:]) and kind in get_args(ScorerKind) and side in get_args(Side)


def _is_reading(values: Values) -> bool:
    score, label, source = values[4:]
    numbers = (score is None or isinstance(score, int | float)) and _whole(label)
    return _whole(*values[:4]) and numbers and (source is None or _whole(source))


NUMBERED: tuple[tuple[str, int, Callable[[Values], bool]], ...] = (
    ("word", 2, lambda values: isinstance(values[1], bytes)),
    ("study", 2, lambda values: _texts(values[1])),
    ("checksum", 2, lambda values: _whole(values[1])),
    ("call", 3, _is_call),
    ("prompt", 3, _is_prompt),
    ("text", 3, _is_text),
    ("answer", 4, lambda values: _whole(*values[1:])),
    ("reader", 5, _is_reader),
)
"""Tables with row numbers: name, columns, and what a row looks like. The number itself stands as None in the row."""
BY_KEY: tuple[tuple[str, int, Callable[[Values], bool]], ...] = (
    ("note", 3, lambda values: _whole(values[0]) and _texts(*values[1:])),
    ("attempt", 4, lambda v: _whole(v[0]) and isinstance(v[1], int | float) and _texts(*v[2:])),
    ("model", 4, lambda values: _whole(values[0], values[2]) and _texts(values[1], values[3])),
    ("reading", 7, _is_reading),
    ("job", 8, lambda values: _whole(*values)),
    ("meta", 2, lambda values: _texts(*values)),
    ("index", 2, lambda values: isinstance(values[0], bytes | str) and _whole(values[1])),
    ("index", 5, lambda values: _texts(*values[:4]) and _whole(values[4])),
)
"""The same for tables without row numbers, and for the indexes of the others."""
TAKEN = {
    "word": 2, "study": 2, "checksum": 2, "call": 3, "prompt": 3, "text": 3, "answer": 4, "reader": 5,
    "note": 3, "attempt": 4, "reading": 7,
}  # fmt: skip
"""The tables that are taken over, with their columns. All but ``note`` only ever grow, so that each row counts, on whatever page."""


def _table_of(cell: Cell, kind: int) -> str | None:
    values = cell.values
    if kind != TABLE_LEAF:
        return next((name for name, n, fits in BY_KEY if len(values) == n and fits(values)), None)
    if len(values) == 5 and isinstance(values[0], str):
        return "schema"
    if not values or values[0] is not None:
        return None
    return next((name for name, n, fits in NUMBERED if len(values) == n and fits(values)), None)


class _Salvage:
    """Fills a new store with the rows of a damaged one, and counts."""

    def __init__(self, pages: Pages, connection: sqlite3.Connection) -> None:
        self._pages = pages
        self._connection = connection
        self._broken_rows = 0
        self._trees, self._broken_pages = self._reached()
        for name in ("answered", "prompted", "good"):
            connection.execute(f"CREATE TEMP TABLE {name} (id INTEGER PRIMARY KEY)")

    def recovery(self) -> Recovery:
        """Take over what is good, and return how much that is."""
        reached = set(chain.from_iterable(self._trees.values()))
        others = (n for n in range(1, self._pages.whole + 1) if n not in reached)
        for number in chain(sorted(reached), others):
            page = self._pages.rows(number)
            if page is not None:
                self._take(page, reached=number in reached)
        changed = self._drop_bad_answers()
        self._drop_bad_notes()
        labels, scores = self._drop_scores()
        answers = self._tally("answer", "answered")
        return Recovery(
            pages=self._pages.whole,
            broken_pages=self._broken_pages,
            broken_rows=self._broken_rows,
            missing_pages=max(0, self._pages.declared - self._pages.whole),
            lost_frames=self._pages.lost_frames,
            answers=answers,
            changed=changed,
            prompts=self._tally("prompt", "prompted"),
            labels=labels,
            unchecked=answers.kept - self._number("SELECT count(*) FROM checksum"),
            scores=scores,
        )

    def _reached(self) -> tuple[Mapping[str, set[int]], int]:
        """Return the pages of each tree that can be reached from its root, and how many on the way are broken.

        Where the damaged file does not name a root, it is taken to be where a new store has it.
        """
        roots = dict(
            self._connection.execute("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0")
        )
        first, broken = self._pages.tree(1)
        if not self._pages.declared:
            broken.add(1)
        for number in first:
            page = self._pages.rows(number)
            for cell in page.cells if page is not None else ():
                named = len(cell.values) == 5 and isinstance(cell.values[0], str)
                if named and isinstance(root := cell.values[3], int):
                    roots[str(cell.values[1])] = root
        trees = {name: self._pages.tree(root) for name, root in roots.items()}
        broken |= set().union(*(pages for _, pages in trees.values()))
        return {name: pages for name, (pages, _) in trees.items()} | {"": first}, len(broken)

    def _take(self, page: Page, *, reached: bool) -> None:
        """Insert the rows of a page, all of one table; a row that is there stays."""
        tables = [_table_of(cell, page.kind) for cell in page.cells]
        counts = Counter(table for table in tables if table is not None)
        table = counts.most_common(1)[0][0] if counts else ""
        rows = [cell for cell, other in zip(page.cells, tables, strict=True) if other == table]
        if reached:
            self._broken_rows += page.broken + len(page.cells) - len(rows)
        if table == "job":
            self._trace("prompted", (cell.values[3] for cell in rows))
        if table not in TAKEN or (table == "note" and page.number not in self._trees[table]):
            return
        numbered = [
            cell.values if cell.rowid is None else (cell.rowid, *cell.values[1:]) for cell in rows
        ]
        self._connection.executemany(
            f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * TAKEN[table])})", numbered
        )
        if table in {"answer", "text", "checksum"}:
            self._trace("answered", (values[0] for values in numbered))
        if table == "reading":
            self._trace("prompted", (values[2] for values in numbered))

    def _trace(self, table: str, ids: Iterable[Value]) -> None:
        """Remember that something was there under these numbers."""
        self._connection.executemany(
            f"INSERT OR IGNORE INTO temp.{table} VALUES (?)", ((number,) for number in ids)
        )

    def _drop_bad_answers(self) -> int:
        """Drop answers that are not what was written or lack a part; return how many the first are."""
        changed = 0
        good: list[tuple[int]] = []
        for values in self._connection.execute(f"SELECT {ANSWER_COLUMNS}"):
            row = AnswerRow._make(values)
            try:
                response_of(row)
                good.append((row.call,))
            except (StoreDamaged, TypeError, ValueError):
                changed += 1
        self._connection.executemany("INSERT INTO temp.good VALUES (?)", good)
        for table in ("answer", "text", "checksum"):
            self._connection.execute(
                f"DELETE FROM {table} WHERE call NOT IN (SELECT id FROM temp.good)"
            )
        self._connection.execute("DELETE FROM attempt WHERE call NOT IN (SELECT id FROM call)")
        return changed

    def _drop_bad_notes(self) -> None:
        bad = []
        for study, name, value in self._connection.execute("SELECT study, name, value FROM note"):
            try:
                parsed(value, "note")
            except StoreDamaged:
                bad.append((study, name))
        self._connection.executemany("DELETE FROM note WHERE study = ? AND name = ?", bad)
        self._connection.execute("DELETE FROM note WHERE study NOT IN (SELECT id FROM study)")

    def _drop_scores(self) -> tuple[Tally, int]:
        """Drop the scores that can be made again, and labels of answers that are lost; count both."""
        kinds = ", ".join(f"'{kind}'" for kind in LABELS)
        labels = f"reader IN (SELECT id FROM reader WHERE kind IN ({kinds}))"
        once = f"reader IN (SELECT id FROM reader WHERE kind = 'scorer' AND name = '{DIVERGENCE_SCORE}')"
        good = (
            f"value BETWEEN {NONE} AND {VALUES['person']} AND call IN (SELECT id FROM temp.good) "
            "AND prompt IN (SELECT id FROM prompt) AND label IN (SELECT id FROM word)"
        )
        before = self._number("SELECT count(*) FROM reading")
        labelled = self._number(f"SELECT count(*) FROM reading WHERE {labels}")
        self._connection.execute(f"DELETE FROM reading WHERE NOT (({labels} OR {once}) AND {good})")
        kept = self._number(f"SELECT count(*) FROM reading WHERE {labels}")
        left_out = before - self._number("SELECT count(*) FROM reading") - (labelled - kept)
        return Tally(kept=kept, lost=labelled - kept), left_out

    def _tally(self, table: str, traces: str) -> Tally:
        kept = self._number(f"SELECT count(*) FROM {table}")
        column = "id" if table == "prompt" else "call"
        lost = self._number(
            f"SELECT count(*) FROM temp.{traces} WHERE id NOT IN (SELECT {column} FROM {table})"
        )
        return Tally(kept=kept, lost=lost)

    def _number(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])
