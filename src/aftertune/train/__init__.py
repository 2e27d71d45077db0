"""A recipe becomes a model."""
