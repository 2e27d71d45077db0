"""A comparer: which of two answers to a benign prompt helps more, asked of a model and read from a structured reply.

The pipeline shows every pair in both orders, since models prefer a place; this module knows of one order at a time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from aftertune.core.foreign import filled, marker_pattern, neutralised
from aftertune.core.ids import Key, content_key
from aftertune.core.protocols import Answer, Engine, Tools
from aftertune.core.records import CompareJob, Decoding, Message, Preference, Question, Response
from aftertune.models.asking import ask
from aftertune.models.wordings import from_file
from aftertune.score.replies import VERSION, one_object
from aftertune.score.rubric import SHOWN, checked_retries, shortened

SHIPPED = Path(__file__).with_name("comparers") / "question.txt"
NAMES = ("prompt", "first", "second")
_MARKERS = marker_pattern()
_SAID = {"a": Preference.FIRST, "b": Preference.SECOND, "tie": Preference.TIE}
_MAX_NEW_TOKENS = 300
_RETRY_TEMPERATURE = 0.7


class WinRate:
    """See `aftertune.core.protocols.Comparer`. A reply that cannot be read is asked for again, as `judge.rubric` does."""

    def __init__(self, engine: Engine, question: str, retries: int) -> None:
        self.engine, self._question, self.max_new_tokens = engine, question, _MAX_NEW_TOKENS
        first = Decoding(max_new_tokens=_MAX_NEW_TOKENS)
        self._decodings = (
            first,
            *(
                replace(first, temperature=_RETRY_TEMPERATURE, seed=number)
                for number in range(1, retries + 1)
            ),
        )
        self.reading_version = f"better {VERSION}"
        self.call_identity: Mapping[str, object] = {
            "comparer": "win-rate",
            "question": content_key(question).hex(),
            "retries": [retries, _RETRY_TEMPERATURE, self.reading_version],
            "max_new_tokens": _MAX_NEW_TOKENS,
            "shown": SHOWN,
            "model": dict(engine.identity),
        }

    def ask(self, jobs: Iterable[CompareJob]) -> Iterator[tuple[Key, Answer]]:
        """Put each pair to the model, in the order of the job."""
        return ask(
            self.engine, ((job.key, self.question(job)) for job in jobs), self._decodings, _readable
        )

    def read(self, job: CompareJob, reply: Response) -> Preference:
        """Read the reply; what the answers say of themselves is never looked at."""
        del job
        return preference(reply)

    def question(self, job: CompareJob) -> Question:
        """Return the question about a pair: its texts stand between lines that nobody can have foreseen, markers broken."""
        parts = {
            name: neutralised(shortened(text), _MARKERS)
            for name, text in zip(NAMES, (job.prompt, job.first, job.second), strict=True)
        }
        mark = content_key("mark", job.prompt, job.first, job.second).hex()[:8]
        content = filled(self._question, {"mark": mark, **parts})
        return Question(messages=(Message(role="user", content=content),))

    def questions(self, job: CompareJob) -> tuple[Question, ...]:
        """Return what is asked about a pair in one order; see `aftertune.core.protocols.Foreseeable`."""
        return (self.question(job),)


def preference(reply: Response) -> Preference:
    """Read the one JSON object that a reply has to be; everything else is undecided."""
    found = one_object(reply.text)
    said = None if found is None else found.get("better")
    return (
        _SAID.get(said.strip().casefold(), Preference.UNDECIDED)
        if isinstance(said, str)
        else Preference.UNDECIDED
    )


def _readable(reply: Response) -> bool:
    return preference(reply) is not Preference.UNDECIDED


def win_rate(tools: Tools, *, model: str, prompt: str | None = None, retries: int = 2) -> WinRate:
    """Build the comparer ``win-rate``: the more helpful of two answers, or a tie.

    Args:
        tools: opens the model.
        model: any model: hub id, folder relative to the study's, or endpoint.
        prompt: a file with another question (``{prompt}``, ``{first}``, ``{second}``) whose reply has the same form.
        retries: how often an unreadable reply is asked for again, drawn at temperature 0.7.

    Raises:
        PluginError: the file is missing, or lacks a placeholder.
    """
    shipped = SHIPPED.read_text(encoding="utf-8")
    question = (
        shipped if prompt is None else from_file(tools.folder / prompt, NAMES, "comparer win-rate")
    )
    tries = checked_retries(retries, "comparer win-rate")
    return WinRate(tools.open_model(tools.reference(model)), question, tries)
