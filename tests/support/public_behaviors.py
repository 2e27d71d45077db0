"""The behaviors in a file of a public data set, without the prompts that loaders make of them."""

from collections import Counter

from aftertune.data.public import public_set
from aftertune.data.public_files import open_source, read_behaviors


def behaviors(name, path):
    """Yield (row number, behavior, reference) of a public set's file."""
    public = public_set(name)
    entries, _ = open_source(public, path, hub=False)
    return read_behaviors(public, entries, Counter())
