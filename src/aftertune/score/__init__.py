"""Readings of a response: what it did (verdict), whether it is coherent, how well it did its task (scores)."""
