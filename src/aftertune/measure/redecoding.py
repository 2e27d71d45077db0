"""What decoding these checkpoints anew on these very prompts would give: the narrowest of the four scopes.

Neither behaviors nor training seeds are drawn, so that only the repeats inside a prompt vary. Rates of two models move
independently then, whatever their prompts share.
"""

from aftertune.measure.averaging import Layout, fold
from aftertune.measure.cells import N, Tally
from aftertune.measure.crossed import quantiles
from aftertune.measure.intervals import Bounds, join, wilson
from aftertune.measure.pooling import Pooled, decoding_noise
from aftertune.measure.results import Interval, scope_of_checkpoints


def redecoded_rate(own: Pooled, part: Layout, hit: Tally) -> Interval | None:
    """Return the 95 % interval of the rate that very many decodings would give; None where a prompt was asked once."""
    found = redecoded_limits(own, part, hit)
    return None if found is None else _interval(found[1], "Wilson on the repeats", own.seeds)


def redecoded_change(tuned: Pooled, base: Pooled, part: Layout, hit: Tally) -> Interval | None:
    """Return the same of the change against the base (MOVER of both rates, unpaired); None where either is unknown."""
    one, other = (redecoded_limits(arm, part, hit) for arm in (tuned, base))
    if one is None or other is None:
        return None
    return _interval(
        join(one[0], one[1], other[0], other[1], 0.0), "MOVER-Wilson on the repeats", tuned.seeds
    )


def redecoded_limits(own: Pooled, part: Layout, hit: Tally) -> tuple[float, Bounds] | None:
    """Return a rate and the limits of its expectation over decodings.

    ``V = sum v_ij / (n S)^2``, v the variance that decoding gives each cell; Wilson on p (1 - p) / V draws, shrunk for the
    ``2 (sum v)^2 / sum v^2`` degrees of freedom of V. Where nothing flipped, the responses themselves: with prompts fixed
    a rate never varies by more than independent draws would (Hoeffding, 1956, Ann Math Stat 27:713).
    """
    noise = decoding_noise(own, part, hit)
    if noise is None:
        return None
    average = fold(part, own.counts(hit), own.counts(N))
    p, total, squares = average.two_way.mean, float(noise.sum()), float((noise**2).sum())
    if not (0 < p < 1 and total > 0):
        return p, wilson(p, average.responses)
    z, t = quantiles(0.05, 2 * total**2 / squares)
    return p, wilson(p, max(1.0, p * (1 - p) * noise.size**2 / total * (z / t) ** 2))


def _interval(limits: Bounds, method: str, seeds: int) -> Interval:
    return Interval(
        low=limits[0],
        high=limits[1],
        level=0.95,
        method=method,
        scope=scope_of_checkpoints(seeds, these_prompts=True),
    )
