"""The only SQL: every call, its answer, and what was read in it, in one SQLite file keyed by content."""

from aftertune.store.answered import Answered, Seen
from aftertune.store.details import Details, answer_details, scorer_versions, thinking_counts
from aftertune.store.jobs import PlannedJob
from aftertune.store.readings import Reading, Unread
from aftertune.store.store import Store
from aftertune.store.work import Backlog, Counts

__all__ = [
    "Answered",
    "Backlog",
    "Counts",
    "Details",
    "PlannedJob",
    "Reading",
    "Seen",
    "Store",
    "Unread",
    "answer_details",
    "scorer_versions",
    "thinking_counts",
]
