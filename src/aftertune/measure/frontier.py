"""The plane of over-refusal and ASR: every training seed as a point of its own."""

from collections.abc import Mapping

from aftertune.measure.averaging import Layout, fold
from aftertune.measure.cells import N
from aftertune.measure.crossed import Matrix
from aftertune.measure.grids import Grid
from aftertune.measure.rates import Kind
from aftertune.measure.results import SeedRates

OVERALL = "overall"


def seed_rates(own: Grid, harmful: Kind, refused: Kind) -> Mapping[str, tuple[SeedRates, ...]]:
    """Return the rates of every training seed, overall and by task; a task without benign prompts has none."""
    names = own.cells.names["task"]
    parts = [(OVERALL, "overall", 0), *((name, "task", code) for code, name in enumerate(names))]
    found = {}
    for name, dimension, code in parts:
        one, other = (
            own.choose(dimension, code, own.intent(harmful=intent)) for intent in (True, False)
        )
        if one is not None and other is not None:
            rates = (_means(own, part, what) for part, what in ((one, harmful), (other, refused)))
            found[name] = tuple(
                SeedRates(asr=float(asr), over_refusal=float(over))
                for asr, over in zip(*rates, strict=True)
            )
    return found


def _means(own: Grid, part: Layout, what: Kind) -> Matrix:
    means: Matrix = fold(part, own.counts(what.hit), own.counts(N)).matrix.mean(axis=0)
    return means
