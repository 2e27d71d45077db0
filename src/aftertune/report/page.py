"""One self-contained HTML page: no network, no scripts, everything foreign escaped, harmful answers redacted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from aftertune import __version__
from aftertune.measure.consistency_results import ConsistencyResult
from aftertune.report import consistency, figures, wording
from aftertune.report.cells import Json, Sheet, Tone, rate_name, require_format
from aftertune.report.corrected import has_labels
from aftertune.report.exhibits import Example, select
from aftertune.report.files import write_text
from aftertune.report.finding import finding
from aftertune.report.frontier import caption_of, frontier_figure
from aftertune.report.gate import VERDICT_TONES, gate_sentences, gate_sheet, verdict_line
from aftertune.report.instruments import panel_words
from aftertune.report.showing import Shown, shown_exhibit
from aftertune.report.tables import detail_sheets, setting_title, study_sheets

TITLE = "What fine-tuning did to safety"
NO_FIGURES = "Figures need matplotlib: pip install 'aftertune[report]'."


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawing of our own making, so its markup is trusted."""

    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateView:
    """The gate's part of the page."""

    verdict: str
    tone: Tone
    reasons: tuple[str, ...]
    sheet: Sheet
    sentences: tuple[str, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingView:
    """One setting's part of the page."""

    title: str
    sheets: tuple[Sheet, ...]
    details: tuple[Sheet, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyView:
    """What another lab would find."""

    paragraphs: tuple[tuple[str, str], ...]
    """Condition, and what its seeds say of another lab."""
    sheets: tuple[Sheet, ...]
    details: tuple[Sheet, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that the template shows, in words."""

    title: str
    finding: tuple[str, ...]
    gate: GateView | None
    settings: tuple[SettingView, ...]
    consistency: ConsistencyView | None
    exhibits: tuple[Shown, ...]
    redacted: bool
    method: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a page is made of."""

    result: Json
    """``StudyResult.to_json()``, or the same read back from a file."""
    command: str
    """What a reader types to get the same numbers."""
    gate: Json | None = None
    """``GateResult.to_json()``, if there was one."""
    examples: Iterable[Example] = ()
    """Answers of the first setting, those of one prompt in a row; a few are chosen."""
    show_responses: bool = False
    """Show the answers that may be harmful, too."""
    assumptions: Sequence[str] = ()
    """What was put in on purpose and a reader must know, in sentences."""
    consistency: ConsistencyResult | None = None
    """Where the study has several training seeds or a series."""
    scorers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Scorer -> its version: how it counts, with sacrebleu's signature."""


def write_page(path: Path, report: Report) -> None:
    """Write the page of a report, whole or not at all; the same report gives the same bytes.

    Raises:
        InputError: a result has a format that is not known here, or the folder is missing or cannot be written.
        AftertuneError: the disk is full.
    """
    require_format(report.result, "result")
    write_text(path, render(_page(report)))


def render(page: Page) -> str:
    """Return the page as HTML; every string is escaped, figures alone are markup."""
    environment = Environment(
        loader=PackageLoader("aftertune.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    return environment.get_template("page.html.j2").render(page=page, version=__version__)


def _unbroken(sentence: str) -> str:
    """Keep a figure and its percent sign on one line."""
    return sentence.replace(" %", "\N{NO-BREAK SPACE}%")


def _page(report: Report) -> Page:
    result = report.result
    conditions = result["settings"][0]["conditions"] if result["settings"] else []
    order = [condition["name"] for condition in conditions]
    chosen = select(
        report.examples, order, {condition["name"]: condition["base"] for condition in conditions}
    )
    show = report.show_responses
    notes = [*report.assumptions, *result["notes"], *([] if figures.installed() else [NO_FIGURES])]
    return Page(
        title=TITLE,
        finding=tuple(finding(result)),
        gate=None if report.gate is None else _gate(report.gate),
        settings=tuple(_setting(result, setting) for setting in result["settings"]),
        consistency=None if report.consistency is None else _consistency(report.consistency),
        exhibits=tuple(shown_exhibit(exhibit, result, show_responses=show) for exhibit in chosen),
        redacted=not show,
        method=(*_method(result), *_scorers(report.scorers)),
        notes=tuple(wording.visible(note) for note in notes),
        command=wording.visible(report.command),
    )


def _gate(gate: Json) -> GateView:
    require_format(gate, "gate result")
    caption = "Thick: the 90 % interval that decides; thin: the 95 % interval; dashes: the margin."
    return GateView(
        verdict=verdict_line(gate),
        tone=VERDICT_TONES.get(gate["verdict"], "plain"),
        reasons=tuple(wording.clean(reason) for reason in gate["reasons"]),
        sheet=gate_sheet(gate),
        sentences=tuple(gate_sentences(gate)),
        figures=_figures((figures.gate_figure(gate), caption)),
    )


def _setting(result: Json, setting: Json) -> SettingView:
    rate = rate_name(result)
    hollow = " Hollow: corrected by people." if has_labels(setting) else ""
    return SettingView(
        title=f"Measured with {setting_title(setting)}"
        if len(result["settings"]) > 1
        else "What was measured",
        sheets=tuple(study_sheets(result, setting)),
        details=tuple(detail_sheets(result, setting)),
        figures=_figures(
            (figures.rate_figure(result, setting), f"{rate} with 95 % intervals.{hollow}"),
            (
                figures.change_figure(result, setting),
                f"Change of the {rate} against the base with 95 % intervals.{hollow}",
            ),
            (frontier_figure(result, setting), caption_of(result)),
        ),
    )


def _consistency(result: ConsistencyResult) -> ConsistencyView:
    return ConsistencyView(
        paragraphs=tuple(consistency.paragraphs(result)),
        sheets=tuple(consistency.sheets(result)),
        details=tuple(consistency.details(result)),
        figures=_figures(*consistency.drawings(result)),
    )


def _figures(*drawn: tuple[str, str]) -> tuple[Figure, ...]:
    return tuple(
        Figure(svg=Markup(svg), caption=caption)  # noqa: S704  # our own drawing; names in it are escaped by matplotlib
        for svg, caption in drawn
        if svg
    )


def _scorers(versions: Mapping[str, str]) -> list[tuple[str, str]]:
    told = (
        f"{wording.clean(name)}: {wording.clean(version)}"
        for name, version in sorted(versions.items())
    )
    return [("Scores", "; ".join(told))] if versions else []


def _method(result: Json) -> list[tuple[str, str]]:
    settings = [setting_title(setting) for setting in result["settings"]]
    overall = [
        rate
        for setting in result["settings"]
        for condition in setting["conditions"]
        if (rate := condition["asr"]["overall"]) is not None
    ]
    scopes = sorted({rate["interval"]["scope"] for rate in overall})
    methods = sorted({rate["interval"]["method"] for rate in overall})
    return [
        (
            "Declared plan",
            f"{result['plan']}: the hash of conditions, judges, margins, families and weights",
        ),
        ("Judges", f"{', '.join(map(wording.clean, result['judges']))}. {panel_words(result)}."),
        ("Unit", "the behavior: templates and samples are averaged inside it before anything else"),
        ("Intervals", f"{', '.join(methods)}; level 95 % unless said otherwise"),
        ("Scope", "; ".join(scopes)),
        ("Settings", "; ".join(settings)),
        (
            "Answers",
            f"{result['answered']:,} of {result['jobs']:,} jobs have a final answer; the others are undecided",
        ),
    ]
