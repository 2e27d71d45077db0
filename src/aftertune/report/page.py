"""One self-contained HTML page: no network, no scripts, everything foreign escaped, harmful answers redacted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import methodcaller
from pathlib import Path
from types import MappingProxyType

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from aftertune import __version__
from aftertune.core.files import write_whole
from aftertune.measure.consistency_results import ConsistencyResult
from aftertune.measure.results import GateResult, SettingResult, StudyResult
from aftertune.report import consistency, figures, wording
from aftertune.report.capability import frontier_caption, frontier_figure
from aftertune.report.cells import Sheet, Tone
from aftertune.report.corrected import has_labels
from aftertune.report.examples import Answer, select, shown_example
from aftertune.report.finding import finding
from aftertune.report.gate import VERDICT_TONES, gate_sentences, gate_sheets, verdict_line
from aftertune.report.scorers import panel_words
from aftertune.report.style import style_sentences
from aftertune.report.tables import detail_sheets, setting_title, study_sheets

TITLE = "What fine-tuning did to safety"
NO_FIGURES = "Figures need matplotlib: pip install 'aftertune[report]'."


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a page is made of."""

    result: StudyResult
    command: str
    """The command line that gives the same numbers again."""
    gate: GateResult | None = None
    answers: Iterable[Answer] = ()
    """Answers of the first setting, those to one prompt in a row; a few are chosen."""
    show_responses: bool = False
    """Show the answers that may be harmful, too."""
    notes: Sequence[str] = ()
    """Assumptions that were put in on purpose, and notes on the run."""
    consistency: ConsistencyResult | None = None
    """The consistency of the study; None where it has no factors to tell it."""
    scorers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Metric -> its version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page: paragraphs, tables, folded tables, figures and closing sentences."""

    title: str
    paragraphs: Sequence[tuple[str, str]] = ()
    """Heading and text."""
    sheets: Sequence[Sheet] = ()
    details: Sequence[Sheet] = ()
    figures: Sequence[tuple[Markup, str]] = ()
    """SVG of our own making, so its markup is trusted, and its caption."""
    sentences: Sequence[str] = ()
    verdict: str = ""
    """The verdict of the gate, at the top of the page, with its reasons."""
    tone: Tone = "plain"
    reasons: Sequence[str] = ()


def write_page(path: Path, report: Report) -> None:
    """Write the page of a report, whole or not at all; the same report gives the same bytes.

    Raises:
        AftertuneError: the folder is missing or cannot be written, or the disk is full.
    """
    write_whole(path, [render(report)], encoding_errors="backslashreplace")


def render(report: Report) -> str:
    """Return the page as HTML; every string is escaped, figures alone are markup."""
    result = report.result
    bases = {c.name: c.base for setting in result.settings[:1] for c in setting.conditions}
    examples = select(report.answers, list(bases), bases)
    notes = [*report.notes, *result.notes, *([] if figures.installed() else [NO_FIGURES])]
    environment = Environment(
        loader=PackageLoader("aftertune.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A figure and its percent sign stay on one line.
    environment.filters.update(unbroken=methodcaller("replace", " %", "\N{NO-BREAK SPACE}%"))
    return environment.get_template("page.html.j2").render(
        title=TITLE,
        version=__version__,
        finding=finding(result),
        gate=None if report.gate is None else _gate(report.gate),
        settings=[_setting(result, setting) for setting in result.settings],
        consistency=None
        if (repeated := report.consistency) is None
        else Section(
            title="Would it come out again?",
            paragraphs=list(consistency.paragraphs(repeated)),
            sheets=list(consistency.sheets(repeated)),
            details=list(consistency.details(repeated)),
            figures=_drawings(consistency.drawings(repeated)),
        ),
        examples=[
            shown_example(example, result, show_responses=report.show_responses)
            for example in examples
        ],
        redacted=not report.show_responses,
        method=_method(result, report.scorers),
        notes=[wording.visible(note) for note in notes],
        command=wording.visible(report.command),
    )


def _gate(gate: GateResult) -> Section:
    caption = "Thick: the 90 % interval that decides; thin: the 95 % interval; dashes: the margin."
    return Section(
        title="The gate",
        sheets=gate_sheets(gate),
        figures=_drawings([(figures.gate_figure(gate), caption)]),
        sentences=gate_sentences(gate),
        verdict=verdict_line(gate),
        tone=VERDICT_TONES.get(gate.verdict, "plain"),
        reasons=[wording.clean(reason) for reason in gate.reasons],
    )


def _setting(result: StudyResult, setting: SettingResult) -> Section:
    rate = result.name_rate
    hollow = " Hollow: corrected by labels." if has_labels(setting) else ""
    several = len(result.settings) > 1
    return Section(
        title=f"Measured with {setting_title(setting)}" if several else "What was measured",
        sheets=study_sheets(result, setting),
        details=detail_sheets(result, setting),
        sentences=list(style_sentences(result, setting)),
        figures=_drawings(
            [
                (figures.rate_figure(result, setting), f"{rate} with 95 % intervals.{hollow}"),
                (
                    figures.change_figure(result, setting),
                    f"Change of the {rate} against the base with 95 % intervals.{hollow}",
                ),
                (frontier_figure(result, setting), frontier_caption(result)),
            ]
        ),
    )


def _drawings(drawn: Iterable[tuple[str, str]]) -> list[tuple[Markup, str]]:
    return [
        (Markup(svg), caption)  # noqa: S704  # our own drawing; names in it are escaped by matplotlib
        for svg, caption in drawn
        if svg
    ]


def _method(result: StudyResult, scorers: Mapping[str, str]) -> list[tuple[str, str]]:
    rates = [c.asr.overall for setting in result.settings for c in setting.conditions]
    intervals = [rate.interval for rate in rates if rate is not None]
    versions = [
        f"{wording.clean(name)}: {wording.clean(version)}"
        for name, version in sorted(scorers.items())
    ]
    return [
        (
            "Declared plan",
            f"{result.plan}: the hash of conditions, judges, margins, families and weights",
        ),
        ("Judges", f"{', '.join(map(wording.clean, result.judges))}. {panel_words(result)}."),
        ("Unit", "the behavior: templates and samples are averaged inside it before anything else"),
        ("Intervals", f"{', '.join(sorted({i.method for i in intervals}))}; level 95 %"),
        ("Scope", "; ".join(sorted({interval.scope.value for interval in intervals}))),
        ("Settings", "; ".join(map(setting_title, result.settings))),
        (
            "Answers",
            f"{result.answered:,} of {result.jobs:,} jobs have a final answer; the others are undecided",
        ),
        *([("Scores", "; ".join(versions))] if versions else []),
    ]
