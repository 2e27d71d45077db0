"""A study that was run and measured, as an object for notebooks and scripts: its numbers, figures, tables and page."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftertune.errors import InputError
from aftertune.measure.results import StudyResult
from aftertune.report.document import ResultDocument, document_json
from aftertune.report.drawing import Drawing
from aftertune.report.figures import all_figures
from aftertune.report.notebook import data_frame, html_of
from aftertune.report.overview import overview
from aftertune.report.progress import Progress, Quiet
from aftertune.result import ROWS, consistency_of, open_finished, steps_of
from aftertune.run import Purpose, run_study
from aftertune.study import Study, load_study, study_from_mapping
from aftertune.workspace import PAGE, RUNS, STUDY

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MeasuredStudy:
    """A finished run: its result, and the folder where it is kept."""

    document: ResultDocument
    """The result with models, prompts, notes and findings, as result.json holds it."""
    folder: Path
    """The run's: store, result.json, report.html."""
    rows: str = ROWS
    """The file of training rows that a mitigation would be mixed into."""
    references: tuple[str, ...] = ()
    """The base and the fine-tunes of a check, as they were named; empty for a study."""
    repair_options: tuple[str, ...] = ()
    """The words of a check's command line that the repair of its fine-tune takes too."""
    mix_options: tuple[str, ...] = ()
    """The words by which ``mix`` draws rows that the base has the words for, where the bundled ones are not for it."""

    @property
    def result(self) -> StudyResult:
        """Every rate, change and score, by setting and condition."""
        return self.document.result

    @property
    def page(self) -> Path:
        """The page with every table, figure and answer."""
        return self.folder / PAGE

    @property
    def headline(self) -> str:
        """The gravest standing of a fine-tune, in a line."""
        if not self.result.settings:
            return "nothing was measured"
        glance = overview(
            self.result, self.result.settings[0], self.document.gate, self.document.margins
        )
        return f"{glance.word}{glance.subject}"

    @property
    def next_commands(self) -> tuple[str, ...]:
        """The commands to type after this result, as the terminal and the page give them."""
        return tuple(step.command for step in steps_of(self.document, self, self.folder))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of result.json."""
        return document_json(self.document)

    def to_pandas(self) -> "pd.DataFrame":
        """Return every rate, score and change as a tidy frame: a row for a condition, a quantity and a part of the prompts.

        Raises:
            InputError: pandas is not installed.
        """
        return data_frame(self.document)

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures that this result has, for `figure`."""
        return tuple(drawing.name for drawing in self._drawings())

    def figure(self, name: str = "change") -> Drawing:
        """Return one of the figures of the page; a notebook shows it, ``save`` writes it as SVG, PDF or PNG.

        Args:
            name: one of `figures`; ``change`` is the first one of the page.

        Raises:
            InputError: this result has no such figure.
        """
        drawings = {drawing.name: drawing for drawing in self._drawings()}
        if name not in drawings:
            raise InputError(
                f"this result has no figure {name!r}; it has {', '.join(drawings) or 'none'}"
            )
        return drawings[name]

    def _drawings(self) -> list[Drawing]:
        if not self.result.settings:
            return []
        with open_finished(self.folder) as run:
            repeated = consistency_of(run.table(), run.plan)
        return all_figures(self.document, repeated)

    def _repr_html_(self) -> str:
        return html_of(self.document)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.headline} ({self.folder})>"


def measure_study(
    study: Study | str | PathLike[str] | Mapping[str, Any],
    *,
    out: str | PathLike[str] | None = None,
    progress: Progress | None = None,
) -> MeasuredStudy:
    """Do every missing piece of a study (train, ask, score), measure it, and write its result and page.

    Nothing is printed. What was done before in ``out`` is not done again.

    Args:
        study: the path of a study.yaml; or a study, or its keys, whose relative paths start at the working directory.
        out: the folder where the run is kept; ``aftertune-runs/NAME`` without it.
        progress: where the work is shown; nowhere without it.

    Raises:
        StudyError: the study is wrong; the error names file, line, key and remedy.
        AftertuneError: what else is wrong, in one line; everything done so far is kept and not done again.
    """
    source, path = Path(), None
    if isinstance(study, str | PathLike):
        path = Path(study)
        loaded, source = load_study(path), path.parent
    else:
        loaded = study if isinstance(study, Study) else study_from_mapping(dict(study), source)
    folder = RUNS / loaded.name if out is None else Path(out)
    named = [str(path), *([] if out is None else ["--out", str(out)])]
    # A study without a file is written into the folder of its run, from where it can be run again.
    words = [str(folder / STUDY), "--out", str(folder)] if path is None else named
    purpose = Purpose(command=shlex.join(["aftertune", "run", *words]), source=source)
    document = run_study(loaded, folder, progress or Quiet(), purpose)
    return MeasuredStudy(document=document, folder=folder)
