"""The engine for models on this machine: transformers checkpoints and PEFT adapters."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, TypeVar

from aftertune.core.keys import Key, content_key, encoded, encoded_key, replicate_part
from aftertune.core.protocols import Answer, Distribution, Engine
from aftertune.core.records import (
    FREE,
    Attempt,
    Decoding,
    FinishReason,
    GenerateJob,
    Message,
    Question,
    Response,
    Thinking,
)
from aftertune.errors import EngineError
from aftertune.models.adapters import Weights
from aftertune.models.answering import Answering, Row
from aftertune.models.batching import Capacity, capacity, in_batches, pad_left
from aftertune.models.decoding import CheckpointDefaults
from aftertune.models.prefix import NONE, Prefix, Sharing, last_logits
from aftertune.models.remote import NoLikelihoods
from aftertune.models.rendering import Renderer
from aftertune.models.thinking import final, separate

if TYPE_CHECKING:
    pass

Scored = TypeVar("Scored")
_WINDOW = 8192
"""Jobs that are sorted by length together."""
_LEAD = 3
"""Tokens of an answer among which its first word is looked for."""


def _settings(row: Row) -> tuple[float, ...]:
    """Return the settings that all rows of a batch share; seed and sample number may differ from row to row."""
    decoding = row.decoding
    bounds = (-1, -1)
    if decoding.max_reasoning_tokens is not None:
        bounds = (decoding.max_new_tokens, decoding.max_reasoning_tokens)
    shared = decoding.temperature, decoding.top_p, decoding.top_k, row.limit
    return (*run_of(row.job), *shared, *bounds)


def run_of(job: GenerateJob) -> tuple[int, int]:
    """Return the replicate of a job, and the half of it that the job is answered in: a bit of its key, 0 in the first replicate.

    Batches decide how a GPU rounds. With the batches of the first replicate another one would give its answers again, and
    hide the noise that any other run has; the bits of other keys make other halves, and so other batches.
    """
    replicate = job.decoding.replicate
    return replicate, job.key[-1] & 1 if replicate else 0


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """Input tokens and the tokens of an answer whose likelihood is computed."""

    index: int
    """The row's place among all rows of the call."""
    prompt: list[int]
    answer: list[int]

    @property
    def length(self) -> int:
        """Number of tokens."""
        return len(self.prompt) + len(self.answer)


def answer_logprobs(
    model: Any, rows: Sequence[ScoredRow], device: str, prefix: Prefix = NONE
) -> list[list[float]]:
    """Return log P(token | everything before it), in nats, for every answer token of every row.

    All prompts begin with the prefix and go on behind it.
    """
    import torch

    with torch.inference_mode():
        tokens, mask = pad_left([(row.prompt + row.answer)[len(prefix) :] for row in rows], device)
        # Padding is on the left, so the answers end together. The logits of one position give the next token: those of
        # the last position are dropped.
        kept = max(len(row.answer) for row in rows) + 1
        logits = last_logits(model, tokens, mask, kept, prefix)[:, :-1].float()
        targets = tokens[:, 1 - kept :, None]
        logprobs = torch.log_softmax(logits, dim=-1).gather(2, targets)[:, :, 0].cpu()
    return [
        logprobs[i, logprobs.shape[1] - len(row.answer) :].tolist() for i, row in enumerate(rows)
    ]


def next_token_logprobs(
    model: Any,
    rows: Sequence[ScoredRow],
    choices: Sequence[int],
    device: str,
    *,
    lead: int = 0,
    prefix: Prefix = NONE,
) -> list[list[float]]:
    """Return log P(choice | prompt) for choices of one token each: one forward pass serves all of them.

    With a ``lead``, the last ``lead`` tokens of each prompt are the beginning of the answer, and their log-probabilities
    are added: log P(lead, choice | prompt). All prompts begin with the prefix and have more than a lead behind it.
    """
    import torch

    with torch.inference_mode():
        tokens, mask = pad_left([row.prompt[len(prefix) :] for row in rows], device)
        logprobs = torch.log_softmax(
            last_logits(model, tokens, mask, 1 + lead, prefix).float(), dim=-1
        )
        lead_logprobs = (
            logprobs[:, :-1]
            .gather(2, tokens[:, tokens.shape[1] - lead :, None])[:, :, 0]
            .sum(1, keepdim=True)
        )
        chosen = logprobs[:, -1, list(choices)] + lead_logprobs
    return [[float(value) for value in row] for row in chosen.cpu()]


def first_token_logprobs(
    model: Any, rows: Sequence[ScoredRow], device: str, prefix: Prefix = NONE
) -> list[Distribution]:
    """Return log P(token | prompt) over the whole vocabulary, in nats, for each row.

    All prompts begin with the prefix and go on behind it.
    """
    import torch

    with torch.inference_mode():
        tokens, mask = pad_left([row.prompt[len(prefix) :] for row in rows], device)
        logits = last_logits(model, tokens, mask, 1, prefix)[:, -1].float()
        logprobs = torch.log_softmax(logits, dim=-1).cpu().numpy()
    return list(logprobs)


def log_sum(logprobs: Iterable[float]) -> float:
    """Return log of the sum of probabilities, given as their logarithms (nats)."""
    values = list(logprobs)
    highest = max(values)
    return (
        highest
        if highest == -math.inf
        else highest + math.log(sum(math.exp(value - highest) for value in values))
    )


ENGINE = "transformers"
"""The name of this engine in `identity`."""


class LocalEngine:
    """A checkpoint, or an adapter on one; see `aftertune.core.protocols.Engine`.

    Attributes:
        name: for messages and tables.
        identity: engine, hashes of weights, adapter and tokenizer, dtype, quantisation.
    """

    remote = served = by_batch = moderates = False
    continues_answers = True
    price = FREE
    price_source = destination = ""

    def __init__(
        self, name: str, identity: Mapping[str, object], weights: Weights, renderer: Renderer
    ) -> None:
        self.name = name
        self.identity = identity
        self._weights = weights
        self._renderer = renderer
        self._device = weights.loader.placement.device
        self._defaults = CheckpointDefaults(name, weights.base, renderer.end_tokens)
        self._capacities: dict[bool, Capacity] = {}
        self._sharing = Sharing(weights, self._device)
        self._answering = Answering(
            weights,
            renderer,
            self._defaults,
            self._sharing,
            partial(self._capacity, all_logits=False),
        )
        self._leads: dict[tuple[int, ...], list[int]] = {}
        """White space before answers, by the tokens of the probe."""
        self._encoded: tuple[list[list[int]], list[str]] = ([], [])
        """The prompts whose keys were made last: their tokens, and the JSON of those."""

    @property
    def refusals(self) -> str:
        """Return nothing: models on this machine take every setting."""
        return ""

    def altered(self, job: GenerateJob) -> Mapping[str, object]:  # noqa: ARG002 - the Protocol's names
        """Return nothing: no job is changed."""
        return {}

    @property
    def deterministic(self) -> bool:
        """Return whether it computes in float32 on the CPU, where no batch and no run changes an answer."""
        placement = self._weights.loader.placement
        return placement.device == "cpu" and placement.dtype == "float32"

    @property
    def folds_system(self) -> bool:
        """Return whether the chat template takes no system turn, so that its text stands at the head of the user's turn."""
        return self._renderer.folds_system

    @property
    def begins_turn(self) -> bool:
        """Return whether the chat template begins the model's turn where it is told to."""
        return self._renderer.begins_turn

    def keys(
        self, conversations: Sequence[Sequence[Message]], decoding: Decoding, sample: int
    ) -> list[Key]:
        """Return the key of each call: identity, rendered input tokens, merged decoding settings, seed and sample.

        The number of the replicate belongs to it as well, unless the model is deterministic: its replicates are one call.
        """
        common = content_key(
            dict(self.identity),
            self._defaults.merged(decoding),
            decoding.seed,
            sample,
            *([] if self.deterministic else replicate_part(decoding.replicate)),
        ).hex()
        tokens = self._renderer.prompts(conversations, decoding.thinking)
        if (
            tokens != self._encoded[0]
        ):  # the samples of a study ask the same prompts again and again
            self._encoded = tokens, list(map(encoded, tokens))
        kind, common = encoded("call"), encoded(common)
        return [encoded_key(kind, common, row) for row in self._encoded[1]]

    def generate(self, jobs: Iterable[GenerateJob]) -> Iterator[tuple[Key, Answer]]:
        """Answer jobs, longest first, each as it ends; the answer to a job does not depend on its batch.

        This holds in float32: in bfloat16 the shape of the batch changes how logits are rounded, and a near tie may flip.
        An answer's ``completion_tokens`` counts the end token. A job that does not fit in memory alone gives the
        attempt ``out_of_memory``, one whose prompt fills the model's context ``too_long``.

        Prompts are taken verbatim, template markers in them included: a measured model gets what an attacker would
        send. Questions to judges and guards (`GenerateJob.question`) have the markers in foreign texts broken.
        """
        jobs = iter(jobs)
        while window := list(islice(jobs, _WINDOW)):
            rows = self._rows(window)
            for row in rows:
                if row.limit < 1:
                    yield (
                        row.job.key,
                        Attempt(reason="too_long", detail=f"{len(row.tokens)} input tokens"),
                    )
            fitting = sorted((row for row in rows if row.limit >= 1), key=_settings)
            for _, group in groupby(fitting, key=_settings):
                yield from self._answers(list(group))

    def unknown_share(self, texts: Sequence[str]) -> float:
        """Return the share of unknown tokens in ``texts``, in [0, 1]; 0.0 where the tokenizer knows every text."""
        unknown = self._renderer.tokenizer.unk_token_id
        tokens = [token for row in self._renderer.tokens(texts) for token in row]
        return sum(token == unknown for token in tokens) / len(tokens) if tokens else 0.0

    def choice_logprobs(
        self, prompts: Sequence[Sequence[Message]], choices: Sequence[str]
    ) -> list[list[float]]:
        """Return log P(choice | prompt), nats, for every prompt (rows) and choice (columns).

        Guards and judges ask in this way about foreign texts, so the tokenizer's and the chat template's markers in the
        messages are broken (`aftertune.core.untrusted`).
        """
        tokens = self._renderer.tokens(choices)
        if not choices or not all(tokens):
            raise EngineError(
                f"model {self.name!r}: cannot score the choices {list(choices)!r}, one has no tokens"
            )
        rendered = self._renderer.questions(prompts)
        if all(len(choice) == 1 for choice in tokens):
            singles = [choice[0] for choice in tokens]
            rows = [ScoredRow(i, prompt, [0]) for i, prompt in enumerate(rendered)]
            return self._score(rows, partial(next_token_logprobs, choices=singles))
        pairs = [(prompt, choice) for prompt in rendered for choice in tokens]
        rows = [ScoredRow(i, *pair) for i, pair in enumerate(pairs)]
        sums = [sum(logprobs) for logprobs in self._score(rows, answer_logprobs)]
        return [sums[i : i + len(tokens)] for i in range(0, len(sums), len(tokens))]

    def label_logprobs(
        self, questions: Sequence[Question], labels: Sequence[str], probe: Question
    ) -> list[list[float]] | None:
        """Return log P(the answer begins with the label), nats, for every question (rows) and label (columns).

        One forward pass serves a question. A label begins with any of its spellings (`Renderer.beginnings`), behind the
        white space that the model begins its answers with; the probability of that space is part of the result.

        Args:
            questions: foreign texts with the model's template.
            labels: the first words of possible answers.
            probe: a harmless question of the same kind; its answer shows the white space.

        Returns:
            None where labels cannot be told apart by their first token: generate instead.
        """
        first = self._renderer.beginnings(labels)
        if first is None:
            return None
        lead, choices = self._lead(probe), sorted({token for tokens in first for token in tokens})
        rendered = self._renderer.questions(questions)
        rows = [ScoredRow(i, [*prompt, *lead], [0]) for i, prompt in enumerate(rendered)]
        scored = self._score(
            rows, partial(next_token_logprobs, choices=choices, lead=len(lead)), own=1 + len(lead)
        )
        by_token = (dict(zip(choices, row, strict=True)) for row in scored)
        return [
            [log_sum(logprobs[token] for token in tokens) for tokens in first]
            for logprobs in by_token
        ]

    def check_ready(self) -> None:
        """See that weights fit their configuration, and an adapter its base; a local model needs neither key nor price.

        Loads no weights.

        Raises:
            ModelError: they do not fit.
        """
        self._weights.check()

    def interrupt(self) -> None:
        """Do nothing: only remote engines are asked in threads."""

    def input_tokens(self, jobs: Sequence[GenerateJob]) -> list[int]:
        """Return how many tokens each job puts to the model; loads no weights."""
        return [len(tokens) for tokens in self._rendered(jobs)]

    def question_text(self, question: Question) -> str:
        """Return the rendered text of a question, with the template's own markers."""
        (tokens,) = self._renderer.questions([question])
        return str(self._renderer.tokenizer.decode(tokens))

    def _lead(self, probe: Question) -> list[int]:
        """Return the white space that the model begins its answers with, as tokens; Llama Guard writes two newlines."""
        (prompt,) = self._renderer.questions([probe])
        key = tuple(prompt)
        if key not in self._leads:
            job = GenerateJob(
                key=b"", messages=(), decoding=Decoding(max_new_tokens=_LEAD), question=probe
            )
            ((_, drawn),) = self._answering.drawn(self._rows([job]))
            self._leads[key] = self._renderer.leading_space(drawn or [])
        return self._leads[key]

    def nll(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[float]:
        """Return the mean negative log-likelihood per token (nats) of each answer; NaN for an answer without tokens."""
        prompts = self._renderer.prompts([messages for messages, _ in pairs])
        answers = self._renderer.tokens([answer for _, answer in pairs])
        rows = [
            ScoredRow(i, prompt, answer)
            for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
            if answer
        ]
        means = [float("nan")] * len(pairs)
        for row, logprobs in zip(rows, self._score(rows, answer_logprobs), strict=True):
            means[row.index] = -sum(logprobs) / len(logprobs)
        return means

    def nll_without_adapter(
        self, pairs: Sequence[tuple[Sequence[Message], str]]
    ) -> list[float] | None:
        """Return what `nll` gives with the adapter off, in the same memory and batches; None where there is no such model."""
        if self._weights.adapter is None:
            return None
        with self._weights.using():
            if self._weights.loader.changed:
                return None
        off = replace(self._weights, active=False)
        return LocalEngine(self.name, self.identity, off, self._renderer).nll(pairs)

    def first_token_logprobs(
        self, prompts: Sequence[Sequence[Message]], thinking: Thinking
    ) -> "list[Distribution | None]":
        """Return log P(first token of the answer), nats, over the vocabulary; None for a prompt that fills the context.

        Each prompt is computed alone: in a batch it rounds otherwise, by what else is asked in this process.
        """
        rendered = self._renderer.prompts(prompts, thinking)
        context = math.inf if self._defaults.context is None else self._defaults.context
        rows = [
            ScoredRow(i, tokens, [0]) for i, tokens in enumerate(rendered) if len(tokens) < context
        ]
        logprobs: list[Distribution | None] = [None] * len(rendered)
        for row in rows:
            (logprobs[row.index],) = self._score([row], first_token_logprobs)
        return logprobs

    @cached_property
    def token_names(self) -> str:
        """The hash of all tokens with their numbers."""
        return content_key(self._renderer.tokenizer.get_vocab()).hex()

    def close(self) -> None:
        """Free the weights; they load again at the next call that needs them."""
        self._weights.loader.free()

    def _rows(self, jobs: Sequence[GenerateJob]) -> list[Row]:
        context = math.inf if self._defaults.context is None else self._defaults.context
        rows = []
        for job, tokens in zip(jobs, self._rendered(jobs), strict=True):
            limit = min(job.decoding.limit, context - len(tokens))
            rows.append(Row(job, tokens, int(limit)))
        return rows

    def _rendered(self, jobs: Sequence[GenerateJob]) -> list[list[int]]:
        """Return the input tokens of jobs: messages verbatim, questions about foreign texts with broken markers."""
        plain = [job for job in jobs if job.question is None]
        rendered: dict[Thinking, Iterator[list[int]]] = {
            thinking: iter(
                self._renderer.prompts(
                    [job.messages for job in plain if job.decoding.thinking == thinking], thinking
                )
            )
            for thinking in {job.decoding.thinking for job in plain}
        }
        questions = iter(
            self._renderer.questions([job.question for job in jobs if job.question is not None])
        )
        return [
            next(rendered[job.decoding.thinking] if job.question is None else questions)
            for job in jobs
        ]

    def _answers(self, rows: Sequence[Row]) -> Iterator[tuple[Key, Answer]]:
        """Answer rows of equal temperature, top-p, top-k and token limit."""
        for row, drawn in self._answering.drawn(rows):
            too_big = Attempt(
                reason="out_of_memory", detail=f"{row.length} tokens in a batch of one"
            )
            yield row.job.key, too_big if drawn is None else self._response(row.tokens, drawn)

    def _response(self, prompt: Sequence[int], drawn: list[int]) -> Response:
        """Return the answer in drawn tokens: they end at the first end token, and thinking stands apart."""
        ends = set(self._defaults.end_tokens)
        end = next((i for i, token in enumerate(drawn) if token in ends), None)
        kept = drawn if end is None else drawn[:end]
        text = self._renderer.decoded(kept)
        opened = self._answering.opened(prompt)
        marks = self._renderer.marks_thinking
        marked = self._renderer.decoded(kept, special=True) if marks else text
        whole = Response(
            text=text if separate(marked, opened=opened) is None else marked,
            finish_reason=FinishReason.LENGTH if end is None else FinishReason.STOP,
            prompt_tokens=len(prompt),
            completion_tokens=len(drawn) if end is None else end + 1,
        )
        answer = final(whole, opened=opened)
        separated = answer is not whole and marks
        return replace(answer, text=self._renderer.bare(answer.text)) if separated else answer

    def _score(
        self, rows: Sequence[ScoredRow], score: Callable[..., Sequence[Scored]], own: int = 1
    ) -> list[Scored]:
        """Score rows in batches, longest first, and return the results in the order of the rows.

        The last ``own`` tokens of a prompt are never shared with other rows: their logits are wanted.
        """

        def run(batch: list[ScoredRow], prefix: Prefix) -> list[Scored]:
            with self._weights.using() as model:
                return list(score(model, batch, device=self._device, prefix=prefix))

        scores: dict[int, Scored] = {}
        for prefix, alike in self._sharing.groups(rows, [row.prompt for row in rows], own=own):
            for row, result in in_batches(
                alike, self._capacity(all_logits=True), partial(run, prefix=prefix), len(prefix)
            ):
                if result is None:
                    raise EngineError(
                        f"model {self.name!r}: a text of {row.length} tokens does not fit in memory"
                    )
                scores[row.index] = result
        return [scores[row.index] for row in rows]

    def _capacity(self, *, all_logits: bool) -> Capacity:
        """Return the size of batches that fit, learnt anew whenever memory runs out."""
        if all_logits not in self._capacities:
            with self._weights.using() as model:
                self._capacities[all_logits] = capacity(
                    model,
                    self._device,
                    self._weights.dtype,
                    all_logits=all_logits,
                )
        return self._capacities[all_logits]


class ServedModel(NoLikelihoods, LocalEngine):
    """A local model that a server of this run (vLLM) answers for: rendered and keyed here, its weights not loaded.

    Args:
        start: starts the server if it has to.
        endpoint: asks the server.
    """

    served = True

    def __init__(
        self,
        name: str,
        identity: Mapping[str, object],
        weights: Weights,
        renderer: Renderer,
        *,
        start: Callable[[], None],
        endpoint: Engine,
    ) -> None:
        super().__init__(name, identity, weights, renderer)
        self._start, self._endpoint = start, endpoint

    def generate(self, jobs: Iterable[GenerateJob]) -> Iterator[tuple[Key, Answer]]:
        """Answer each job, in any order.

        Raises:
            ModelError: the server is not installed.
            EngineError: it does not start, or answers nothing any more.
        """
        if listed := list(jobs):
            self._start()
            yield from self._endpoint.generate(listed)

    def label_logprobs(
        self, questions: Sequence[Question], labels: Sequence[str], probe: Question
    ) -> None:
        """Return None: a server generates its replies."""

    def check_ready(self) -> None:
        """Do nothing: the server reads the weights."""

    def close(self) -> None:
        """Close the connections; the server ends with the run."""
        self._endpoint.close()
