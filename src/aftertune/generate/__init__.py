"""Cells become calls, and calls responses."""
