"""Judges decide what a response did; coherence and task scores are read beside them."""
