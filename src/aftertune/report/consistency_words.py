"""Consistency in the words of somebody who has to act on it: what two labs would find.

Works on the JSON form of the result (``ConsistencyResult.to_json()``; format 1).
"""

from collections.abc import Iterator

from aftertune.report import wording
from aftertune.report.cells import Json, rate_name

FRACTIONS = (
    (1 / 100, "one time in a hundred"),
    (1 / 50, "one time in fifty"),
    (1 / 20, "one time in twenty"),
    (1 / 10, "one time in ten"),
    (1 / 7, "one time in seven"),
    (1 / 5, "one time in five"),
    (1 / 4, "one time in four"),
    (1 / 3, "one time in three"),
    (1 / 2, "every second time"),
    (2 / 3, "two times in three"),
    (3 / 4, "three times in four"),
    (4 / 5, "four times in five"),
    (9 / 10, "nine times in ten"),
    (19 / 20, "nineteen times in twenty"),
)


def times(p: float) -> str:
    """Return a probability as a frequency: ``one time in three``; the nearest that has a plain name."""
    if p < 0.0075:
        return "less than one time in a hundred"
    if p > 0.975:
        return "nearly always"
    return min(FRACTIONS, key=lambda fraction: abs(fraction[0] - p))[1]


def chance(p: float | None) -> str:
    """Return a probability in percent, which is never certain."""
    if p is None:
        return "-"
    return "> 99 %" if p > 0.99 else "< 1 %" if p < 0.01 else wording.percent(p)


def limit(value: float | None) -> str:
    """Return a limit in points: ``9.4``, ``unknown`` where the design cannot tell, ``none seen`` where nothing flipped."""
    if value is None:
        return "unknown"
    return "<0.1" if 0 < value < 0.0005 else f"{100 * value:.1f}" if value else "none seen"


def where(entry: Json) -> str:
    """Return what an entry is about."""
    return wording.clean(entry["task"] or "overall")


def sentences(result: Json, entry: Json) -> Iterator[str]:
    """Yield what one entry says about another lab."""
    limits, rate = entry["limits"], rate_name(result)
    if (again := limits["repeatability"]) == 0:
        yield "Asked the same prompts again, the same model turned no answer, so how far it moves was not seen."
    elif again is not None:
        yield (
            f"Asking the same model the same prompts again moves the {rate} by at most {100 * again:.1f} points, nineteen "
            "times in twenty."
        )
    yield from _redecoded(rate, entry)
    seeds = entry["components"]["seeds"]
    if limits["reproducibility"] is None:
        if seeds == 1 and entry["base"] is not None:
            yield "One training seed says nothing of what another one would give: train more of them."
        elif seeds > 1:
            yield "All training seeds gave the very same rate, which says nothing of how far another one may lie off."
        return
    apart = limits["differing"]["10"]
    yield (
        f"Two labs running one training seed each on these prompts would differ by more than 10 points {times(apart)} "
        f"({chance(apart)}); once in twenty by more than {100 * limits['reproducibility']:.1f} points"
        f"{_between(limits['reproducibility_interval'])}. With {wording.plural(seeds, 'seed')} each that limit is "
        f"{100 * limits['of_means']:.1f}."
    )
    yield from _again(rate, entry)


def _redecoded(rate: str, entry: Json) -> Iterator[str]:
    if (here := entry.get("redecoded")) is None:
        return
    change = entry.get("redecoded_change")
    against = "" if change is None else f", and {wording.point_limits(change)} points from its base"
    models = "this model" if entry["components"]["seeds"] == 1 else "these models"
    yield f"A great many answers of {models} to these very prompts would put the {rate} in {wording.limits(here)} %{against} (95 %)."


def _between(interval: list[float]) -> str:
    low, high = (f"{100 * end:.1f}" for end in interval)
    return f" (very many seeds would say {low} to {high})"


def _again(rate: str, entry: Json) -> Iterator[str]:
    found = entry["reproduction"]
    if found is None:
        return
    seeds, change = entry["components"]["seeds"], found["change"]
    direction = "rise" if change["estimate"] > 0 else "fall"
    yield (
        f"Another lab with one seed would find a {direction} of the {rate} too with probability "
        f"{chance(found['same_sign'])}; with {wording.plural(seeds, 'seed')}, {chance(found['same_sign_of_means'])}."
    )
    if found["significant"] is None:
        yield f"The {direction} is not significant here, so its significance is nothing to be found again."
    else:
        yield f"That it would be significant again with as many seeds: {chance(found['significant'])}."
    if (here := found.get("these_prompts")) is not None:
        yield (
            f"On these very prompts, a great many training seeds would change the {rate} by {wording.point_limits(here)} points "
            "(95 %)."
        )


def legend_of_limits(result: Json) -> tuple[str, ...]:
    """Return what the columns of the limits mean."""
    settings = wording.plural(len(result["settings"]), "setting")
    sentence = (
        f"{rate_name(result)}: averaged over {settings} (system prompt x decoding); "
        "seeds: lowest and highest of the training seeds. Limits in points, exceeded once in twenty: repeated, the same "
        "model decoded anew (none seen: no answer turned); new seed, two labs with one training seed each (in brackets what very many seeds might say); "
        "apart: probability that these two labs differ by more than 5 and 10 points. All on these prompts."
    )
    return (sentence,)
