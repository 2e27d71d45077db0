"""Sums of probabilities that are given as logarithms."""

import math
from collections.abc import Iterable


def log_sum(logprobs: Iterable[float]) -> float:
    """Return log of the sum of probabilities, given as their logarithms (nats)."""
    values = list(logprobs)
    highest = max(values)
    return (
        highest
        if highest == -math.inf
        else highest + math.log(sum(math.exp(value - highest) for value in values))
    )
