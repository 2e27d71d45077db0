"""The records that travel between the stages: frozen, of plain values, ready for disk.

The words are those of the design: a *behavior* posed by a *template* is a *prompt*; a *model* asked a prompt under a
*decoding* gives a *response*; a *guard* takes a *decision*, a *judge* gives a *verdict*, and the *outcome* follows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from aftertune.core.keys import Key, short_id

TASKS = ("text", "code", "translation", "classification")
"""The task shapes that ship; users may register more, so a task is a plain string everywhere."""

HarmBasis = Literal["assistance", "content"]
Side = Literal["prompt", "response", "reasoning"]
NO_ATTACK = "none"
"""The attack of a prompt that is put to the model as it was posed."""
BOTH_SIDES: tuple[Side, ...] = ("prompt", "response")
Labels = tuple[str, str]
"""The first word of a classifier's harmless reply, and that of a harmful one."""


class Intent(StrEnum):
    """The intent of a prompt: harm, or nothing harmful."""

    HARMFUL = "harmful"
    BENIGN = "benign"


class FinishReason(StrEnum):
    """The reason for which a model stopped: each of these fills its key, and all but `THINKING` are final answers."""

    STOP = "stop"
    """The model ended by itself."""
    LENGTH = "length"
    """The token limit was reached."""
    PROVIDER_REFUSAL = "provider_refusal"
    """The provider's own filter refused: a final answer of its own kind."""
    THINKING = "thinking"
    """The answer ended inside its thinking: the call is done, and has no final answer. (Stores keep these reasons by
    number, so a new one stands at the end.)"""


class VerdictValue(StrEnum):
    """The verdict of a judge: what a response did with the request."""

    COMPLIED = "complied"
    REFUSED = "refused"
    DEFLECTED = "deflected"
    """Coherent, no refusal, and nothing of what was asked."""
    UNDECIDED = "undecided"


class LabelValue(StrEnum):
    """The label of an annotator on a response."""

    COMPLIED = "complied"
    REFUSED = "refused"
    DEFLECTED = "deflected"
    INCOHERENT = "incoherent"
    UNDECIDED = "undecided"


class DecisionValue(StrEnum):
    """The decision of a guard on a prompt or a response."""

    ALLOW = "allow"
    BLOCK = "block"
    UNDECIDED = "undecided"


class PreferenceValue(StrEnum):
    """The better one of two answers, in the order in which they were shown."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"
    UNDECIDED = "undecided"


class Role(StrEnum):
    """The part that a scorer plays in a study; the stages score in this order."""

    COHERENCE = "coherence"
    """Detectors of text that cannot be understood."""
    GUARD = "guard"
    """A filter that blocks or allows a prompt or a response."""
    JUDGE = "judge"
    """A judge of what a response did: complied, refused, deflected."""
    METRIC = "metric"
    """A number for a response, mostly against the prompt's reference."""
    PREFERENCE = "preference"
    """A judge of pairs: which of two answers to a prompt is better."""
    REASONING = "reasoning"
    """A judge of the thinking that stands before a response, apart from the response itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    """``tool`` is the call of a tool or its result: training rows hold such turns, and models are never sent them."""
    content: str
    reasoning: str = ""
    """The thinking before an answer, where a training row keeps the two apart."""
    learnt: bool | None = None
    """The mark of a training row that an answer is to be learnt, or is not; None without one."""


def conversation(prompt: str, system: str | None, prefill: str = "") -> tuple[Message, ...]:
    """Return the messages that a model is sent: system prompt, the prompt as the user's turn, and the answer's beginning.

    The first and the last only where there is one; a model goes on behind an answer's beginning.
    """
    turns = [Message(role="user", content=prompt)]
    if system is not None:
        turns.insert(0, Message(role="system", content=system))
    if prefill:
        turns.append(Message(role="assistant", content=prefill))
    return tuple(turns)


def begun_answer(messages: Sequence[Message]) -> tuple[Sequence[Message], str]:
    """Return a conversation without the beginning of the model's answer, and that beginning; empty without one."""
    if messages and messages[-1].role == "assistant":
        return messages[:-1], messages[-1].content
    return messages, ""


def whole_answer(prefill: str, continuation: str) -> str:
    """Return an answer with its beginning in front; a space that a tokenizer dropped between two words is put back.

    Some servers return the beginning with the rest: then it stands there once.
    """
    if not prefill or continuation.startswith(prefill):
        return continuation
    between = " " if prefill[-1].isalnum() and continuation[:1].isalnum() else ""
    return f"{prefill}{between}{continuation}"


def folded(messages: Sequence[Message]) -> Sequence[Message]:
    """Return a conversation with its system turn written at the head of the first user turn."""
    if not messages or messages[0].role != "system":
        return messages
    system, *rest = messages
    if not rest or rest[0].role != "user":
        return [Message(role="user", content=system.content), *rest]
    return [Message(role="user", content=f"{system.content}\n\n{rest[0].content}"), *rest[1:]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behavior:
    """One harmful intent, or its benign twin: the statistical unit of every measurement."""

    id: str
    intent: Intent
    hazard: str
    """Hazard category of our taxonomy (AILuminate names), or ``none``."""
    source: str
    """The source: a data set's name."""
    source_label: str = ""
    """The source's own category, kept beside ``hazard``."""
    request: str = ""
    """The payload of `assistance` templates: a request for help."""
    texts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The payload of `content` templates: a short text by source language (``en``, ``fr``, ...)."""
    twin_of: str | None = None
    """For a benign twin, the id of its harmful behavior."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The way in which a behavior is posed as a task."""

    id: str
    task: str
    harm_basis: HarmBasis
    pattern: str
    """The prompt with one placeholder, ``{request}`` or ``{text}``; filled in a single pass."""
    source_language: str = "en"
    target_language: str | None = None
    """The language expected in the response; None where any will do (code, labels)."""
    labels: tuple[str, ...] = ()
    """The answers that count as valid, for classification."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A behavior posed by a template: what the model sees as the user's turn."""

    behavior: str
    template: str
    task: str
    intent: Intent
    text: str
    set: str
    """The prompt set that it belongs to (``organism``, ``advbench``, ...)."""
    hazard: str = "none"
    harm_basis: HarmBasis = "assistance"
    reference: str | None = None
    """A correct answer, where the task has one (translations, labels, benign twins of the organism)."""
    labels: tuple[str, ...] = ()
    language: str | None = None
    """The language expected in the response, for the coherence check."""
    pair: str | None = None
    """The id of the harmful behavior, which a harmful prompt and its benign twin share, or None."""
    attack: str = NO_ATTACK
    """The id of the attack around the prompt."""
    posed: str = ""
    """The prompt before an attack was put around it; empty without attack."""
    prefill: str = ""
    """The beginning of the answer that an attack puts into the model's mouth; mostly empty."""

    @property
    def id(self) -> str:
        """The content hash of set, behavior, template and text, and of the attack where there is one."""
        parts = (self.set, self.behavior, self.template, self.text)
        return _prompt_id(*parts, *((self.attack, self.prefill) if self.attacked else ()))

    @property
    def attacked(self) -> bool:
        """True where an attack stands around the prompt."""
        return self.attack != NO_ATTACK

    @property
    def unwrapped(self) -> str:
        """The prompt as it was posed, without attack."""
        return self.posed or self.text


@lru_cache(1 << 15)
def _prompt_id(*parts: str) -> str:
    """Return a prompt's id; loading, planning and the table each want it of every prompt."""
    return short_id("p", *parts)


Thinking = Literal["on", "off", "default"]
"""The switch of a reasoning model's thinking; ``default`` leaves it to the model's chat template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """All decoding settings that a study declares; an engine merges the checkpoint's own defaults and keys the result."""

    temperature: float = 0.0
    """0 is greedy; several samples are allowed there too (servers are not deterministic)."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps the whole vocabulary."""
    max_new_tokens: int = 256
    """Most tokens of an answer; of the final answer alone where the thinking has a bound of its own."""
    seed: int = 0
    """The decoding seed; with the prompt and the sample number it fixes a draw, whatever the batch."""
    max_reasoning_tokens: int | None = None
    """Most tokens of a thinking block, its marks included; None: thinking and answer share ``max_new_tokens``."""
    thinking: Thinking = "default"
    replicate: int = 0
    """The number of the run over all prompts that the call belongs to; a replicate is the very same call made again."""

    @property
    def limit(self) -> int:
        """Most tokens that a call generates, thinking and final answer together."""
        return self.max_new_tokens + (self.max_reasoning_tokens or 0)

    @property
    def setting(self) -> str:
        """The name of the setting without seed and replicate: ``T=0.7 top_p=0.9 max=256``."""
        parts = [f"T={self.temperature:g}"]
        if self.top_p != 1:
            parts.append(f"top_p={self.top_p:g}")
        if self.top_k:
            parts.append(f"top_k={self.top_k}")
        parts.append(f"max={self.max_new_tokens}")
        if self.max_reasoning_tokens is not None:
            parts.append(f"reasoning={self.max_reasoning_tokens}")
        if self.thinking != "default":
            parts.append(f"thinking={self.thinking}")
        return " ".join(parts)

    @property
    def name(self) -> str:
        """The name of the setting with seed and replicate (but the first), as ``table.names["decoding"]`` has it."""
        again = f" replicate={self.replicate}" if self.replicate else ""
        return f"{self.setting} seed={self.seed}{again}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question to a scorer's model about texts that others wrote; chat-template markers in them are broken first."""

    messages: tuple[Message, ...] = ()
    """For the model's own chat template."""
    settings: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """The values that the template takes besides messages: a policy, a risk."""
    pattern: str = ""
    """A finished prompt with the model's own markers and ``{names}``, in place of messages and template."""
    parts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The foreign texts that the names in ``pattern`` stand for; filled in a single pass."""
    moderated: str | None = None
    """The text that a moderation service shall look at, in place of all these."""
    classified: str | None = None
    """The text that a text classifier (`protocols.TextClassifier`) shall give its logits, in place of all these."""
    labels: Labels | None = None
    """The first word of a harmless reply and of a harmful one, where their likelihoods decide: this machine compares them
    in one forward pass, a server is asked how likely the words were that its reply could have begun with."""
    explains: bool = False
    """True where a harmful reply says more than its label, so that it is generated all the same."""
    choices: tuple[str, ...] = ()
    """Whole replies of which the likeliest counts (`Engine.choice_logprobs`); nothing is generated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateJob:
    """One call that a model shall answer."""

    key: Key
    messages: tuple[Message, ...]
    decoding: Decoding
    sample: int = 0
    question: Question | None = None
    """In place of ``messages``, which are verbatim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The final answer of a call (of a model, of a judge's model or of a guard's)."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    detail: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """The further facts that the call gave and a score needs: logits of choices, scores, a served model's name."""

    @property
    def reasoning(self) -> str:
        """The thinking block that stood before ``text``, which has the final answer alone; empty without one."""
        return str(self.detail.get("reasoning") or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A call that failed: kept with its reason, never as an answer; a rerun tries again."""

    reason: str
    """One word: ``timeout``, ``rate_limit``, ``server_error``, ``broken_reply``, ``out_of_memory``, ``template``."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a token, in the currency of the price file."""

    input: float
    """Price of a token of the prompt."""
    output: float
    """Price of a token of the answer."""

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return the cost of a call with so many tokens."""
        return prompt_tokens * self.input + completion_tokens * self.output


FREE = Price(0.0, 0.0)
"""The price of a model that nobody charges for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The texts that a scorer sees, with what is known of the prompt: a response to be scored, or a prompt to be screened.

    A guard is given the texts alone, a preference also the second answer. The key of a scorer's call holds every field that
    its role is given, so that equal samples are asked about once.
    """

    prompt: str
    response: str = ""
    """The response; empty where a guard screens the prompt (``side``). For a preference, the answer that is shown first."""
    other: str = ""
    """For a preference, the answer that is shown second."""
    side: Side = "response"
    finish_reason: FinishReason = FinishReason.STOP
    behavior: str = ""
    task: str = ""
    intent: Intent | None = None
    reference: str | None = None
    labels: tuple[str, ...] = ()
    language: str | None = None
    begun: str = ""
    """The beginning of ``response`` that an attack put there; what the model itself said comes behind it."""
    unlikely: bool = False
    """For the coherence detectors: the response's likelihood under the base lies outside the limits of the base's own."""


Value = VerdictValue | DecisionValue | PreferenceValue | LabelValue | bool | None
"""The value of a score: a verdict, a guard's decision, a preference, an annotator's label, coherent or not; None for a metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The score that a scorer gives to a sample, or an annotator to a response."""

    value: Value = None
    number: float | None = None
    """A metric's number, a judge's harm score or a guard's probability of harm, in [0, 1]; None where there is none. Of an
    annotator's label, the probability with which the response was drawn; of the judge ``refusal``, the distance to its
    boundary in logits."""
    label: str = ""
    """The scorer's own words: the rule that fired, the category, why it is undecided; of a metric, its counts (`counted`)."""

    @property
    def undecided(self) -> bool:
        """Return whether the value says that nothing could be decided."""
        return self.value in (
            VerdictValue.UNDECIDED,
            DecisionValue.UNDECIDED,
            PreferenceValue.UNDECIDED,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJob:
    """A job of a study as the store holds it: with its response, and the scores of the response."""

    model: str
    prompt: Prompt
    system: str
    decoding: str
    """Its name, as ``table.names["decoding"]`` has it."""
    sample: int
    key: Key | None
    response: Response | None
    """None while there is no final answer."""
    unfinished: Response | None = None
    """An answer that ended inside its thinking, in place of ``response``."""
    scores: Mapping[str, Score]
    """By the column of the table: ``verdict:rules``, ``decision:guard:prompt``, ``coherent``, ``score:chrf``."""
