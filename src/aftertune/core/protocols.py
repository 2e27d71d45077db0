"""The seams: what an engine, a judge, a guard, a scorer and a comparer must offer.

A Protocol takes an iterable of jobs and yields ``(key, record)`` as each is done, so batches on a GPU and a thousand
open sockets look the same from outside. A *call* costs and is stored under its key; a *reading* is derived from it by
`read`, carries a version, and is free to redo.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from aftertune.core.counts import Scored
from aftertune.core.ids import Key
from aftertune.core.records import (
    Attempt,
    CompareJob,
    Decision,
    Decoding,
    GenerateJob,
    GuardJob,
    JudgeJob,
    Message,
    Preference,
    Price,
    Question,
    Response,
    Side,
    Verdict,
)
from aftertune.errors import PluginError

Answer = Response | Attempt


class Engine(Protocol):
    """An opened model. Opening is cheap (tokenizer and hashes); weights load at the first call that needs them.

    Nobody outside `aftertune.models` asks which class an engine is: what depends on it is an attribute here.
    """

    name: str
    """The model's name in messages and tables."""
    identity: Mapping[str, object]
    """Everything about the model that decides its answers: weights hash, adapter hash, engine, dtype, quantisation."""

    @property
    def remote(self) -> bool:
        """Return whether somebody else's machine answers, so that other remote engines can be asked meanwhile.

        `generate` of a remote engine may be called from a thread of its own beside other engines.
        """
        ...

    @property
    def served(self) -> bool:
        """Return whether a server gives texts only, so that `nll` and `choice_logprobs` raise `EngineError`."""
        ...

    @property
    def by_batch(self) -> bool:
        """Return whether a provider's batch service answers: cheaper, and all that is asked together should come in one call."""
        ...

    @property
    def price(self) -> Price | None:
        """Return the price of a token as this model is asked (`FREE` on this machine), None where it is not known."""
        ...

    @property
    def price_source(self) -> str:
        """Return where `price` comes from, or why it is not known; empty on this machine."""
        ...

    @property
    def folds_system(self) -> bool:
        """Return whether the chat template has no system turn, so that its text stands at the head of the user's turn."""
        ...

    @property
    def moderates(self) -> bool:
        """Return whether questions to a moderation service (`Question.moderated`) can be sent to this engine."""
        ...

    @property
    def destination(self) -> str:
        """Return who outside this machine and its network receives the prompts (a base URL, a provider); else empty."""
        ...

    def check_ready(self) -> None:
        """Raise `ModelError` where a call cannot succeed or be accounted for: a key or a price is missing. Asks nobody."""
        ...

    def input_tokens(self, jobs: Sequence[GenerateJob]) -> list[int] | None:
        """Return how many tokens each job puts to the model; None where only the server has the tokenizer.

        Loads no weights and asks nobody.
        """
        ...

    def keys(
        self, conversations: Sequence[Sequence[Message]], decoding: Decoding, sample: int
    ) -> list[Key]:
        """Return the key of each call: identity, rendered input tokens, merged decoding settings, seed and sample."""
        ...

    def generate(self, jobs: Iterable[GenerateJob]) -> Iterator[tuple[Key, Answer]]:
        """Answer each job, in any order."""
        ...

    def interrupt(self) -> None:
        """End a `generate` that runs in another thread, as Ctrl-C does in the main thread; a local engine does nothing."""
        ...

    def unknown_share(self, texts: Sequence[str]) -> float:
        """Return the share of ``<unk>`` tokens in ``texts``; 0.0 for an engine that cannot tell."""
        ...

    def choice_logprobs(
        self, prompts: Sequence[Sequence[Message]], choices: Sequence[str]
    ) -> list[list[float]]:
        """Return log P(choice | prompt) for every prompt (rows) and choice (columns), natural logarithm.

        Markers of the chat template in what the messages say are broken: this is how guards and judges ask about texts
        that others wrote.
        """
        ...

    def nll(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[float]:
        """Return the mean negative log-likelihood per token (nats) of each answer given its prompt."""
        ...

    def close(self) -> None:
        """Free the weights."""
        ...


class Judge(Protocol):
    """Decides what a response did."""

    call_identity: Mapping[str, object] | None
    """What decides the content of a call (model, rubric hash); None for a judge that needs no call, whose ``read`` is
    given an empty reply."""
    reading_version: str
    """The version of the parser and of its thresholds."""
    kind: str
    """``rules``, ``rubric``, ``classifier`` or ``grammar``: a claim needs two judges of different kinds."""

    def ask(self, jobs: Iterable[JudgeJob]) -> Iterator[tuple[Key, Answer]]:
        """Make the calls; never called when ``call_identity`` is None."""
        ...

    def read(self, job: JudgeJob, reply: Response | None) -> Verdict:
        """Read the reply; garbage, silence or the judge's own refusal is ``undecided``, never a label."""
        ...


class Guard(Protocol):
    """Screens a prompt, a response, or both."""

    call_identity: Mapping[str, object]
    reading_version: str
    sides: tuple[Side, ...]

    def ask(self, jobs: Iterable[GuardJob]) -> Iterator[tuple[Key, Answer]]:
        """Make the calls."""
        ...

    def read(self, job: GuardJob, reply: Response) -> Decision:
        """Read the reply; what cannot be read is ``undecided``."""
        ...


class Scorer(Protocol):
    """Scores a response against the prompt's reference (chrF, accuracy, exact match)."""

    reading_version: str

    def score(self, job: JudgeJob) -> float | Scored | None:
        """Return a score in [0, 1], with counts for a corpus metric if it has one; None where nothing can be compared."""
        ...


class Comparer(Protocol):
    """Says which of two answers to a prompt is better."""

    call_identity: Mapping[str, object]
    reading_version: str

    def ask(self, jobs: Iterable[CompareJob]) -> Iterator[tuple[Key, Answer]]:
        """Make the calls."""
        ...

    def read(self, job: CompareJob, reply: Response) -> Preference:
        """Read the reply; garbage, silence or a refusal is ``undecided``, never a tie."""
        ...


@runtime_checkable
class Foreseeable(Protocol):
    """A judge, guard or comparer that says beforehand what its calls will be; one that does not is costed by its options.

    Attributes:
        engine: the model that is asked.
        max_new_tokens: the longest reply.
    """

    engine: Engine
    max_new_tokens: int

    def questions(self, job: Any) -> tuple[Question, ...]:
        """Return what is asked about a job, a call each; nothing where none is made."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the pipeline hands to the factory of a judge, guard or scorer."""

    open_model: Callable[[str], Engine]
    """Opens a model reference (once per reference; repeated calls give the same engine)."""
    folder: Path
    """The folder that relative paths in the user's file are relative to."""

    def reference(self, model: str) -> str:
        """Return a model reference as `open_model` takes it: a folder relative to `folder` is made absolute."""
        own = self.folder / model
        return str(own) if own.is_dir() else model


def no_model(reference: str) -> Engine:
    """Refuse to open a model: the `Tools.open_model` of places that only look at data.

    Raises:
        PluginError: always.
    """
    raise PluginError(f"no model can be opened here, and so not {reference}")
