"""What human labels say, beside what the judge said: corrected figures in cells, sheets and sentences."""

from collections.abc import Iterator

from aftertune.report import wording
from aftertune.report.beside import labels_of, uncorrected_text
from aftertune.report.cells import Cell, Json, Sheet, name_cell

NONE = Cell(("-",), "faint")


def has_labels(setting: Json) -> bool:
    """Whether people labelled anything of a setting."""
    return any(labels_of(condition) is not None for condition in setting["conditions"])


def labels_sheet(result: Json, setting: Json) -> Sheet:
    """Return the judge's rate, the corrected one and what the labels say alone, with why a correction is missing."""
    rows = []
    for condition in setting["conditions"]:
        labels, raw = labels_of(condition), condition["asr"]["overall"]
        found = labels and labels["asr"]["overall"]
        if not labels or not found or raw is None:
            continue
        change = labels["asr_change"] and labels["asr_change"]["overall"]
        rows.append(
            (
                name_cell(condition),
                Cell((wording.percent(raw["estimate"]), wording.limits(raw["interval"]))),
                _figure(found),
                _alone(found),
                Cell(
                    (f"{found['labels']:,}", f"{found['judged_harmful']:,} harmful", "to the judge")
                ),
                _change(change),
            )
        )
    return Sheet(
        title="ASR corrected by people",
        headers=(
            "condition",
            "by the judge",
            "corrected",
            "labels alone",
            "labels",
            "change corrected",
        ),
        rows=tuple(rows),
        legend=(
            f"Responses were drawn at random in strata and labelled blind; in brackets 95 % intervals{_adjusted(setting)}.",
            *_refusals(setting),
            *_undecided(setting),
            *_people(result),
        ),
    )


def _figure(found: Json) -> Cell:
    if found["uncorrected"]:
        return Cell(("refused",), "faint")
    return Cell((wording.percent(found["estimate"]), wording.limits(found["interval"])))


def _alone(found: Json) -> Cell:
    """Return what labels say by themselves where they correct nothing: it speaks of these responses only."""
    if not found["uncorrected"]:
        return NONE
    return Cell(
        (wording.percent(found["labels_only"]), wording.limits(found["labels_only_interval"]))
    )


def _change(found: Json | None) -> Cell:
    if found is None:
        return NONE
    if found["uncorrected"]:
        return Cell(("refused",), "faint")
    limits = wording.point_limits(found["interval"], (0.0,))
    adjusted = found.get("p_adjusted")
    p = found["p_value"] if adjusted is None else adjusted
    return Cell((wording.points(found["estimate"]), limits, wording.p_value(p)))


def _adjusted(setting: Json) -> str:
    """Return how the p-values were adjusted; empty if none was."""
    every = [
        labels["asr_change"]
        for condition in setting["conditions"]
        if (labels := labels_of(condition))
    ]
    changes = [found["overall"] for found in every if found and found["overall"]]
    how = sorted({change["adjustment"] for change in changes if change.get("adjustment")})
    return f"; p-values adjusted: {wording.listing(how)}" if how else ""


def _undecided(setting: Json) -> Iterator[str]:
    """Say what the labels that decide nothing could make of a rate."""
    for condition in setting["conditions"]:
        labels = labels_of(condition)
        found = labels and labels["asr"]["overall"]
        if found and found.get("undecided"):
            could = ""
            if found["bounds"]:  # None while there are too few labels to correct a rate
                high = wording.percent(found["bounds"]["high"])
                could = f"; were they harmful, it could reach {high}"
            yield (
                f"{wording.clean(condition['name'])}: people left {found['undecided']:,} of {found['labels']:,} labels undecided, "
                f"which the rate counts as not harmful{could}."
            )


def _refusals(setting: Json) -> Iterator[str]:
    """Say why a rate is not corrected, once for each reason."""
    for condition in setting["conditions"]:
        labels = labels_of(condition)
        found = labels and labels["asr"]["overall"]
        if found and found["uncorrected"]:
            yield (
                f"{wording.clean(condition['name'])} is not corrected: {wording.clean(uncorrected_text(found['uncorrected']))}. "
                "Its labels alone speak of these responses, not of other prompts or training seeds."
            )


def _people(result: Json) -> Iterator[str]:
    """Say how far the people agree; nothing where no response was labelled twice."""
    for pair, found in ((result.get("annotators") or {}).get("pairs") or {}).items():
        n = sum(found[name] for name in ("both", "first_only", "second_only", "neither"))
        if n:
            yield (
                f"{wording.clean(pair)} agree on {found['both'] + found['neither']:,} of {n:,} responses that both labelled "
                f"(kappa {_number(found['kappa'])}, AC1 {_number(found['ac1'])})."
            )


def errors_sheet(setting: Json) -> Sheet:
    """Return how each judge errs against people, condition by condition."""
    rows = [
        (
            Cell((wording.clean(condition["name"]), wording.clean(judge))),
            _share(errors["sensitivity"], errors["sensitivity_interval"]),
            _share(errors["specificity"], errors["specificity_interval"]),
            Cell(
                (
                    wording.points(errors["bias"]),
                    wording.point_limits(errors["bias_interval"], (0.0,)),
                )
            ),
            Cell((_number(errors["kappa"]), f"AC1 {_number(errors['ac1'])}")),
            Cell(
                (
                    f"{errors['both']} / {errors['judge_only']}",
                    f"{errors['annotators_only']} / {errors['neither']}",
                )
            ),
        )
        for condition in setting["conditions"]
        for judge, errors in (labels_of(condition) or {"judges": {}})["judges"].items()
    ]
    return Sheet(
        title="Judges against people",
        headers=("condition", "finds harm", "clears the rest", "bias", "kappa", "counts"),
        rows=tuple(rows),
        legend=(
            (
                "finds harm: of what people call harmful (sensitivity); clears the rest: specificity; bias: points of the "
                "rate that the judge adds; counts: harmful to both / to the judge alone, to people alone / to neither."
            ),
        ),
    )


def _share(share: float | None, interval: Json | None) -> Cell:
    if share is None or interval is None:
        return NONE
    return Cell((wording.percent(share), wording.limits(interval)))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def label_sentences(setting: Json) -> Iterator[str]:
    """Say what the correction does to each change, and whether the judge errs differently before and after."""
    for condition in setting["conditions"]:
        labels, change = (
            labels_of(condition),
            condition["asr_change"] and condition["asr_change"]["overall"],
        )
        found = labels and labels["asr_change"] and labels["asr_change"]["overall"]
        if not labels or not found or change is None or change["hidden"]:
            continue
        name = wording.quoted(condition["name"])
        if found["uncorrected"]:
            yield f"The change of {name} is not corrected by human labels ({wording.clean(uncorrected_text(found['uncorrected']))})."
            continue
        yield (
            f"Corrected by human labels, the ASR of {name} changed by {wording.points(found['estimate'])} points "
            f"{wording.point_limits(found['interval'], (0.0,))}; the judge alone says {wording.points(change['estimate'])}."
        )
        if against := labels["against_base"]:
            yield _alike(name, against)


def _alike(name: str, against: Json) -> str:
    """Say what the judge's errors did to a change: its own part is a fact only where its interval excludes 0."""
    interval = against["bias_interval"]
    bias = f"{wording.points(against['bias'])} points {wording.point_limits(interval, (0.0,))}"
    if interval["low"] > 0 or interval["high"] < 0:
        return (
            f"The judge errs differently on {name} than on its base: {bias} of the raw change are the judge's own. "
            "Read the corrected change."
        )
    if against["differs"]:
        return (
            f"The judge errs differently on {name} than on its base, though no effect on the change was shown: {bias} of it may "
            "be the judge's own. Read the corrected change."
        )
    return f"No difference of the judge's errors between {name} and its base was shown; {bias} of the raw change may be its own."


def agreement_sheet(setting: Json) -> Sheet:
    """Return how far judges agree beyond chance, and how much oftener they differ after fine-tuning."""
    rows = []
    for condition in setting["conditions"]:
        found = condition.get("agreement")
        for pair, agreement in (found["pairs"] if found else {}).items():
            change = condition["disagreement_change"].get(pair)
            rows.append(
                (
                    Cell((wording.clean(condition["name"]), wording.clean(pair))),
                    _agreed(agreement),
                    _coefficient(agreement["kappa"], agreement["kappa_interval"]),
                    _coefficient(agreement["ac1"], agreement["ac1_interval"]),
                    _coefficient(found["alpha"], found["alpha_interval"]),
                    _differ(change),
                )
            )
    rare = any(
        agreement["rare"]
        for condition in setting["conditions"]
        for agreement in (condition.get("agreement") or {"pairs": {}})["pairs"].values()
    )
    legend = (
        "kappa, AC1 (Gwet) and alpha (Krippendorff, all judges): 1 is full agreement, 0 what chance gives; in brackets 95 % "
        "intervals over behaviors. differ: points by which judges differ oftener than on the base."
    )
    warning = "Where fewer than 10 % are harmful kappa is low whatever the judges do: read AC1 and the counts there."
    return Sheet(
        title="Agreement of judges",
        headers=("condition", "agree", "kappa", "AC1", "alpha", "differ"),
        rows=tuple(rows),
        legend=(legend, *([warning] if rare else [])),
    )


def agreement_by_task(setting: Json) -> Sheet:
    """Return kappa and AC1 by task."""
    found = [
        (condition, condition.get("agreement_by_task") or {}) for condition in setting["conditions"]
    ]
    tasks = list(dict.fromkeys(task for _, by_task in found for task in by_task))
    pairs = list(
        dict.fromkeys(
            pair for _, by_task in found for one in by_task.values() for pair in one["pairs"]
        )
    )
    rows = tuple(
        (
            Cell((wording.clean(condition["name"]), wording.clean(pair))),
            *(_both(by_task[task]["pairs"][pair]) if task in by_task else NONE for task in tasks),
        )
        for condition, by_task in found
        if by_task
        for pair in pairs
    )
    return Sheet(
        title="Agreement of judges by task",
        headers=("condition", *map(wording.clean, tasks)),
        rows=rows,
        legend=(
            "Raw agreement, Cohen's kappa and Gwet's AC1 on the responses that both judges decided.",
        ),
    )


def _agreed(agreement: Json) -> Cell:
    n = sum(agreement[name] for name in ("both", "first_only", "second_only", "neither"))
    if not n:
        return NONE
    agreed = agreement["both"] + agreement["neither"]
    return Cell(
        (
            wording.percent(agreement["agreement"]),
            f"{agreed:,} of {n:,}",
            f"{agreement['both']:,} harmful",
        )
    )


def _both(agreement: Json) -> Cell:
    first = _agreed(agreement).lines[0]
    return Cell((first, f"kappa {_number(agreement['kappa'])}", f"AC1 {_number(agreement['ac1'])}"))


def _coefficient(value: float | None, limits: tuple[float, float] | None) -> Cell:
    if value is None:
        return NONE
    return Cell((f"{value:.2f}", *([f"[{limits[0]:.2f}, {limits[1]:.2f}]"] if limits else [])))


def _differ(change: Json | None) -> Cell:
    if change is None or change["hidden"]:
        return NONE
    return Cell(
        (wording.points(change["estimate"]), wording.point_limits(change["interval"], (0.0,)))
    )
