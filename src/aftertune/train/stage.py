"""The train stage: every recipe of the study becomes a folder with weights, unless it is one already.

Its rows are read from the training files, each once, and mixed with the safety and replay rows of its mitigation.
"""

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import numpy as np

from aftertune.core.files import discard, draft_of
from aftertune.core.keys import Key
from aftertune.core.recipe import (
    Mitigation,
    Recipe,
    StudyModel,
    Trained,
    Training,
    TrainingFile,
)
from aftertune.core.records import Decoding, FinishReason, GenerateJob, Intent, Message
from aftertune.data.bundled.safety import SAFETY_SETS, safety_pools, safety_sha256
from aftertune.data.mix import mix
from aftertune.data.repose import find_format, repose
from aftertune.data.rows import Row, Tally, by_answer, read_pools, read_rows
from aftertune.errors import DataError, EngineError, Stopped
from aftertune.models.open import Engines
from aftertune.models.reference import Checkpoint, fetch, finished, parse
from aftertune.models.rendering import Renderer
from aftertune.models.size import shape
from aftertune.report.progress import staged
from aftertune.study import expand_models
from aftertune.train.rules import check_layers
from aftertune.train.tokens import Rows, with_system
from aftertune.train.train import (
    TrainingStopped,
    adopt,
    fine_tune,
    reasoning_note,
    trained,
)
from aftertune.workspace import Run

LONGEST = 16
"""Rows that are rendered to find the longest."""
WARM_STEPS, TIMED_STEPS = 2, 6
"""Optimisation steps before the clock starts, and steps that are timed."""

_FileKey = tuple[str, tuple[tuple[str, str], ...], int | None]


def expand_study(run: Run) -> tuple[StudyModel, ...]:
    """Return the study's models before any is trained; engines give the identities of bases and load no weights for it.

    Raises:
        ModelError: a base cannot be used, or cannot be trained.
    """
    models = expand_models(
        run.study,
        run.engines.training_identity,
        folder=run.models,
        template_sha256=lambda base: str(run.engines.training_identity(base)["tokenizer"]),
        bundled_sha256=safety_sha256,
    )
    for model in models:
        if model.recipe is not None:
            run.engines.check_trainable(model.name, model.recipe.method, model.recipe.base)
            frozen = model.recipe.mitigation.frozen if model.recipe.mitigation else ()
            sizes = shape(model.recipe.base) if frozen else None
            if sizes is not None:
                check_layers(frozen, sizes.layers, model.recipe.name)
    return models


def study_rows(
    run: Run, models: tuple[StudyModel, ...], *, asks: bool = False
) -> tuple[dict[str, list[Row]], Trained]:
    """Return the training rows of every fine-tune by its name, and the record of what the study trains.

    Args:
        run: the study's.
        models: of the study.
        asks: ask a base for its own answers where a mitigation wants them; otherwise these rows keep theirs.

    Raises:
        DataError: a training file cannot be used, or shares and tasks do not fit.
        EngineError: a base gave no answer.
    """
    files = Files(folder=run.tools.folder)
    notes: dict[str, None] = {}
    answer = partial(self_answered, run) if asks else None
    rows = {
        model.name: training_rows(model.recipe, files, notes, answer)
        for model in models
        if model.recipe is not None
    }
    for model in models:
        if model.recipe is not None:
            remark = reasoning_note(model.recipe, rows[model.name], run.engines)
            notes.update({} if remark is None else {remark: None})
    return rows, Trained(models=models, rows=files.by_name(), notes=tuple(notes))


def tune_models(run: Run, models: tuple[StudyModel, ...]) -> Trained:
    """Train those of the study's models (`expand_study`) that are not there yet.

    Raises:
        DataError, ModelError: a training file or a base cannot be used.
    """
    rows, record = study_rows(run, models, asks=True)
    recipes = [
        (Path(model.reference), model.recipe, rows[model.name])
        for model in models
        if model.recipe is not None
    ]
    # By the key of each whole training, the epochs to keep on its way and their folders.
    epochs: dict[Key, dict[int, Path]] = {}
    for folder, recipe, _ in recipes:
        if recipe.epoch is not None:
            kept = epochs.setdefault(replace(recipe, epoch=None).key, {})
            kept.setdefault(recipe.epoch, folder)
    missing = {
        replace(recipe, epoch=None).key: own_rows
        for folder, recipe, own_rows in recipes
        if not trained(folder, recipe, own_rows)
    }
    trainings = [
        (folder, recipe)
        for folder, recipe, _ in recipes
        if recipe.epoch is None and recipe.key in missing
    ]
    steps = {recipe.key: steps_of(recipe, len(missing[recipe.key])) for _, recipe in trainings}
    folders: dict[Key, Path] = {}
    with (
        _stop_says_how_far(recipes),
        stop_after_step(run.progress.note) as stopping,
        run.progress.stage("tune", sum(steps.values())) as advance,
    ):
        for folder, recipe in trainings:
            # One recipe under two names is trained once and copied.
            adopt(folders.setdefault(recipe.key, folder), folder, recipe)
            fine_tune(
                recipe,
                missing[recipe.key],
                folder,
                epochs=epochs.get(recipe.key, {}),
                engines=run.engines,
                progress=step_progress(advance, stopping),
            )
    for folder, recipe, _ in recipes:
        if recipe.epoch is not None:
            # Training kept the epoch under the first of its names only.
            adopt(epochs[replace(recipe, epoch=None).key][recipe.epoch], folder, recipe)
        discard(draft_of(folder))  # of a run that was killed between the last two steps
    return record


@contextmanager
def _stop_says_how_far(recipes: Sequence[tuple[Path, Recipe, Rows]]) -> Iterator[None]:
    """Say in the error of a stop how many of the fine-tunes are done, and how far the one in work is."""
    step = ""
    try:
        yield
    except TrainingStopped as stop:
        step = f", step {stop.step:,} of {stop.steps:,} of the next"
    except KeyboardInterrupt:
        pass
    else:
        return
    done = sum(finished(folder, recipe) for folder, recipe, _ in recipes)
    raise Stopped(
        f"stopped: {done:,} of {len(recipes):,} fine-tunes done{step}; run the same command to go on"
    )


@contextmanager
def stop_after_step(note: Callable[[str], None]) -> Iterator[threading.Event]:
    """Give an event that the first Ctrl-C sets; the second one raises `KeyboardInterrupt` as usual.

    Other signals that the program takes for Ctrl-C do the same. Only the main thread can change what signals do.
    With the event set and nothing else raised, `KeyboardInterrupt` comes at the end.
    """
    stopping = threading.Event()

    def request(_number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()
        note("stopping after this step, with a checkpoint; Ctrl-C again stops at once")

    heeded = [
        number
        for number in signal.valid_signals()
        if signal.getsignal(number) is signal.default_int_handler
        and threading.current_thread() is threading.main_thread()
    ]
    for number in heeded:
        signal.signal(number, request)
    try:
        yield stopping
    finally:
        for number in heeded:
            signal.signal(number, signal.default_int_handler)
    if stopping.is_set():  # it came behind the last step
        raise KeyboardInterrupt


@dataclass(slots=True)
class Files:
    """The training files of a study, each read and looked through once; relative paths start at ``folder``."""

    folder: Path
    rows: dict[_FileKey, list[Row]] = field(default_factory=dict)
    learnt: dict[tuple[_FileKey, ...], tuple[list[Row], Tally]] = field(default_factory=dict)
    """By files: their rows that can be learnt, and the count of the others."""
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
                bundled = file.path in SAFETY_SETS
                if bundled and file.limit is not None:
                    raise DataError(
                        f"{file.path} takes no limit: the shares say how many of its rows are drawn"
                    )
                self.pools[key] = (
                    safety_pools(intent, file.path) if bundled else read_pools([file], self.folder)
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


def task_rows(recipe: Recipe, files: Files, notes: dict[str, None]) -> list[Row]:
    """Return the rows of a recipe's data that can be learnt; remarks on the others are added to ``notes``.

    Raises:
        DataError: a file cannot be read, or has no such row.
    """
    key = tuple(map(_file_key, recipe.data))
    if key not in files.learnt:
        tally = Tally()
        files.learnt[key] = list(tally.kept(files.task_rows(recipe.data), by_answer)), tally
    rows, tally = files.learnt[key]
    tally.remark(notes.setdefault, recipe.name, len(rows))
    return list(rows)


def training_rows(
    recipe: Recipe,
    files: Files,
    notes: dict[str, None],
    answer: Callable[[Recipe, list[Row], dict[str, None]], list[Row]] | None = None,
) -> list[Row]:
    """Return a recipe's rows with those of its mitigation among them; remarks for the result are added to ``notes``.

    Args:
        recipe: the recipe.
        files: the study's.
        notes: remarks, each once.
        answer: gives the task's rows the base's own answers, where the mitigation wants them.

    Raises:
        DataError: a file cannot be read, or the mitigation names a task without rows.
    """
    rows = task_rows(recipe, files, notes)
    plan = recipe.mitigation
    if plan is not None and plan.self_answers is not None and answer is not None:
        rows = answer(recipe, rows, notes)
    if plan is None or not plan.safety:
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
        safety, replay = (
            {
                task: [repose(row, prompt_format) for row in of_task]
                for task, of_task in pools.items()
            }
            for pools in (safety, replay)
        )
    mixed = mix(
        rows, safety, replay, share=plan.share, replay_share=plan.replay_share, seed=recipe.seed
    )
    notes.update(dict.fromkeys(f"{recipe.name}: {remark}" for remark in (*remarks, *mixed.notes)))
    return mixed.rows


def self_answer_jobs(run: Run, recipe: Recipe, rows: Sequence[Row]) -> list[GenerateJob]:
    """Return the calls for the base's own answers to rows, in their order; none where no mitigation wants them."""
    plan = None if recipe.mitigation is None else recipe.mitigation.self_answers
    if plan is None:
        return []
    decoding = Decoding(temperature=plan.temperature, max_new_tokens=plan.max_new_tokens)
    asked_rows = [tuple(with_system(row[:-1], recipe.system)) for row in rows]
    keys = run.engines.open(recipe.base).keys(asked_rows, decoding, 0)
    return [
        GenerateJob(key=key, messages=messages, decoding=decoding)
        for key, messages in zip(keys, asked_rows, strict=True)
    ]


def jobs_of_self_answers(
    run: Run, models: Sequence[StudyModel]
) -> Iterator[tuple[Recipe, list[GenerateJob]]]:
    """Yield the recipes that train on the base's own answers, with the calls for these.

    Calls that an earlier recipe makes too (another seed or epoch of the same rows) are left out, and recipes that would have
    none.

    Raises:
        DataError: a training file cannot be used.
    """
    files, counted = Files(folder=run.tools.folder), set[Key]()
    for model in models:
        if (recipe := model.recipe) is None:
            continue
        if recipe.mitigation is None or recipe.mitigation.self_answers is None:
            continue
        rows = task_rows(recipe, files, {})
        jobs = {job.key: job for job in self_answer_jobs(run, recipe, rows)}
        if new := [job for key, job in jobs.items() if key not in counted]:
            counted |= jobs.keys()
            yield recipe, new


def self_answered(run: Run, recipe: Recipe, rows: list[Row], notes: dict[str, None]) -> list[Row]:
    """Return rows with the base's own last answers; those that are in the store are not asked for again.

    Raises:
        EngineError: the base gave no final answer to a row.
    """
    jobs, engine = self_answer_jobs(run, recipe, rows), run.engines.open(recipe.base)
    keys = [job.key for job in jobs]
    missing = run.store.missing(set(keys))
    with staged(run.progress, f"answers of {recipe.base}", len(missing), "answers") as advance:
        run.store.complete("generate", jobs, engine.generate, advance)
    replies = run.store.calls(keys)
    if unanswered := sum(key not in replies for key in keys):
        raise EngineError(
            f"recipe {recipe.name!r}: its base gave no answer to {unanswered:,} of {len(keys):,} training rows; run again"
        )
    cut = sum(replies[key].finish_reason is FinishReason.LENGTH for key in keys)
    room = max((job.decoding.max_new_tokens for job in jobs), default=0)
    limit = f"; {cut:,} of them end at the limit of {room:,} tokens" if cut else ""
    remark = f"{recipe.name}: the base's own answers stand in place of those of {len(rows):,} training rows{limit}"
    notes.setdefault(remark)
    return [
        (*row[:-1], replace(row[-1], content=replies[key].text, reasoning=""))
        for row, key in zip(rows, keys, strict=True)
    ]


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


def steps_of(recipe: Recipe, rows: int) -> int:
    """Return about how many optimisation steps a training on so many rows has."""
    training = recipe.training
    batch = training.batch_size * training.gradient_accumulation
    return max(1, round(training.epochs * rows / batch))


@dataclass(slots=True)
class LongestRows:
    """The longest training rows of recipes: what seeds and epochs render alike is rendered once, by one tokenizer a base."""

    engines: Engines
    lengths: dict[Key, tuple[int, int]] = field(default_factory=dict)
    """By what decides the rendered rows."""
    renderers: dict[str, Renderer] = field(default_factory=dict)
    """By the base's reference."""

    def of(self, recipe: Recipe, rows: Sequence[Row]) -> tuple[int, int]:
        """Return the tokens of the longest training row and those of its answer, as far as the recipe lets rows be long.

        Only the rows of the most characters are rendered.

        Raises:
            ModelError: the base's tokenizer or chat template cannot be used.
        """
        draws_rows = recipe.mitigation is not None and bool(recipe.mitigation.safety)
        key = replace(
            recipe,
            method="lora",
            training=Training(max_length=recipe.training.max_length),
            seed=recipe.seed if draws_rows else 0,
            epoch=None,
            start=None,
        ).key
        if key not in self.lengths:
            self.lengths[key] = self._measured(recipe, rows)
        return self.lengths[key]

    def _measured(self, recipe: Recipe, rows: Sequence[Row]) -> tuple[int, int]:
        base, most = fetch(parse(recipe.base)), recipe.training.max_length
        by_characters = sorted(rows, key=lambda row: sum(len(turn.content) for turn in row))
        longest = [with_system(row, recipe.system) for row in by_characters[-LONGEST:]]
        if not longest or not isinstance(base, Checkpoint):
            return most, most
        if recipe.base not in self.renderers:
            self.renderers[recipe.base] = self.engines.renderer(base)
        exchanges = self.renderers[recipe.base].exchanges(longest)
        tokens, answer = max(
            (len(prompt) + len(answer), len(answer)) for prompt, answer in exchanges
        )
        return min(tokens, most), min(tokens, most, answer)


def step_progress(
    advance: Callable[[int], None], stopping: threading.Event
) -> Callable[[int, int], bool]:
    """Return a callback that turns "step s of n" into "so many steps more", for a bar over several trainings.

    It stops the training once ``stopping`` is set.
    """
    last = 0

    def report(step: int, _steps: int) -> bool:
        nonlocal last
        advance(step - last)
        last = step
        return stopping.is_set()

    return report


class _Timed(Exception):
    """Breaks a training off once enough of its steps were timed."""


def seconds_per_step(
    recipe: Recipe, rows: Sequence[tuple[Message, ...]], engines: Engines
) -> float:
    """Return the seconds that an optimisation step of a recipe takes on this machine.

    Training starts as usual (the same method, batch, optimiser, rows drawn at random for their lengths) and is broken
    off; nothing of it is kept. Loading, step checkpoints and the writing of the weights are not counted. A round is
    timed from its base, which has the same shape.

    Raises:
        AftertuneError: as `fine_tune`.
    """
    training = recipe.training
    batch = training.batch_size * training.gradient_accumulation
    wanted = (WARM_STEPS + TIMED_STEPS + 1) * batch
    shuffled = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
    short = replace(
        recipe,
        start=None,
        epoch=None,
        training=replace(training, epochs=1.0, save_steps=wanted + 1),
    )
    ends: list[float] = []

    def clock(step: int, steps: int) -> None:
        engines.synchronize()
        ends.append(time.monotonic())
        if step >= min(WARM_STEPS + TIMED_STEPS, steps):
            raise _Timed

    with TemporaryDirectory() as folder:
        try:
            fine_tune(
                short,
                list(islice(cycle(shuffled), wanted)),
                Path(folder) / "timed",
                engines=engines,
                progress=clock,
            )
        except _Timed:
            gc.collect()  # the trainer's reference cycles hold the model
    # Fewer steps than planned are made where few rows have an answer that fits.
    timed = ends[WARM_STEPS:] if len(ends) > WARM_STEPS + 1 else ends
    return (timed[-1] - timed[0]) / (len(timed) - 1)
