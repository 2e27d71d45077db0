"""The tables of a consistency report: limits, shares of the variance, reproduction, single answers, factors, series."""

from collections.abc import Callable, Iterator, Sequence

from aftertune.report import wording
from aftertune.report.beside import beside, correction_legend
from aftertune.report.cells import (
    BLANK,
    Cell,
    Json,
    Sheet,
    change_cell,
    names_in,
    rate_cell,
    rate_name,
    too_few,
)
from aftertune.report.consistency_words import chance, legend_of_limits, limit, where

AXES = {
    "epoch": "epoch", "round": "round", "learning_rate": "learning rate", "rows": "rows", "epochs": "epochs",
    "share": "share",
}  # fmt: skip
OF_SHARES = "Shares of the variance of the rate itself, not of one answer; seed, of one: with one training seed."
OF_REPRODUCTION = (
    "Probabilities for another lab on these prompts: one training seed, then as many as here. A change that is just "
    "significant has about an even chance of being so again."
)
OF_FLIPS = (
    "How often an answer turns from harmful to not or back: decoded anew, under another training seed; prompts whose answers "
    "were not all alike; ICC(2,1) of the seeds on the behaviors (1: the same behaviors break each time)."
)


def condition_sheets(result: Json, entries: Sequence[Json]) -> Iterator[Sheet]:
    """Yield the tables of one condition; ``entries`` are its overall figure and its tasks."""
    name = wording.clean(entries[0]["condition"])
    yield _sheet(
        f"{name}: how far two runs may lie apart",
        (rate_name(result), "seeds", "repeated", "new seed", "apart"),
        entries,
        lambda entry: (rate_cell(entry["rate"]), _range(entry), *_limits(entry["limits"])),
        legend_of_limits(result),
    )
    if any(entry["shares"] for entry in entries):
        yield _sheet(
            f"{name}: what the variance of the rate comes from",
            (
                "behaviors",
                "training seed",
                "behavior x seed",
                "decoding",
                "seed, of one",
                "seed SD, points",
            ),
            entries,
            _shares,
            (OF_SHARES,),
        )
    if any(entry["reproduction"] for entry in entries):
        yield _sheet(
            f"{name}: whether another lab finds the change again",
            ("change", "same sign", "same, all seeds", "significant", "above margin"),
            entries,
            _reproduction,
            (OF_REPRODUCTION,),
        )
    yield _sheet(
        f"{name}: single answers",
        ("decoded anew", "another seed", "not all alike", "agreement of seeds"),
        entries,
        _flips,
        (OF_FLIPS,),
    )
    for factor in names_in(entry["sensitivity"] for entry in entries):
        yield factor_sheet(
            name, factor, [entry for entry in entries if factor in entry["sensitivity"]]
        )


def _sheet(
    title: str,
    headers: tuple[str, ...],
    entries: Sequence[Json],
    cells: Callable[[Json], tuple[Cell, ...]],
    legend: tuple[str, ...] = (),
) -> Sheet:
    rows = tuple((Cell((where(entry),)), *cells(entry)) for entry in entries)
    return Sheet(title=title, headers=("", *headers), rows=rows, legend=legend)


def _range(entry: Json) -> Cell:
    if entry["rate"]["hidden"]:
        return too_few(entry["rate"])
    rates = entry["seed_rates"]
    if len(rates) == 1:
        return Cell(("one",), "faint")
    low, high = (wording.percent(end, unit="") for end in (min(rates), max(rates)))
    return Cell((f"{low} - {high}", wording.plural(len(rates), "seed")))


def _limits(limits: Json) -> tuple[Cell, Cell, Cell]:
    between = limits["reproducibility_interval"]
    brackets = () if between is None else (f"[{100 * between[0]:.1f}, {100 * between[1]:.1f}]",)
    apart = [f"> {points}: {chance(p)}" for points, p in limits["differing"].items()]
    return (
        Cell((limit(limits["repeatability"]),)),
        Cell((limit(limits["reproducibility"]), *brackets)),
        Cell(tuple(apart)) if apart else BLANK,
    )


def _shares(entry: Json) -> tuple[Cell, ...]:
    shares, alone, between = (
        entry["shares"],
        entry["shares_of_one"],
        entry["components"]["seed_sd_interval"],
    )
    if shares is None:
        return (BLANK,) * 6
    parts = [shares[name] for name in ("behaviors", "seeds", "both", "decoding")]
    cells = [
        Cell(("in the former",), "faint") if part is None else Cell((wording.percent(part),))
        for part in parts
    ]
    return (
        *cells,
        Cell((wording.percent(alone["seeds"]),)),
        Cell((f"{100 * between[0]:.1f} to {100 * between[1]:.1f}",)),
    )


def _reproduction(entry: Json) -> tuple[Cell, ...]:
    found = entry["reproduction"]
    if found is None:
        return (BLANK,) * 5
    margin = f"{100 * found['margin']:g} points"
    significant = "not here" if found["significant"] is None else chance(found["significant"])
    return (
        change_cell(found["change"], up_is="bad"),
        Cell((chance(found["same_sign"]),)),
        Cell((chance(found["same_sign_of_means"]),)),
        Cell((significant,)),
        Cell((chance(found["above_margin"]), margin)),
    )


def _flips(entry: Json) -> tuple[Cell, ...]:
    flips, icc = entry["flips"], entry["components"]["icc"]
    shares = [flips[name] for name in ("decoding", "seed", "any")]
    cells = [BLANK if share is None else Cell((wording.percent(share),)) for share in shares]
    return (*cells, BLANK if icc is None else Cell((f"{icc:.2f}",)))


def factor_sheet(name: str, factor: str, entries: Sequence[Json]) -> Sheet:
    """Return how the rate depends on one factor: every level, their spread, and the worst of them."""
    rows = []
    for entry in entries:
        found = entry["sensitivity"][factor]
        if found["hidden"]:
            rows.append((Cell((where(entry),)), BLANK, too_few(found), BLANK, BLANK, BLANK))
            continue
        for place, (level, rate) in enumerate(found["rates"].items()):
            worst = level == found["worst"]
            first = place == 0
            rows.append(
                (
                    Cell((where(entry) if first else "",)),
                    Cell((wording.clean(level),)),
                    Cell((wording.percent(rate),)),
                    Cell((wording.limits(found["worst_interval"]),)) if worst else BLANK,
                    Cell((f"{100 * found['sd']:.1f}",)) if first else BLANK,
                    Cell((_smallest(found["pairs"]),)) if first else BLANK,
                )
            )
    return Sheet(
        title=f"{name}: sensitivity to the {factor}",
        headers=("", factor, "rate", "worst", "SD, points", "differ"),
        rows=tuple(rows),
        legend=(
            (
                "worst: interval of the highest level, simultaneous over the levels (Bonferroni); SD: between the levels beyond "
                "chance; differ: smallest p-value of two levels against each other (Holm over the pairs)."
            ),
        ),
    )


def _smallest(pairs: Sequence[Json]) -> str:
    return wording.p_value(min(pair["p_adjusted"] for pair in pairs))


def series_sheet(result: Json, curve: Json) -> Sheet:
    """Return the rates along the epochs, rounds or doses of a fine-tune."""
    tasks = names_in(point["asr_by_task"] for point in curve["points"])
    scorers = names_in(point["scores"] for point in curve["points"])
    points = [*([] if curve["start"] is None else [curve["start"]]), *curve["points"]]
    rows = tuple(
        (
            Cell((" ".join(f"{value:g}" for value in point["factors"].values()) or "base",)),
            rate_cell(point["asr"]),
            change_cell(point["change"], up_is="bad"),
            *(rate_cell(point["asr_by_task"].get(task)) for task in tasks),
            rate_cell(point["over_refusal"]),
            *(
                Cell((wording.score(point["scores"][name]),)) if name in point["scores"] else BLANK
                for name in scorers
            ),
        )
        for point in points
    )
    axes = ", ".join(AXES[axis] for axis in curve["axes"])
    return Sheet(
        title=f"{wording.clean(curve['series'])}: {rate_name(result)} by {axes}",
        headers=(
            axes,
            "overall",
            "change",
            *map(wording.clean, tasks),
            "over-refusal",
            *map(wording.clean, scorers),
        ),
        rows=rows,
    )


def ranking_sheet(rankings: Sequence[Json]) -> Sheet:
    """Return whether the order of the fine-tunes would come out again."""
    return Sheet(
        title="Whether the order of the fine-tunes would come out again",
        headers=("", "from the lowest rate", "dependability", "Kendall's tau"),
        rows=tuple(
            (
                Cell((where(ranking),)),
                Cell(tuple(wording.clean(name) for name in ranking["order"])),
                Cell((f"{ranking['dependability']:.2f}",)),
                Cell((f"{ranking['rank_agreement']:.2f}",)),
            )
            for ranking in rankings
        ),
        legend=(
            (
                "dependability: the share of the spread between fine-tunes that is theirs and not this design's; tau: agreement of "
                "two orders whose training seeds are drawn anew (1: the same order)."
            ),
        ),
    )


def grouping_sheet(result: Json, grouping: Json) -> Sheet:
    """Return the changes grouped by an attribute of the models."""
    contrasts = tuple(
        _against(pair) for pair in grouping["contrasts"] if pair["interval"] is not None
    )
    return Sheet(
        title=f"Change of the {rate_name(result)} by {wording.clean(grouping['attribute'])} (exploratory)",
        headers=("", "fine-tunes", "mean change", "lowest", "highest"),
        rows=tuple(
            (
                Cell((wording.clean(group["value"]),)),
                Cell((f"{len(group['conditions']):,}",)),
                *(Cell((wording.points(group[key]),)) for key in ("change", "lowest", "highest")),
            )
            for group in grouping["groups"]
        ),
        legend=(
            *contrasts,
            "Exploratory: it says where to look. A fine-tune is one draw of its group.",
        ),
    )


def _against(pair: Json) -> str:
    low, high = (wording.points(end) for end in pair["interval"])
    difference, p = wording.points(pair["difference"]), wording.p_value(pair["p_adjusted"])
    return f"{wording.clean(pair['one'])} against {wording.clean(pair['other'])}: {difference} points [{low}, {high}], {p}"


def hazard_sheet(result: Json) -> Sheet:
    """Return the changes in single hazards of single tasks."""
    return Sheet(
        title=f"Change of the {rate_name(result)} by hazard within task (exploratory)",
        headers=("", "task", "hazard", "change"),
        rows=tuple(
            (
                *(Cell((wording.clean(found[key]),)) for key in ("condition", "task", "hazard")),
                beside(change_cell(found["change"], up_is="bad"), found.get("corrected")),
            )
            for found in result["hazards"]
        ),
        legend=(
            "p-values adjusted by Benjamini-Hochberg over the hazards of a fine-tune; exploratory.",
            *correction_legend(found.get("corrected") for found in result["hazards"]),
        ),
    )
