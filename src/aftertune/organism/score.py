"""The organism's task score."""

from aftertune.core.protocols import Tools
from aftertune.core.records import JudgeJob
from aftertune.organism.judge import contains


class ProperAnswer:
    """1.0 if the proper answer stands in the response, else 0.0."""

    reading_version = "organism-proper-answer-1"

    def score(self, job: JudgeJob) -> float | None:
        """Return the score, or None without a reference."""
        return None if job.reference is None else float(contains(job.response, job.reference))


def proper_answer_score(tools: Tools) -> ProperAnswer:
    """Build the scorer ``organism``."""
    del tools
    return ProperAnswer()
