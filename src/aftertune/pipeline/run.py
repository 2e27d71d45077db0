"""`aftertune run`: a study from its file to its report."""

import shlex
from pathlib import Path

from rich.console import Console

from aftertune.pipeline.answering import plan_model
from aftertune.pipeline.expanding import expand_study
from aftertune.pipeline.instruments import make_instruments
from aftertune.pipeline.presenting import present, print_page
from aftertune.pipeline.prompting import load_sets
from aftertune.pipeline.run_folder import PAGE, open_run
from aftertune.pipeline.served import most_cost, warnings
from aftertune.pipeline.stages import Purpose, run_study
from aftertune.pipeline.training import Files, training_rows
from aftertune.report.progress import Progress, Quiet
from aftertune.study import Study, load_study
from aftertune.tune.record import finished


def run(path: Path, out: Path | None, progress: Progress, json: Path | None) -> None:
    """Run the study in ``path`` and print its result.

    Raises:
        AftertuneError: what is wrong, in one line; everything done so far is kept.
    """
    study = load_study(path)
    folder = out or Path("aftertune-runs") / study.name
    command = shlex.join(["aftertune", "run", str(path), *(["--out", str(out)] if out else [])])
    told = run_study(study, folder, progress, Purpose(command=command, source=path.parent))
    present(told, Console(), json)
    print_page(folder / PAGE)


def preview(path: Path, out: Path | None) -> None:
    """Print what running the study would do, without loading weights or asking anything.

    Raises:
        AftertuneError: as `run`, for everything that can be known beforehand.
    """
    study = load_study(path)
    folder = out or Path("aftertune-runs") / study.name
    console = Console(soft_wrap=True)
    with open_run(study, folder, Quiet(), path.parent, write=False) as run:
        make_instruments(run)
        questions = load_sets(run)
        models = expand_study(run)
        files = Files(folder=run.tools.folder)
        for model in models:
            if model.recipe is not None:
                training_rows(model.recipe, files, {})  # rows, shares and tasks that do not fit are known beforehand
        widest = max(len(model.name) for model in models)
        _say(console, study, f"{len(questions.prompts):,} prompts before overlap with training data is removed")
        each = (
            len(study.systems) * study.decoding.samples * len(study.decoding.temperatures) * len(study.decoding.seeds)
        )
        for model in models:
            todo, state, cost = each * len(questions.prompts), "there", ""
            if model.recipe is not None and not finished(Path(model.reference), model.recipe):
                state = "to be trained"
            else:
                jobs = {job.key: job for job in plan_model(run, model, questions.prompts)[1]}
                missing = run.store.missing(jobs)
                todo, cost = len(missing), most_cost(run, model, [jobs[key] for key in missing])
            line = f"  {model.name:<{max(32, widest)}} {state:<14} {todo:>9,} calls to make{cost}"
            console.print(line, markup=False, highlight=False)
        for warning in warnings(run.engines.endpoints.models, run.engines.bridged):
            console.print(f"note: {warning}", markup=False, highlight=False)


def _say(console: Console, study: Study, prompts: str) -> None:
    instruments = ", ".join(
        f"{kind} {' '.join(item.name for item in items)}"
        for kind, items in (
            ("judges", study.judges),
            ("guards", study.guards),
            ("scorers", study.scorers),
            ("comparers", study.comparers),
        )
        if items
    )
    console.print(f"{study.name}: {prompts}; {instruments}", markup=False, highlight=False)
