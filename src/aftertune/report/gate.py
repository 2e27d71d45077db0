"""The gate's result in words: the verdict, its scope, and one row for the overall figure and each task."""

from collections.abc import Iterator

from aftertune.measure.results import Missing, Scope
from aftertune.report import wording
from aftertune.report.cells import Cell, Json, Sheet, Tone, rate_name, too_few

LABELS_MISSING = {
    missing.value for missing in (Missing.LABELS, Missing.BASE_LABELS, Missing.TUNED_LABELS)
}
VERDICT_TONES: dict[str, Tone] = {"PASS": "good", "FAIL": "bad"}


def verdict_line(gate: Json) -> str:
    """Return ``FAIL: code against base``, the first line that anyone reads; "non-refusal" where rules alone judged."""
    kind = "" if rate_name(gate) == "ASR" else " (non-refusal)"
    by = " (by people's labels)" if gate.get("verdict_by") == "labels" else ""
    return f"{gate['verdict']}{kind}{by}: {wording.clean(gate['tuned'])} against {wording.clean(gate['base'])}"


def labels_sentences(gate: Json) -> Iterator[str]:
    """Say the verdict that does not decide, the judge's or the labels', and what the change owes to the judge."""
    judge, labels = gate.get("by_judge"), gate.get("by_labels")
    if gate.get("verdict_by") == "labels" and judge:
        yield f"By the judge it would be {judge['verdict']}: {_reasons(judge)}."
    elif labels:
        yield f"By people's labels it would be {labels['verdict']}: {_reasons(labels)}."
    if labels and (against := labels["against_base"]):
        limits = against["bias_interval"]
        bias = f"{wording.points(against['bias'])} points {wording.point_limits(limits, (0.0,))}"
        if limits["low"] > 0 or limits["high"] < 0:
            yield f"The judge errs differently on the two models: {bias} of the raw change are its own. Read the corrected one."
        elif against["differs"]:
            yield (
                "The judge errs differently on the two models, though no effect on the change was shown: "
                f"{bias} of the raw one may be its own. Read the corrected one."
            )
        else:
            yield f"No difference of the judge's errors between the two models was shown; {bias} of the raw change may be its own."


def _reasons(verdict: Json) -> str:
    return "; ".join(verdict["reasons"])


def scope_sentence(gate: Json) -> str:
    """Return what the verdict may be said about."""
    if Scope(gate["scope"]).of_recipe:
        seeds = wording.plural(gate["seeds"], "training seed")
        return f"The verdict is about the recipe, measured on {seeds}, and prompts like these."
    return f"The verdict is about {gate['scope'].replace(', ', ' and ')}."


def unclear_sentence(gate: Json) -> str | None:
    """Return the share of undecided and incoherent pairs, if there are any."""
    if not gate["undecided_share"] and not gate["incoherent_share"]:
        return None
    return (
        f"{wording.percent(gate['undecided_share'])} of the pairs have an undecided answer, "
        f"{wording.percent(gate['incoherent_share'])} are incoherent in both models."
    )


def limit_sentence(gate: Json) -> str | None:
    """Return how the tuned rate stands to the declared highest one, if one was declared."""
    if gate["max_asr"] is None:
        return None
    low, high = wording.percent(gate["asr_lower"]), wording.percent(gate["asr_upper"])
    return (
        f"Highest tolerated {rate_name(gate)}: {wording.percent(gate['max_asr'])}; the tuned model's lies between "
        f"{low} and {high} (one-sided bounds, the upper one at its worst)."
    )


def gate_sentences(gate: Json) -> list[str]:
    """Return what stands under the table: scope, unclear pairs, the highest tolerated rate and notes."""
    sentences = [
        *labels_sentences(gate),
        scope_sentence(gate),
        unclear_sentence(gate),
        limit_sentence(gate),
        *gate["notes"],
    ]
    return [wording.clean(sentence) for sentence in sentences if sentence]


def gate_sheet(gate: Json) -> Sheet:
    """Return one row for the overall figure and one per task."""
    corrected = {line["name"]: line for line in (gate.get("by_labels") or {"lines": ()})["lines"]}
    return Sheet(
        title=f"{rate_name(gate)} before and after",
        headers=(
            "",
            "base",
            "tuned",
            "change",
            "at worst",
            "verdict",
            *(["by labels"] if corrected else []),
        ),
        rows=tuple(
            (*_row(line), *([_labels_cell(corrected.get(line["name"]))] if corrected else []))
            for line in gate["lines"]
        ),
        legend=(
            _legend(gate),
            *(
                ["by labels: the corrected change, its upper bound at worst, and what it means."]
                if corrected
                else []
            ),
        ),
    )


def _legend(gate: Json) -> str:
    """Say what the figures of a gate are, which depends on how it decides: intervals, bets, or the means themselves."""
    level, rate = f"{100 * (1 - 2 * gate['alpha']):.3g} %", rate_name(gate)
    against = "when incoherent and undecided answers count against the tuned model"
    if gate["rule"] == "exact":
        return (
            f"change: points of {rate} over all of these prompts, exact and so without an interval; at worst: the change "
            f"{against}. PASS needs every change at worst at or under its margin, FAIL one change above it."
        )
    holds = f"the {level} interval"
    if gate["rule"] == "sequential":
        holds = f"limits that hold with {level} whenever one stops (bets)"
    return (
        f"change: points of {rate}, in brackets {holds}; at worst: its upper bound {against}. PASS needs every upper bound at "
        "or under its margin, FAIL one lower bound above it (tasks: after Holm)."
    )


def _row(line: Json) -> tuple[Cell, ...]:
    name = Cell((wording.clean(line["name"]),))
    margin = f"margin {100 * line['margin']:g}"
    change, beside = line["change"], (0.0, line["margin"])
    if change["hidden"]:
        return (
            name,
            _short(line["base"]),
            _short(line["tuned"]),
            too_few(change),
            Cell(("", margin)),
            _verdict(line),
        )
    figures = [wording.points(change["estimate"], beside)]
    exact = change["interval90"]["method"] == "exact mean"
    figures += [] if exact else [wording.point_limits(change["interval90"], beside)]
    figures += (
        [f"at least {wording.points(line['lower'], beside)}"] if line["fails"] and not exact else []
    )
    worst = wording.points(line["upper"], beside)
    return (
        name,
        _short(line["base"]),
        _short(line["tuned"]),
        Cell(tuple(figures)),
        Cell((worst, margin)),
        _verdict(line),
    )


def _labels_cell(line: Json | None) -> Cell:
    """Return the corrected change of a line with its verdict; what is missing is told among the reasons."""
    if line is None or line["uncorrected"] is not None:
        few = line is None or line["uncorrected"]["missing"] in LABELS_MISSING
        return Cell(("too few labels" if few else "not corrected",), "faint")
    near = (0.0, line["margin"])
    low, high = line["interval90"]
    limits = wording.point_limits({"low": low, "high": high}, near)
    word = "above" if line["fails"] else "within" if line["passes"] else "open"
    tone: Tone = "bad" if line["fails"] else "good" if line["passes"] else "plain"
    worst = f"at worst {wording.points(line['upper'], near)}"
    return Cell((wording.points(line["change"], near), limits, worst, word), tone)


def _short(rate: Json) -> Cell:
    """Return a rate with its counts; the interval that decides is the change's."""
    return (
        too_few(rate)
        if rate["hidden"]
        else Cell((wording.percent(rate["estimate"]), wording.counts(rate)))
    )


def _verdict(line: Json) -> Cell:
    if line["change"]["hidden"]:
        return Cell(("too few",), "faint")
    if line["fails"]:
        return Cell(("above",), "bad")
    if line["passes"]:
        return Cell(("within",), "good")
    return Cell(("open",) if line["room"] else ("open", "no room"), "faint")
