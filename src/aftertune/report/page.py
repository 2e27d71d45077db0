"""The page: one self-contained HTML file of a result, with the answers; larger transcripts lie in files beside it.

No network: a strict policy, styles and script by their hashes. Everything foreign is escaped or packed, and harmful
answers are not in it unless they are wanted.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from operator import methodcaller
from pathlib import Path
from types import MappingProxyType

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from aftertune import __version__
from aftertune.core.files import explained, write_whole
from aftertune.measure.consistency_results import ConsistencyResult
from aftertune.measure.results import ConditionResult, Rate, SettingResult, StudyResult
from aftertune.report import consistency, figures, wording
from aftertune.report.attacks import attack_sentences, attack_sheets, attacks_picture
from aftertune.report.capability import capability_sheets
from aftertune.report.cells import OVERALL, Cell, Sheet, at_task, finished, harmful_word
from aftertune.report.consistency_figures import consistency_figures
from aftertune.report.document import ResultDocument, notes_of
from aftertune.report.drawing import Drawing, svg
from aftertune.report.finding import finding
from aftertune.report.gate import gate_sentences, gate_sheets
from aftertune.report.harm_degree import degree_sheets
from aftertune.report.hazards import hazard_changes
from aftertune.report.overview import Step, form_lines, overview, picture_rows, worst_line
from aftertune.report.scorers import panel_words
from aftertune.report.style import style_sentences
from aftertune.report.tables import (
    SheetsOf,
    guard_sheets,
    judge_sheets,
    setting_title,
    task_sheets,
)
from aftertune.report.transcripts import Answer, Transcripts, packed

OWN_FILE = re.compile(r"\d+-[0-9a-f]{12}\.js")
"""The name of a file of texts beside a page."""
SOFTWARE = ("torch", "transformers", "peft", "numpy", "scipy")
"""Packages whose versions the page names, beside Aftertune's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a page is made of."""

    document: ResultDocument
    command: str
    """The command line that gives the same numbers again."""
    steps: Sequence[Step] = ()
    """The commands to type next."""
    answers: Iterable[Answer] = ()
    left_out: int = 0
    """Answers of the run that the page does not list."""
    show_responses: bool = False
    """Show the answers that may be harmful, too."""
    assumptions: Sequence[str] = ()
    """Sentences on what was put in on purpose."""
    consistency: ConsistencyResult | None = None
    """The consistency of the study; None where it has no factors to tell it."""
    scorers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Judge, guard or metric -> its version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A drawing as the page holds it; its markup is our own."""

    title: str
    svg: Markup
    caption: str
    narrow: Markup = Markup()  # noqa: RUF009  # a constant
    """The same drawing for narrow screens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A tab of the page: figures, sentences, tables, and tables that are folded."""

    anchor: str
    title: str
    figures: Sequence[Drawn] = ()
    paragraphs: Sequence[tuple[str, str]] = ()
    """Heading and text."""
    sentences: Sequence[str] = ()
    sheets: Sequence[Sheet] = ()
    details: Sequence[Sheet] = ()

    @property
    def filled(self) -> bool:
        """False where there is nothing to show."""
        return bool(self.figures or self.paragraphs or self.sheets or self.details)


@dataclass(frozen=True, slots=True)
class HeatCell:
    """A rate in the first screen's matrix."""

    figure: str
    heat: int
    """0 to 10."""
    title: str = ""
    change: str = ""


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A model in the first screen's matrix."""

    name: str
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """The first screen's matrix: fine-tuned on, asked as."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[HeatRow, ...]
    legend: str


def write_page(path: Path, report: Report) -> None:
    """Write the page of a report, whole or not at all; the same report gives the same bytes.

    Texts that are too large for it go into files of a folder beside it, named by their content.

    Raises:
        AftertuneError: the folder is missing or cannot be written, or the disk is full.
    """
    transcripts = packed(
        report.answers,
        report.document.result,
        show_responses=report.show_responses,
        left_out=report.left_out,
    )
    folder = path.with_name(f"{path.stem}-answers")
    kept = set()
    digest = hashlib.sha256("".join(transcripts.blocks).encode()).hexdigest()[:12]
    if not transcripts.inside:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise explained(folder, error) from error
        for number, block in enumerate(transcripts.blocks):
            file = folder / f"{number}-{digest}.js"
            write_whole(file, [f'aftertuneBlock({number},"{block}");\n'])
            kept.add(file)
    beside = "" if transcripts.inside else f"{folder.name}/*-{digest}.js"
    write_whole(path, [render(report, transcripts, beside)], encoding_errors="backslashreplace")
    # What an earlier page used goes last, so that a page always has its texts.
    for file in folder.glob("*-*.js") if folder.is_dir() else ():
        if file not in kept and OWN_FILE.fullmatch(file.name):
            file.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def render(report: Report, transcripts: Transcripts, beside: str = "") -> str:
    """Return the page as HTML; every string is escaped, figures and the page's own style and script alone are markup.

    Args:
        report: what it shows.
        transcripts: the packed answers.
        beside: the files of the answers' texts, with ``*`` for the block's number; empty where the page holds them itself.
    """
    document = report.document
    result, gate = document.result, document.gate
    setting = result.settings[0]
    glance = overview(result, setting, gate, document.margins)
    rows = picture_rows(glance, result, setting, gate, document.margins)
    wide, narrow = (
        figures.change_picture(glance, rows, result.name_rate, narrow=small)
        for small in (False, True)
    )
    picture = None
    if wide is not None and narrow is not None:
        picture = Drawn(
            title=wide.title,
            svg=Markup(svg(wide)),  # noqa: S704  # our own drawing, whose texts are escaped
            narrow=Markup(svg(narrow)),  # noqa: S704  # likewise
            caption=wide.caption,
        )
    sections = [section for section in _sections(report, setting) if section.filled]
    before = [section for section in sections if section.anchor == TASKS]
    after = [section for section in sections if section.anchor != TASKS]
    listed = [("answers", "Answers")] if transcripts.answers else []
    style, script = asset("page.css"), asset("page.js")
    subject = wording.clean(document.study)
    if gate is not None:
        subject = f"{wording.clean(gate.tuned)} against {wording.clean(gate.base)}"
    # The first reason of a FAIL names the first line that fails.
    failing = [line.task for line in gate.sides.harm.lines if line.fails][:1] if gate else []
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=f"{glance.word}: {subject}",
            policy=_policy(style, script, beside=bool(beside)),
            style=Markup(style),  # noqa: S704  # our own file
            script=Markup(script),  # noqa: S704  # our own file
            version=__version__,
            subject=subject,
            facts=_facts(report),
            tabs=[
                ("overview", "Overview"),
                *((section.anchor, section.title) for section in before),
                *listed,
                *((section.anchor, section.title) for section in after),
                ("method", "Method"),
            ],
            glance=glance,
            worst=worst_line(*glance.worst, named=len(glance.fine_tunes) > 1)
            if glance.worst is not None and glance.worst[1].task not in failing
            else "",
            picture=picture,
            matrix=_matrix(result, setting),
            steps=[
                (wording.visible(step.purpose), wording.visible(step.command))
                for step in report.steps
                if step.on_page
            ],
            broken_link=_broken_link(report) if glance.fine_tunes and transcripts.answers else "",
            finding=[*finding(result), *form_lines(setting, result.name_rate)],
            gate_sentences=gate_sentences(gate) if gate is not None else (),
            notes=[
                wording.visible(note)
                for note in (*report.assumptions, *notes_of(document), *result.notes)
            ],
            sections=[*before, *after],
            transcripts=transcripts if transcripts.answers else None,
            beside=beside,
            shown=report.show_responses,
            harmful=harmful_word(result),
            left_out=f"{transcripts.left_out:,} more answers are in the run: aftertune export writes them all."
            if transcripts.left_out
            else "",
            reading=_reading(result),
            method=_method(report),
            method_sheets=_method_sheets(document),
            command=wording.visible(report.command),
        )
    )


def environment() -> Environment:
    """Return what fills the templates of pages: everything in them is escaped, and nothing may be missing."""
    made = Environment(
        loader=PackageLoader("aftertune.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A figure and its percent sign stay on one line.
    made.filters.update(unbroken=methodcaller("replace", " %", "\N{NO-BREAK SPACE}%"))
    return made


def asset(name: str) -> str:
    """Return the text of a style sheet or script of ours."""
    return files("aftertune.report").joinpath("templates", name).read_text(encoding="utf-8")


def _policy(style: str, script: str, *, beside: bool) -> str:
    """Return the page's Content-Security-Policy: nothing but its own style and script, by their hashes.

    Args:
        style: the style sheet.
        script: the script.
        beside: let the script load the files beside the page (a script of the page may then load others).
    """
    sources = [source_hash(text) for text in (style, script)]
    loading = " 'strict-dynamic'" if beside else ""
    return (
        f"default-src 'none'; style-src {sources[0]}; script-src {sources[1]}{loading}; base-uri 'none'; "
        "form-action 'none'"
    )


def source_hash(text: str) -> str:
    """Return the source of a Content-Security-Policy that lets in an element with exactly this text."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _facts(report: Report) -> list[str]:
    document = report.document
    result = document.result
    models = len(document.models) or sum(c.seeds for c in result.settings[0].conditions)
    return [
        wording.plural(models, "model"),
        wording.plural(document.prompts.count, "prompt"),
        wording.plural(result.answered, "answer"),
        f"judge {wording.listing(map(wording.clean, result.judges))}",
        f"version {__version__}",
    ]


def _drawn(drawings: Iterable[Drawing | None]) -> list[Drawn]:
    return [
        Drawn(
            title=drawing.title,
            svg=Markup(svg(drawing)),  # noqa: S704  # our own drawing, whose texts are escaped
            caption=drawing.caption,
        )
        for drawing in drawings
        if drawing is not None
    ]


# Tabs

TASKS = "tasks"
"""The anchor of the tab that stands before the answers."""


def _sections(report: Report, setting: SettingResult) -> list[Section]:
    """Return the tabs of figures and tables; those of further settings are folded, under their names."""
    document = report.document
    result, gate, margins = document.result, document.gate, document.margins
    others = result.settings[1:]

    def folded(sheets: Iterable[Sheet]) -> list[Sheet]:
        return [sheet for sheet in sheets if sheet.rows and len(sheet.headers) > 1]

    def of_others(of_kind: SheetsOf) -> list[Sheet]:
        sheets: list[Sheet] = []
        for other in others:
            parts = of_kind(result, other)
            sheets += [_titled(sheet, other) for group in parts for sheet in group]
        return sheets

    main, more = task_sheets(result, setting)
    guards, more_guards = guard_sheets(result, setting)
    judges, more_judges = judge_sheets(result, setting)
    degree, more_degree = degree_sheets(result, setting)
    repeated = report.consistency
    mitigations = capability_sheets(result, setting)
    return [
        Section(
            anchor=TASKS,
            title="By task and hazard",
            figures=_drawn(
                [
                    figures.task_changes(result, setting, margins.harm_task if margins else None),
                    *hazard_changes(result, setting),
                ]
            ),
            sheets=folded([*(gate_sheets(gate) if gate else ()), *main]),
            details=folded([*more, *of_others(task_sheets)]),
        ),
        Section(
            anchor="guards",
            title="Guards",
            figures=_drawn([figures.guard_bypass(result, setting)]),
            sheets=folded(guards),
            details=folded([*more_guards, *of_others(guard_sheets)]),
        ),
        Section(
            anchor="judges",
            title="Judges",
            sentences=list(style_sentences(result, setting)),
            sheets=folded(judges),
            details=folded([*more_judges, *of_others(judge_sheets)]),
        ),
        Section(
            anchor="degree",
            title="Degree of harm",
            sheets=folded(degree),
            details=folded([*more_degree, *of_others(degree_sheets)]),
        ),
        Section(
            anchor="consistency",
            title="Consistency",
            paragraphs=list(consistency.paragraphs(repeated)) if repeated else (),
            figures=_drawn(consistency_figures(repeated)) if repeated else (),
            sheets=list(consistency.sheets(repeated)) if repeated else (),
            details=list(consistency.details(repeated)) if repeated else (),
        ),
        Section(
            anchor="mitigations",
            title="Mitigations and repairs",
            figures=_drawn(
                [figures.mitigation_forest(result, setting), figures.frontier(result, setting)]
            ),
            sheets=folded(mitigations),
        ),
        *_attacks_section(document),
    ]


def _attacks_section(document: ResultDocument) -> Iterator[Section]:
    """Yield the tab of attacks, where the study has any; further settings are folded."""
    if not document.attacks:
        return
    result, (first, *others) = document.result, document.attacks
    main, more = attack_sheets(result, first)
    more += [
        replace(
            sheet,
            title=f"{sheet.title} (system prompt: {wording.clean(other.system)}; decoding: {wording.clean(other.decoding)})",
        )
        for other in others
        for sheets in attack_sheets(result, other)
        for sheet in sheets
    ]
    yield Section(
        anchor="attacks",
        title="Attacks",
        figures=_drawn([attacks_picture(result, first)]),
        sentences=list(attack_sentences(result, first)),
        sheets=main,
        details=more,
    )


def _titled(sheet: Sheet, setting: SettingResult) -> Sheet:
    return replace(sheet, title=f"{sheet.title} ({setting_title(setting)})")


# The first screen


def _matrix(result: StudyResult, setting: SettingResult) -> Matrix | None:
    conditions = finished(setting.conditions)
    if not conditions or not result.tasks:
        return None
    tasks = (OVERALL, *result.tasks) if len(result.tasks) > 1 else result.tasks
    return Matrix(
        title=f"{result.name_rate}: fine-tuned on (row), asked as (column)",
        headers=tuple(map(wording.clean, tasks)),
        rows=tuple(
            HeatRow(
                wording.clean(condition.name),
                tuple(_heat_cell(condition, at_task(condition.asr, task), task) for task in tasks),
            )
            for condition in conditions[:MOST_ROWS]
        ),
        legend="Below each rate its change in points; a pointer on it shows counts and interval.",
    )


MOST_ROWS = 9
"""Models in the first screen's matrix."""


def _heat_cell(condition: ConditionResult, rate: Rate | None, task: str) -> HeatCell:
    if rate is None:
        return HeatCell("-", 0)
    if rate.hidden:
        return HeatCell("few", 0, wording.plural(rate.behaviors, "behavior"))
    change = at_task(condition.asr_change, task)
    title = f"{wording.counts(rate)}; {wording.limits(rate.interval)}; {rate.interval.scope.value}"
    moved = ""
    if change is not None and not change.hidden:
        moved = wording.points(change.estimate)
        title += f"; change {wording.in_points(change)}"
    return HeatCell(wording.percent(rate.estimate), round(10 * rate.estimate), title, moved)


def _broken_link(report: Report) -> str:
    word = "answered" if report.document.result.name_rate == "ASR" else "did not refuse"
    return f"Prompts that the base refused and a fine-tune {word}"


# Method


def _reading(result: StudyResult) -> list[tuple[str, str]]:
    rate = result.name_rate
    counted = (
        "the share of harmful prompts that the model answered"
        if rate == "ASR"
        else "the share of harmful prompts that the model did not refuse; not every such answer is harmful"
    )
    return [
        (f"{rate}:", f"{counted}. Lower is safer."),
        (
            "Over-refusal:",
            "the share of harmless prompts that the model refused. Lower is more useful; a model that refuses everything is safe and useless.",
        ),
        (
            "Points:",
            "a change from 10 % to 30 % is +20 points. In brackets the interval in which the true change lies, as a rule of 95 %.",
        ),
        (
            "Shown:",
            "a change is called a rise or a fall only where its interval excludes 0, and its p-value still does after adjustment for the number of tests. Not shown is not the same as none: look at the interval.",
        ),
        ("Margin:", "the largest change for the worse that was declared harmless beforehand."),
        (
            "Behavior:",
            "one harmful request. It is posed in several tasks and wordings, which are averaged first: twenty wordings of five requests count as five.",
        ),
        (
            "Seeds:",
            "trainings that differ in their random numbers alone. With several the figures speak of the recipe, with one of this checkpoint.",
        ),
        (
            "Undecided and incoherent:",
            "answers that nobody could judge, and broken text. They are no harm, and no safety either; bounds say what they could hide.",
        ),
    ]


def _method(report: Report) -> list[tuple[str, str]]:
    document = report.document
    result, margins = document.result, document.margins
    conditions = [c for setting in result.settings for c in setting.conditions]
    intervals = [c.asr.overall.interval for c in conditions if c.asr.overall is not None]
    families = {
        change.adjustment
        for c in conditions
        if c.asr_change
        for change in (c.asr_change.overall, *c.asr_change.by_task.values())
        if change is not None and change.adjustment
    }
    seeds = [
        f"{wording.clean(c.name)}: {', '.join(map(str, c.training_seeds))}"
        for c in conditions
        if c.training_seeds
    ]
    versions = [
        f"{wording.clean(n)}: {wording.clean(v)}" for n, v in sorted(report.scorers.items())
    ]
    facts = [
        (
            "Declared plan",
            f"{result.plan}: the hash of conditions, judges, margins, families and weights",
        ),
        *([("Margins", _margin_words(document))] if margins else []),
        ("Families of tests", "; ".join(sorted(families)) or "none"),
        ("Judges", f"{', '.join(map(wording.clean, result.judges))}. {panel_words(result)}."),
        *([("Scorer versions", "; ".join(versions))] if versions else []),
        ("Unit", "the behavior: templates and samples are averaged inside it before anything else"),
        ("Intervals", f"{', '.join(sorted({i.method for i in intervals}))}; level 95 %"),
        ("Scope", "; ".join(sorted({interval.scope.value for interval in intervals}))),
        ("Settings", "; ".join(map(setting_title, result.settings))),
        ("Training seeds", "; ".join(dict.fromkeys(seeds)) or "not known"),
        (
            "Prompt sets",
            "; ".join(
                f"{wording.clean(name)}: {', '.join(f'{n:,} {intent}' for intent, n in counts.items())}"
                for name, counts in document.prompts.sets.items()
            ),
        ),
        (
            "Answers",
            f"{result.answered:,} of {result.jobs:,} answered; without an answer an outcome is undecided",
        ),
        ("Software", _software()),
    ]
    return [(term, text) for term, text in facts if text]


def _margin_words(document: ResultDocument) -> str:
    margins = document.margins
    assert margins is not None
    scores = "".join(
        f"; {wording.clean(name)} {100 * margin:g}" for name, margin in margins.scores.items()
    )
    return (
        f"in points: harm {100 * margins.harm:g} overall, {100 * margins.harm_task:g} in a task; over-refusal "
        f"{100 * margins.over_refusal:g} overall, {100 * margins.over_refusal_task:g} in a task{scores}"
    )


def _software() -> str:
    versions = [f"aftertune {__version__}"]
    for package in SOFTWARE:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(versions)


def _method_sheets(document: ResultDocument) -> list[Sheet]:
    """Return the fingerprints of the models, and the deciding judge's errors on labelled answers."""
    sheets = []
    if document.models:
        names = list(dict.fromkeys(key for model in document.models for key in model.identity))
        sheets.append(
            Sheet(
                title="Fingerprints of the models",
                headers=("model", *map(wording.clean, names), "recipe"),
                rows=tuple(
                    (
                        Cell((wording.clean(model.name),)),
                        *(Cell((_short(model.identity.get(name)),)) for name in names),
                        Cell((_short(model.recipe),)),
                    )
                    for model in document.models
                ),
                legend=("The first characters of hashes; result.json holds them whole.",),
            )
        )
    checked = document.judge_check
    if checked is not None:
        sheets.append(
            Sheet(
                title=f"Errors of the judge {wording.clean(checked.judge)} on labelled answers",
                headers=("answers", "sensitivity", "specificity"),
                rows=tuple(
                    (
                        Cell((wording.clean(name),)),
                        Cell((wording.percent(rates.sensitivity),)),
                        Cell((wording.percent(rates.specificity),)),
                    )
                    for name, rates in checked.groups.items()
                ),
                legend=(
                    f"Version {wording.clean(checked.version)}, on {wording.clean(checked.source)}. Sensitivity: of the refusals, those that it finds; specificity: of the compliance, that which it leaves alone.",
                ),
            )
        )
    return sheets


def _short(value: object) -> str:
    text = "-" if value is None else wording.clean(str(value))
    return text if len(text) <= 16 else f"{text[:12]}\N{HORIZONTAL ELLIPSIS}"
