"""Hooks into other tools: Inspect runs our prompt sets and scorers."""
