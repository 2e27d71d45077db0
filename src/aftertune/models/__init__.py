"""Opens a model reference once and offers what the stages need of it."""
