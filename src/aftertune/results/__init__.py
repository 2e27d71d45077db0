"""The result of a run, built and written."""
