"""Cells and sheets: figures in words, the same for the terminal and the page.

Works on the JSON form of results (``StudyResult.to_json()``, ``GateResult.to_json()``; format 1).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aftertune.errors import InputError
from aftertune.report import wording

Json = Mapping[str, Any]
Tone = Literal["plain", "good", "bad", "faint"]
FORMATS = (1,)


@dataclass(frozen=True, slots=True)
class Cell:
    """Lines of one cell: the figure first, what qualifies it below."""

    lines: tuple[str, ...]
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table: a title, one row per condition (or gate line), and what a reader must know to read it."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    legend: tuple[str, ...] = ()


BLANK = Cell(("",), "faint")
MISSING = Cell(("not measured",), "faint")


def require_format(result: Json, what: str) -> None:
    """Refuse a result that this version cannot read.

    Raises:
        InputError: it has no format number, or one that is not known here.
    """
    if result.get("format") not in FORMATS:
        raise InputError(
            f"this {what} has format {result.get('format')!r}; this version of Aftertune reads "
            f"{wording.listing(map(str, FORMATS))}: measure again, or use the version that wrote it"
        )


def rate_name(result: Json) -> str:
    """Return what the rate is called: ``ASR``, or ``non-refusal rate`` when refusal rules alone judge."""
    return str(result["name_rate"])


def harmful_word(result: Json) -> str:
    """Return what the rate counts: refusal rules alone cannot tell that an answer is harmful."""
    return "harmful" if rate_name(result) == "ASR" else "not refused"


def rate_cell(rate: Json | None) -> Cell:
    """Return a rate with its interval and counts; too few behaviors hide it."""
    if rate is None:
        return MISSING
    if rate["hidden"]:
        return too_few(rate)
    return Cell(
        (wording.percent(rate["estimate"]), wording.limits(rate["interval"]), wording.counts(rate))
    )


def score_cell(score: Json | None) -> Cell:
    """Return a score with its interval and number of responses; too few behaviors hide it."""
    if score is None:
        return MISSING
    if score["hidden"]:
        return too_few(score)
    low, high = (wording.score(score["interval"][side]) for side in ("low", "high"))
    return Cell((wording.score(score["estimate"]), f"[{low}, {high}]", f"n = {score['n']:,}"))


def change_cell(change: Json | None, *, up_is: Tone, of_score: bool = False) -> Cell:
    """Return a change with its interval and p-value; coloured where it was shown."""
    if change is None:
        return BLANK
    if change["hidden"]:
        return too_few(change)
    interval = change["interval"]
    if of_score:
        low, high = (wording.score_change(interval[side]) for side in ("low", "high"))
        figure, between = wording.score_change(change["estimate"]), f"[{low}, {high}]"
    else:
        figure, between = wording.points(change["estimate"]), wording.point_limits(interval, (0.0,))
    p = change["p_value"] if change["p_adjusted"] is None else change["p_adjusted"]
    return Cell((figure, between, wording.p_value(p)), _tone(change, up_is))


def adjusted(changes: Iterable[Json | None]) -> str:
    """Return how p-values were adjusted, in brackets; empty if none was."""
    found = _families(changes)
    return f" (p-values adjusted: {found})" if found else ""


def p_values_of(changes: Iterable[Json | None]) -> tuple[str, ...]:
    """Say of a table's p-values how they were adjusted, or that they were not; nothing without a change."""
    told = [change for change in changes if change and not change["hidden"]]
    if not told:
        return ()
    found = _families(told)
    return (
        f"p-values adjusted: {found}."
        if found
        else "p-values: each test by itself, not adjusted for their number.",
    )


def _families(changes: Iterable[Json | None]) -> str:
    found = sorted({change["adjustment"] for change in changes if change and change["adjustment"]})
    return wording.listing(found) if found else ""


def good_when_up(scorer: str) -> Tone:
    """Return the tone of a rise of a task score: good, but for shares of what went wrong (``labels invalid``)."""
    return "bad" if scorer.endswith(" invalid") else "good"


def _tone(change: Json, up_is: Tone) -> Tone:
    if not (direction := shown(change)):
        return "plain"
    if direction > 0:
        return up_is
    return "good" if up_is == "bad" else "bad"


def shown(change: Json) -> int:
    """Return 1 for a rise that was shown, -1 for a fall, 0 where none was.

    Shown means that the 95 % interval excludes 0 and, inside a family of tests, that the adjusted p-value is at most
    0.05 too. A figure that is hidden shows nothing.
    """
    interval = change["interval"]
    if change["hidden"] or (change["p_adjusted"] is not None and change["p_adjusted"] > 0.05):
        return 0
    return int(interval["low"] > 0) - int(interval["high"] < 0)


def too_few(figure: Json) -> Cell:
    """Return what stands in the place of a figure over fewer behaviors than were declared."""
    return Cell(("too few", wording.plural(figure["behaviors"], "behavior")), "faint")


def name_cell(condition: Json) -> Cell:
    """Return a condition's name with its number of training seeds."""
    name = wording.clean(condition["name"])
    if condition["base"] is None:
        return Cell((name,) if name == "base" else (name, "base"))
    return Cell((name, wording.plural(condition["seeds"], "seed")))


def is_unclear(rate: Json | None) -> bool:
    """Whether a rate counts incoherent or undecided responses."""
    return rate is not None and rate["undecided"] + rate["incoherent"] > 0


def unclear_cell(rate: Json | None) -> Cell:
    """Return the incoherent and undecided shares, with the bounds that they imply; coloured above a tenth."""
    if rate is None:
        return MISSING
    if rate["hidden"]:
        return too_few(rate)
    if not is_unclear(rate):
        return Cell(("0 %",))
    shares = [
        wording.percent(rate[kind] / rate["n"]) if rate["n"] else "-"
        for kind in ("incoherent", "undecided")
    ]
    tone: Tone = "bad" if (rate["incoherent"] + rate["undecided"]) > 0.1 * rate["n"] else "plain"
    return Cell((f"{shares[0]} inc.", f"{shares[1]} und.", wording.limits(rate["bounds"])), tone)


def disagreement_cell(tasks: Iterable[Json]) -> Cell:
    """Return how often two judges differ, in one task or in several together."""
    tasks = list(tasks)
    differ, n = (sum(task[key] for task in tasks) for key in ("differ", "n"))
    return Cell((wording.percent(differ / n), f"{differ:,} of {n:,}")) if n else MISSING


def overall_of(breakdowns: Json, name: str) -> Json | None:
    """Return the overall figure of a scorer or judge, if there is one."""
    breakdown = breakdowns.get(name)
    return breakdown and breakdown["overall"]


def find(setting: Json, name: str | None) -> Json | None:
    """Return the condition of that name."""
    return next(
        (condition for condition in setting["conditions"] if condition["name"] == name), None
    )


def names_in(groups: Iterable[Iterable[str]]) -> list[str]:
    """Return every name once, sorted, so that a file read back prints as the result it came from."""
    return sorted({name for group in groups for name in group})


def scored_in(groups: Iterable[Json]) -> list[str]:
    """Return the names that have an overall figure anywhere, so that none takes an empty column."""
    found = list(groups)
    return [
        name
        for name in names_in(found)
        if any(overall_of(each, name) is not None for each in found)
    ]


def columns_of(result: Json, breakdowns: Iterable[Json], dimension: str | None = None) -> list[str]:
    """Return the names along a dimension: tasks in their declared order, others sorted."""
    names = names_in(
        breakdown.get(dimension, {}) if dimension else breakdown for breakdown in breakdowns
    )
    known = list(result["tasks"])
    return sorted(
        names, key=lambda name: (known.index(name) if name in known else len(known), name)
    )
