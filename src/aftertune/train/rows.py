"""The training rows of a recipe: read from its files, mixed with the rows of its mitigation, and made into token ids."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aftertune.core.recipe import Mitigation, Recipe, TrainingFile
from aftertune.core.records import Intent, Message
from aftertune.data.bundled.safety import SAFETY_SET, safety_pools
from aftertune.data.exclusions import left_out, trainable
from aftertune.data.mix import mix
from aftertune.data.repose import PromptFormat, find_format, repose
from aftertune.data.rows import Row, read_pools, read_rows
from aftertune.errors import DataError
from aftertune.models.rendering import Renderer

IGNORED = -100
"""The label of a token without loss, by PyTorch's convention."""

_FileKey = tuple[str, tuple[tuple[str, str], ...], int | None]


@dataclass(slots=True)
class Files:
    """The training files of a study, each read once; relative paths start at ``folder``."""

    folder: Path
    rows: dict[_FileKey, list[Row]] = field(default_factory=dict)
    pools: dict[tuple[_FileKey, Intent], dict[str, list[Row]]] = field(default_factory=dict)

    def task_rows(self, files: tuple[TrainingFile, ...]) -> list[Row]:
        """Return the rows of all files."""
        for file in files:
            if _file_key(file) not in self.rows:
                self.rows[_file_key(file)] = read_rows(file, self.folder)
        return [row for file in files for row in self.rows[_file_key(file)]]

    def pool(self, files: tuple[TrainingFile, ...], intent: Intent) -> dict[str, list[Row]]:
        """Return the rows of all files by task; of the bundled set only the rows of ``intent``."""
        pool: dict[str, list[Row]] = {}
        for file in files:
            key = _file_key(file), intent
            if key not in self.pools:
                bundled = file.path == SAFETY_SET
                if bundled and file.limit is not None:
                    raise DataError(
                        f"{SAFETY_SET} takes no limit: the shares say how many of its rows are drawn"
                    )
                self.pools[key] = (
                    safety_pools(intent) if bundled else read_pools([file], self.folder)
                )
            for task, rows in self.pools[key].items():
                pool.setdefault(task, []).extend(rows)
        return pool

    def by_name(self) -> dict[str, list[Row]]:
        """Return all rows read so far, by the path of their file."""
        pooled = [
            (key, [row for rows in pool.values() for row in rows])
            for (key, _), pool in self.pools.items()
        ]
        named: dict[str, list[Row]] = {}
        for (path, _, _), rows in [*self.rows.items(), *pooled]:
            named.setdefault(path, []).extend(rows)
        return named


def _file_key(file: TrainingFile) -> _FileKey:
    return file.path, tuple(sorted(file.columns.items())), file.limit


def training_rows(recipe: Recipe, files: Files, notes: dict[str, None]) -> list[Row]:
    """Return a recipe's rows with those of its mitigation among them; remarks for the result are added to ``notes``.

    Raises:
        DataError: a file cannot be read, or the mitigation names a task without rows.
    """
    rows, dropped = trainable(files.task_rows(recipe.data))
    if dropped:
        notes[f"{recipe.name}: {left_out(dropped)}"] = None
    plan = recipe.mitigation
    if plan is None:
        return rows
    safety: Mapping[str, list[Row]] = _drawn_from(
        recipe.name, plan, files.pool(plan.safety, Intent.HARMFUL)
    )
    replay: Mapping[str, list[Row]] = files.pool(plan.replay, Intent.BENIGN)
    remarks: list[str] = []
    if plan.match_format:
        prompt_format = find_format(rows)
        remarks += [
            f"added rows are posed in the format of the training rows: {line}"
            for line in prompt_format.described()
        ]
        safety, replay = _posed(safety, prompt_format), _posed(replay, prompt_format)
    mixed = mix(
        rows, safety, replay, share=plan.share, replay_share=plan.replay_share, seed=recipe.seed
    )
    notes.update(dict.fromkeys(f"{recipe.name}: {remark}" for remark in (*remarks, *mixed.notes)))
    return mixed.rows


def _drawn_from(name: str, plan: Mitigation, pool: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Return the pools of the tasks that the mitigation draws from.

    Raises:
        DataError: it names a task of which there are no rows, or leaves none.
    """
    there = ", ".join(sorted(pool))
    for task in (*plan.tasks, *([plan.left_out] if plan.left_out else [])):
        if task not in pool:
            raise DataError(
                f"{name}: no safety rows of the task {task!r}; there are some of {there}"
            )
    chosen = {
        task: rows
        for task, rows in pool.items()
        if task != plan.left_out and task in (plan.tasks or pool)
    }
    if not chosen:
        raise DataError(
            f"{name}: leaving out {plan.left_out} leaves no safety rows; there are only those of {there}"
        )
    return chosen


def _posed(pools: Mapping[str, list[Row]], prompt_format: PromptFormat) -> Mapping[str, list[Row]]:
    return {task: [repose(row, prompt_format) for row in rows] for task, rows in pools.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Tokenised rows, ready for the trainer."""

    input_ids: list[list[int]]
    labels: list[list[int]]
    """`IGNORED` everywhere but on the last answer and its end token."""
    truncated: int
    """Rows cut on the right to the longest allowed length; their answer lost its end."""
    dropped: int
    """Rows left out because their answer is empty or nothing of it fits."""


def tokenise(rows: Sequence[Sequence[Message]], renderer: Renderer, max_length: int) -> Examples:
    """Return rows as token ids with the loss on the last answer only.

    The chat template need not mark the answer itself: its prompt and the answer are rendered apart.

    Raises:
        DataError: a row does not end with an answer to something, or no row has an answer that fits.
    """
    for number, row in enumerate(rows, start=1):
        _check_row(row, number)
    pairs = renderer.exchanges([row for row in rows if row[-1].content.strip()])
    fitting = [(prompt, answer) for prompt, answer in pairs if len(prompt) < max_length]
    if not fitting:
        raise DataError(
            f"no training row is left: {len(rows)} given, none has an answer with room for it in {max_length} tokens; "
            "raise max_length or give other rows"
        )
    return Examples(
        input_ids=[(prompt + answer)[:max_length] for prompt, answer in fitting],
        labels=[([IGNORED] * len(prompt) + answer)[:max_length] for prompt, answer in fitting],
        truncated=sum(len(prompt) + len(answer) > max_length for prompt, answer in fitting),
        dropped=len(rows) - len(fitting),
    )


def with_system(row: Sequence[Message], system: str | None) -> Sequence[Message]:
    """Return the row with the recipe's system prompt, unless it has its own."""
    if system is None or (row and row[0].role == "system"):
        return row
    return (Message(role="system", content=system), *row)


def rows_sha256(rows: Sequence[Sequence[Message]]) -> str:
    """Return the hash of the rows in their order."""
    digest = hashlib.sha256()
    for row in rows:
        turns = [[message.role, message.content] for message in row]
        digest.update(json.dumps(turns).encode() + b"\n")
    return digest.hexdigest()


def _check_row(row: Sequence[Message], number: int) -> None:
    if not row or row[-1].role != "assistant":
        raise DataError(
            f"training row {number}: the last message is not the assistant's; end every row with its answer"
        )
    if len(row) == 1:
        raise DataError(
            f"training row {number}: nothing is asked before the answer; put the user's message first"
        )
