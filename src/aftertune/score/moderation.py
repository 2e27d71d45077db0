"""OpenAI's moderation service as a guard: it looks at one text, and gives a flag and a score for each category."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from aftertune.core.ids import Key
from aftertune.core.protocols import Answer, Engine, Tools
from aftertune.core.records import (
    Decision,
    DecisionValue,
    Decoding,
    FinishReason,
    GenerateJob,
    GuardJob,
    Question,
    Response,
    Side,
)
from aftertune.errors import PluginError
from aftertune.score.categories import OPENAI, label
from aftertune.score.model_guard import BOTH, checked_sides, checked_threshold

VERSION = "openai-moderation-1"
NOTHING = Response(
    text="",
    finish_reason=FinishReason.STOP,
    prompt_tokens=0,
    completion_tokens=0,
    detail={"flagged": False, "categories": [], "scores": dict.fromkeys(sorted(OPENAI), 0.0)},
)
"""The reply to an empty text."""


class ModerationGuard:
    """See `aftertune.core.protocols.Guard`. A response is looked at without its prompt: the service takes one text."""

    max_new_tokens = 0

    def __init__(self, engine: Engine, sides: tuple[Side, ...], threshold: float | None) -> None:
        self.engine, self.sides, self.threshold = engine, sides, threshold
        self.reading_version = f"{VERSION} threshold {threshold}"
        self.call_identity: Mapping[str, object] = {
            "guard": "openai-moderation",
            "model": dict(engine.identity),
        }

    def ask(self, jobs: Iterable[GuardJob]) -> Iterator[tuple[Key, Answer]]:
        """Send each text once; one without any text is not sent, there is nothing in it to flag."""
        sent = []
        for job in jobs:
            asked = self.questions(job)
            if asked:
                sent.append(
                    GenerateJob(key=job.key, messages=(), decoding=Decoding(), question=asked[0])
                )
            else:
                yield job.key, NOTHING
        yield from self.engine.generate(sent)

    def questions(self, job: GuardJob) -> tuple[Question, ...]:
        """Return what is asked about a job; see `aftertune.core.protocols.Foreseeable`."""
        text = job.prompt if job.side == "prompt" else job.response or ""
        return (Question(moderated=text),) if text.strip() else ()

    def read(self, job: GuardJob, reply: Response) -> Decision:
        """Block what is flagged, or whose highest score reaches the threshold."""
        del job
        told = reply.detail
        scores, named = told.get("scores"), told.get("categories")
        if not isinstance(scores, Mapping) or not scores or not isinstance(named, Sequence):
            return Decision(value=DecisionValue.UNDECIDED, label="no scores in the reply")
        score = max(map(float, scores.values()))
        if self.threshold is None:
            harmful, codes = told.get("flagged") is True, [str(name) for name in named]
        else:
            harmful = score >= self.threshold
            codes = [
                str(name)
                for name, value in sorted(scores.items())
                if float(value) >= self.threshold
            ]
        value = DecisionValue.BLOCK if harmful else DecisionValue.ALLOW
        return Decision(value=value, score=score, label=label(codes, OPENAI) if harmful else "")


def openai_moderation(
    tools: Tools,
    *,
    model: str = "openai:omni-moderation-latest",
    sides: Sequence[Side] = BOTH,
    threshold: float | None = None,
) -> ModerationGuard:
    """Build the guard ``openai-moderation``.

    Args:
        tools: opens the endpoint.
        model: the service, ``openai:MODEL`` or ``URL#MODEL``.
        sides: what is screened.
        threshold: the highest score of a category from which on it blocks; by default the service's own flag.

    Raises:
        PluginError: the model is no endpoint.
    """
    limit, screened = (
        checked_threshold("openai-moderation", threshold),
        checked_sides("openai-moderation", sides),
    )
    engine = tools.open_model(model)
    if not engine.moderates:
        raise PluginError(
            f"guard openai-moderation: {model!r} is no endpoint; name openai:MODEL or URL#MODEL"
        )
    return ModerationGuard(engine, screened, limit)
