"""The tune stage: every recipe of the study becomes a folder with weights, unless it is one already."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from aftertune.core.ids import Key
from aftertune.core.recipe import Mitigation, Recipe, StudyModel, Trained, TrainingFile
from aftertune.core.records import Intent
from aftertune.data.bundled.safety_rows import SAFETY_SET, safety_pools, safety_sha256
from aftertune.data.exclusions import left_out, trainable
from aftertune.data.mix import mix
from aftertune.data.repose import PromptFormat, find_format, repose
from aftertune.data.rows import Row, read_pools, read_rows
from aftertune.errors import DataError
from aftertune.study import expand_models
from aftertune.train.train import adopt, train, trained
from aftertune.workspace import Run

_Which = tuple[str, tuple[tuple[str, str], ...], int | None]


def _which(file: TrainingFile) -> _Which:
    return file.path, tuple(sorted(file.columns.items())), file.limit


@dataclass(slots=True)
class Files:
    """Reads each training file once."""

    folder: Path
    rows: dict[_Which, list[Row]] = field(default_factory=dict)
    pools: dict[tuple[_Which, Intent], dict[str, list[Row]]] = field(default_factory=dict)

    def task_rows(self, files: tuple[TrainingFile, ...]) -> list[Row]:
        """Return the rows of all files."""
        for file in files:
            if _which(file) not in self.rows:
                self.rows[_which(file)] = read_rows(file, self.folder)
        return [row for file in files for row in self.rows[_which(file)]]

    def pool(self, files: tuple[TrainingFile, ...], intent: Intent) -> dict[str, list[Row]]:
        """Return rows by task; of the bundled set those of an intent."""
        pool: dict[str, list[Row]] = {}
        for file in files:
            which = _which(file), intent
            if which not in self.pools:
                bundled = file.path == SAFETY_SET
                if bundled and file.limit is not None:
                    raise DataError(
                        f"{SAFETY_SET} takes no limit: the shares say how many of its rows are drawn"
                    )
                self.pools[which] = (
                    safety_pools(intent) if bundled else read_pools([file], self.folder)
                )
            for task, rows in self.pools[which].items():
                pool.setdefault(task, []).extend(rows)
        return pool

    def by_name(self) -> dict[str, list[Row]]:
        """Return all rows that were read, by the file's path."""
        pooled = [
            (which, [row for rows in pool.values() for row in rows])
            for (which, _), pool in self.pools.items()
        ]
        named: dict[str, list[Row]] = {}
        for (path, _, _), rows in [*self.rows.items(), *pooled]:
            named.setdefault(path, []).extend(rows)
        return named


def expand_study(run: Run) -> tuple[StudyModel, ...]:
    """Return the study's models before any is trained; engines give the identities of bases and load no weights for it."""
    return expand_models(
        run.study,
        run.engines.training_identity,
        folder=run.models_folder,
        template_sha256=run.engines.tokenizer_sha256,
        bundled_sha256=lambda name: safety_sha256() if name == SAFETY_SET else "",
    )


def tune_models(run: Run) -> Trained:
    """Expand the study's models and train those that are not there yet.

    Raises:
        DataError, ModelError: a training file or a base cannot be used.
    """
    models = expand_study(run)
    sets, known = study_rows(run, models)
    recipes = [(model, model.recipe) for model in models if model.recipe is not None]
    missing = [
        (model, recipe)
        for model, recipe in recipes
        if not trained(Path(model.reference), recipe, sets[model.name])
    ]
    epochs = _epochs(recipes)
    runs = {replace(recipe, epoch=None).key: sets[model.name] for model, recipe in missing}
    wholes = [
        (model, recipe) for model, recipe in recipes if recipe.epoch is None and recipe.key in runs
    ]
    done: dict[Key, Path] = {}
    once = {recipe.key: recipe for _, recipe in wholes}
    with run.progress.stage(
        "tune", sum(steps_of(recipe, len(runs[recipe.key])) for recipe in once.values())
    ) as advance:
        for model, recipe in wholes:
            adopt(done.setdefault(recipe.key, Path(model.reference)), Path(model.reference), recipe)
            train(
                recipe,
                runs[recipe.key],
                Path(model.reference),
                epochs=epochs.get(recipe.key, {}),
                engines=run.engines,
                progress=step_progress(advance),
            )
    for model, recipe in recipes:
        if recipe.epoch is not None:  # of one recipe under two names the first was kept
            adopt(
                epochs[replace(recipe, epoch=None).key][recipe.epoch], Path(model.reference), recipe
            )
    return known


def study_rows(run: Run, models: tuple[StudyModel, ...]) -> tuple[dict[str, list[Row]], Trained]:
    """Return the training rows of every fine-tune by its name, and what the study will have trained.

    Raises:
        DataError: a training file cannot be used, or shares and tasks do not fit.
    """
    files = Files(folder=run.tools.folder)
    notes: dict[str, None] = {}
    sets = {
        model.name: training_rows(model.recipe, files, notes)
        for model in models
        if model.recipe is not None
    }
    return sets, Trained(models=models, rows=files.by_name(), notes=tuple(notes))


def _epochs(recipes: Iterable[tuple[StudyModel, Recipe]]) -> dict[Key, dict[int, Path]]:
    """Return, for each training, the epochs that are kept on its way and where they go."""
    found: dict[Key, dict[int, Path]] = {}
    for model, recipe in recipes:
        if recipe.epoch is not None:
            kept = found.setdefault(replace(recipe, epoch=None).key, {})
            kept.setdefault(recipe.epoch, Path(model.reference))
    return found


def training_rows(recipe: Recipe, files: Files, notes: dict[str, None]) -> list[Row]:
    """Return a recipe's rows with its mitigation's among them; what a reader should know is added to ``notes``.

    Raises:
        DataError: a file cannot be read, or the mitigation names a task without rows.
    """
    rows, dropped = trainable(files.task_rows(recipe.data))
    if dropped:
        notes[f"{recipe.name}: {left_out(dropped)}"] = None
    plan = recipe.mitigation
    if plan is None:
        return rows
    safety: Mapping[str, list[Row]] = _chosen(
        recipe.name, plan, files.pool(plan.safety, Intent.HARMFUL)
    )
    replay: Mapping[str, list[Row]] = files.pool(plan.replay, Intent.BENIGN)
    said: list[str] = []
    if plan.match_format:
        found = find_format(rows)
        said += [
            f"added rows are posed in the format of the training rows: {line}"
            for line in found.described()
        ]
        safety, replay = _posed(safety, found), _posed(replay, found)
    mixed = mix(
        rows, safety, replay, share=plan.share, replay_share=plan.replay_share, seed=recipe.seed
    )
    notes.update(dict.fromkeys(f"{recipe.name}: {note}" for note in (*said, *mixed.notes)))
    return mixed.rows


def _chosen(name: str, plan: Mitigation, pool: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
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


def _posed(pools: Mapping[str, list[Row]], found: PromptFormat) -> Mapping[str, list[Row]]:
    return {task: [repose(row, found) for row in rows] for task, rows in pools.items()}


def steps_of(recipe: Recipe, rows: int) -> int:
    """Return about how many optimisation steps a training on so many rows has."""
    keys = recipe.training
    return max(1, round(keys.epochs * rows / (keys.batch_size * keys.gradient_accumulation)))


def step_progress(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """Turn "step s of n" into "so many more", for a bar that may span several trainings."""
    last = 0

    def report(step: int, _steps: int) -> None:
        nonlocal last
        advance(step - last)
        last = step

    return report
