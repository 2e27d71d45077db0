"""Finished fine-tunes are mended in their weights: candidates of every strength, one chosen by a declared rule, and its proof."""
