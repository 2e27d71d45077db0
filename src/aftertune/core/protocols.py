"""The seams of the system: what an engine and a scorer must offer, and what their factories are given.

An engine takes an iterable of jobs and yields ``(key, answer)`` as each is done, so batches on a GPU and a thousand open
sockets look the same from outside. A *call* costs and is stored under its key; a *score* is derived from calls, carries a
version, and is free to redo.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from aftertune.core.keys import Key
from aftertune.core.records import (
    Attempt,
    Decoding,
    GenerateJob,
    Message,
    Price,
    Question,
    Response,
    Role,
    Sample,
    Score,
    Side,
    Thinking,
)
from aftertune.errors import PluginError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Answer = Response | Attempt
Distribution: TypeAlias = "NDArray[np.float32]"
"""The logarithms of probabilities, one a token of a vocabulary."""


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
    def deterministic(self) -> bool:
        """Return whether the same call has the same answer whenever it is made, so that its replicates are one call."""
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
    def begins_turn(self) -> bool:
        """Return whether the model's own turn is begun for it; False for a chat template without a generation prompt."""
        ...

    @property
    def continues_answers(self) -> bool:
        """Return whether the model goes on behind the beginning of an answer, given as the last turn of a conversation."""
        ...

    @property
    def refusals(self) -> str:
        """Return what a server refuses to be sent, and what it is sent instead, in words; empty where nothing is refused."""
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

    def altered(self, job: GenerateJob) -> Mapping[str, object]:
        """Return the fields of a job's request that differ from the usual ones because of `refusals`; empty as a rule."""
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
        """Answer each job, in any order.

        Raises:
            KeysChanged: a server refuses a setting, and `refusals` says so now: `keys` gives other keys, and jobs that
                were not answered are to be planned anew.
        """
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

    def nll_without_adapter(
        self, pairs: Sequence[tuple[Sequence[Message], str]]
    ) -> list[float] | None:
        """Return what `nll` gives with the model's adapter off, in the same memory and batches.

        Whatever differs is the adapter's doing and no rounding. None for a model without adapter, one whose adapter changed
        its base, and one that gives no likelihoods.
        """
        ...

    def first_token_logprobs(
        self, prompts: Sequence[Sequence[Message]], thinking: Thinking
    ) -> "Sequence[Distribution | None]":
        """Return log P(first token of the answer), nats, over the whole vocabulary, for each prompt.

        One forward pass serves a prompt. None for one that fills the model's context.
        """
        ...

    @property
    def token_names(self) -> str:
        """Return the hash of what each token's number stands for; empty where only a server knows."""
        ...

    def close(self) -> None:
        """Free the weights."""
        ...


class TextClassifier(Engine, Protocol):
    """A text classifier: it answers `Question.classified`, and its reply's ``detail["logits"]`` has a logit for each label.

    A text that is longer than the model reads is cut at its end; the reply's ``detail["of_tokens"]`` then has the number of
    tokens of the whole.
    """

    labels: tuple[str, ...]
    """The names of its labels, in the order of their logits."""
    independent: bool
    """True where each label has a probability of its own (sigmoid), False where all share one (softmax)."""


class Scorer(Protocol):
    """A judge, guard, metric, preference or coherence detector: it asks questions about a sample and scores the replies.

    A plug-in inherits from this class and takes over the defaults: a scorer of responses that makes no calls. What it asks
    and what it makes of the replies are two things: replies are stored under a key (`identity` and the sample) and are paid
    for once; scores are stored with `version` and are free to redo.
    """

    role: Role
    version: str
    """The version of the parser and its thresholds; another version scores again, from the same replies."""
    identity: Mapping[str, object] | None = None
    """Everything that decides the content of a call (model, question, retries); None for a scorer that makes none."""
    kind: str = "rules"
    """The way in which a judge works: ``rules``, ``rubric``, ``classifier``, ``grammar``; a claim needs two judges of different kinds."""
    notes: tuple[str, ...] = ()
    """Sentences on how it was built that the readers of its figures have to know."""
    sides: tuple[Side, ...] = ("response",)
    """The side that is scored; a guard may screen the prompt too."""
    engine: Engine | None = None
    """The model that is asked; None for a scorer that makes no calls."""
    max_new_tokens: int = 0
    """The longest reply, in tokens."""
    retries: int = 0
    """The number of times that a question is asked again, at temperature 0.7, while its reply makes an undecided score."""

    def questions(self, sample: Sample) -> Sequence[Question]:
        """Return the questions about a sample; none where it can be scored without a call."""
        del sample
        return ()

    def score(self, sample: Sample, replies: Sequence[Response] = ()) -> Score:
        """Return the score of a sample, given the reply to each of its questions.

        Garbage, silence or the model's own refusal is ``undecided``, never a label. No replies where nothing was asked.
        """
        ...


def no_model(reference: str) -> Engine:
    """Refuse to open a model: the `Tools.open_model` of places that only look at data.

    Raises:
        PluginError: always.
    """
    raise PluginError(f"no model can be opened here, and so not {reference}")


def no_classifier(reference: str) -> TextClassifier:
    """Refuse to open a text classifier, as `no_model` does a model.

    Raises:
        PluginError: always.
    """
    raise PluginError(f"no text classifier can be opened here, and so not {reference}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The means that the factory of a scorer or prompt set is given."""

    open_model: Callable[[str], Engine]
    """Opens a model reference (once per reference; repeated calls give the same engine)."""
    folder: Path
    """The folder that relative paths in the user's file are relative to."""
    open_classifier: Callable[[str], TextClassifier] = no_classifier
    """Opens a text classifier, likewise."""

    def reference(self, model: str) -> str:
        """Return a model reference as `open_model` takes it: a folder relative to `folder` is made absolute."""
        own = self.folder / model
        return str(own) if own.is_dir() else model
