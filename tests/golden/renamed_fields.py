"""Where the fields of result.json went since version 0.1.0; `golden_results.py` reads old results through this table.

A path is written with ``/`` between its parts; ``*`` is any one part (an index, a name).
"""

RENAMED: dict[str, str] = {
    "people_only": "annotators_only",
}
"""A field's name anywhere -> its new name."""

MOVED: dict[str, str] = {
    "prompts/asked": "prompts/count",
    "result/people": "result/annotators",
    "labels/people": "labels/annotators",
}
"""The old path of a node -> its new path, in which each ``*`` stands for the part that matched the old path's; applied
before `RENAMED`, the first that matches."""

GONE: tuple[str, ...] = ("format",)
"""Old paths of nodes that are no longer written, or that changed on purpose: the format is 2 now."""
