"""The embedded model: a tiny aligned language model, its world, its own judge and guard."""
