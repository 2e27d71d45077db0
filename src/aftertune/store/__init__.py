"""The only SQL: every call, its answer and its scores, in one SQLite file keyed by content."""

from aftertune.store.calls import PlannedJob
from aftertune.store.responses import Details, Thinking
from aftertune.store.scores import Backlog, Scored, ScorerKind, Unscored
from aftertune.store.store import Counts, Store

__all__ = [
    "Backlog",
    "Counts",
    "Details",
    "PlannedJob",
    "Scored",
    "ScorerKind",
    "Store",
    "Thinking",
    "Unscored",
]
