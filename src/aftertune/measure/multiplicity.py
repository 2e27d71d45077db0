"""Families of tests: adjusted p-values."""

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that rejecting those at or under alpha errs anywhere with at most alpha.

    Source: Holm (1979), Scand J Statist 6:65.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, (len(order) - rank) * p_values[index])
        adjusted[index] = min(1.0, largest)
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that rejecting those at or under q keeps the false discovery rate at q.

    Source: Benjamini and Hochberg (1995), J R Statist Soc B 57:289; valid under positive dependence.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__, reverse=True)
    adjusted = [0.0] * len(p_values)
    smallest = 1.0
    for place, index in enumerate(order):
        smallest = min(smallest, len(order) / (len(order) - place) * p_values[index])
        adjusted[index] = smallest
    return adjusted
