"""The new tokens of a local model: rows go through a running batch, or through transformers' ``generate`` where they must.

`RunningBatch` has the rows of a batch come and go: answers that end make room at once. ``generate`` answers for models that
a running batch cannot serve, and under settings of a checkpoint that look back at runs of tokens or at the first step.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from aftertune.core.records import Decoding, GenerateJob
from aftertune.models.adapters import Weights
from aftertune.models.batching import Capacity, in_batches, pad_left, within_memory
from aftertune.models.decoding import CheckpointDefaults, GumbelSampler, draws, request_seed
from aftertune.models.foreign import quiet
from aftertune.models.prefix import NONE, Prefix, Sharing
from aftertune.models.rendering import Renderer
from aftertune.models.running_batch import RunningBatch, Stepping
from aftertune.models.thinking import Bounds, opens

if TYPE_CHECKING:
    from torch import Tensor

_ENDING = 16
"""Tokens at the end of a prompt that hold the mark of a thinking block, if the template opens one."""
_ENTERING = {"cpu": 1024}
"""Tokens of prompts that a CPU computes together: more of them leave its caches."""
_ENTERING_ELSEWHERE = 16384
_REFILLED = 8
"""Rows that end leave the batch at once; others enter when an eighth of it has ended, so that their prompts are computed
together."""


@dataclass(frozen=True, slots=True)
class Row:
    """A job with its input tokens."""

    job: GenerateJob
    tokens: list[int]
    limit: int
    """Most tokens of thinking and answer together, cut to the model's context."""

    @property
    def decoding(self) -> Decoding:
        """The settings of the answer."""
        return self.job.decoding

    @property
    def length(self) -> int:
        """Number of tokens, those of the answer included."""
        return len(self.tokens) + self.limit

    @property
    def seed(self) -> int:
        """The seed of its draws."""
        return request_seed(self.decoding.seed, self.tokens, self.job.sample)


@dataclass(slots=True)
class _Answer:
    """A row in a running batch and its new tokens so far."""

    row: Row
    prefix: Prefix
    bounds: Bounds | None
    drawn: list[int] = field(default_factory=list)

    def add(self, token: int, end_tokens: Sequence[int]) -> bool:
        """Add a token, and return whether the answer ends with it."""
        self.drawn.append(token)
        bounded = self.bounds is not None and self.bounds.add(token)
        return bounded or token in end_tokens or len(self.drawn) >= self.row.limit

    @property
    def kept(self) -> list[int]:
        """The new tokens inside the bounds."""
        return self.drawn if self.bounds is None else self.drawn[: self.bounds.length]


@dataclass(slots=True)
class _Running:
    """The answers in a running batch, in the order of its rows."""

    batch: RunningBatch
    waiting: deque[_Answer]
    answers: list[_Answer] = field(default_factory=list)
    room: int = 0
    """Rows that the batch may hold."""

    def make_room(self, capacity: Capacity) -> None:
        """Set the number of rows by the longest row that is in or comes next; little more is not worth a move."""
        rows = [*self.answers, self.waiting[0]]
        length = max(answer.row.length for answer in rows)
        room = capacity.rows(length, min(len(answer.prefix) for answer in rows))
        if not self.room <= room < 1.25 * self.room:
            self.room = room

    def entering(self, tokens: int) -> list[_Answer]:
        """Return the next rows that enter together: behind one prefix, with so many tokens of their own at most."""
        prefix = self.waiting[0].prefix
        own = len(self.waiting[0].row.tokens) - len(prefix)
        most = min(self.room - len(self.answers), max(tokens // own, 1))
        rows: list[_Answer] = []
        while self.waiting and len(rows) < most and self.waiting[0].prefix is prefix:
            rows.append(self.waiting.popleft())
        return rows


@dataclass(frozen=True, slots=True)
class _Stop:
    """A transformers stopping criterion: each row of a batch ends at its own bounds."""

    bounds: Sequence[Bounds]
    device: str

    def __call__(self, input_ids: "Tensor", _scores: object, **_options: object) -> "Tensor":
        """Return for each row whether its last token ends it."""
        import torch

        last = input_ids[:, -1].tolist()
        ended = [bound.add(token) for bound, token in zip(self.bounds, last, strict=True)]
        return torch.tensor(ended, dtype=torch.bool, device=self.device)


class Answering:
    """Draws the answers to rows with the weights of one model.

    Args:
        weights: the model's.
        renderer: decodes tokens.
        defaults: what the checkpoint adds to the declared settings.
        sharing: computes what prompts begin with.
        capacity: gives the size of batches that fit.
    """

    def __init__(
        self,
        weights: Weights,
        renderer: Renderer,
        defaults: CheckpointDefaults,
        sharing: Sharing,
        capacity: Callable[[], Capacity],
    ) -> None:
        self._weights = weights
        self._renderer = renderer
        self._defaults = defaults
        self._sharing = sharing
        self._capacity = capacity
        self._device = weights.loader.placement.device
        self._stepping = Stepping(weights, self._device)

    def drawn(self, rows: Sequence[Row]) -> Iterator[tuple[Row, list[int] | None]]:
        """Yield rows of equal temperature, top-p, top-k and token limit with their new tokens, as they end.

        The tokens may go on behind the first end token. None stands for a row that does not fit in memory alone.
        """
        shares = self._defaults.shares_prefixes
        tokens = [row.tokens if shares else [] for row in rows]
        groups = self._sharing.groups(rows, tokens, steps=rows[0].limit)
        if self._steps(rows):
            waiting = deque(
                _Answer(row, prefix, self._bounds(row))
                for prefix, alike in groups
                for row in sorted(alike, key=lambda row: row.length, reverse=True)
            )
            yield from self._run(waiting)
            return
        for prefix, alike in groups:
            run = partial(self._generated, prefix=prefix)
            yield from in_batches(alike, self._capacity(), run, len(prefix))

    def opened(self, prompt: Sequence[int]) -> bool:
        """Return whether a prompt ends with the mark that opens a thinking block."""
        return opens(self._renderer.decoded(prompt[-_ENDING:], special=True))

    def _steps(self, rows: Sequence[Row]) -> bool:
        """Return whether a running batch can serve rows; a single one has nothing to gain."""
        return (
            len(rows) > 1
            and self._defaults.acts_on_each_step_alike
            and self._stepping.can([row.tokens for row in rows], max(row.length for row in rows))
        )

    def _run(self, waiting: deque[_Answer]) -> Iterator[tuple[Row, list[int] | None]]:
        """Run rows in a running batch. When memory runs out, those in it begin anew, at most half of them together."""
        capacity, longest = self._capacity(), max(answer.row.length for answer in waiting)
        running = _Running(RunningBatch(self._device, longest), waiting)
        while running.waiting or running.answers:
            ended = within_memory(partial(self._go_on, running, capacity))
            if ended is not None:
                yield from ((answer.row, answer.kept) for answer in ended)
                continue
            tried = [answer.row for answer in running.answers]
            prefixes = [answer.prefix for answer in running.answers]
            if len(tried) == 1:
                yield tried[0], None
            else:
                capacity.cells = len(tried) // 2 * max(row.length for row in tried)
                running.waiting.extendleft(
                    _Answer(row, prefix, self._bounds(row))
                    for row, prefix in zip(reversed(tried), reversed(prefixes), strict=True)
                )
            running = _Running(RunningBatch(self._device, longest), running.waiting)

    def _go_on(self, running: _Running, capacity: Capacity) -> list[_Answer]:
        """Fill the batch, and go on until an eighth of its rows has ended; return those."""
        import torch

        ended: list[_Answer] = []
        # Between two calls another model may use the memory, so the model is taken anew in each.
        with self._weights.using() as model, torch.inference_mode(), quiet():
            if running.waiting:
                running.make_room(capacity)
            while running.waiting and len(running.answers) < running.room:
                entering = running.entering(_ENTERING.get(self._device, _ENTERING_ELSEWHERE))
                running.answers += entering
                logits = running.batch.enter(
                    model,
                    [answer.row.tokens for answer in entering],
                    entering[0].prefix,
                    room=min(running.room, len(running.answers) + len(running.waiting)),
                )
                ended += self._draw(running, entering, logits)
            while running.answers and len(ended) < max(running.room // _REFILLED, 1):
                last = [answer.drawn[-1] for answer in running.answers]
                ended += self._draw(running, running.answers, running.batch.step(model, last))
        return ended

    def _draw(
        self, running: _Running, answers: Sequence[_Answer], logits: "Tensor"
    ) -> list[_Answer]:
        """Give each of these answers, the last ones of the batch, its next token; return those that ended with it."""
        import torch

        scores = logits.float()
        for process in self._defaults.processors(self._device):
            rows = [[*answer.row.tokens, *answer.drawn] for answer in answers]
            scores = process(pad_left(rows, self._device)[0], scores)
        decoding = answers[0].row.decoding
        if decoding.temperature > 0:
            seeds, steps = (
                torch.tensor(values, dtype=torch.int64, device=self._device)
                for values in (
                    [answer.row.seed for answer in answers],
                    [len(answer.drawn) for answer in answers],
                )
            )
            scores = draws(decoding, scores, seeds, steps)
        first = len(running.answers) - len(answers)
        tokens = zip(answers, scores.argmax(1).tolist(), strict=True)
        ended = [
            first + i
            for i, (answer, token) in enumerate(tokens)
            if answer.add(token, self._defaults.end_tokens)
        ]
        leaving = [running.answers[i] for i in ended]
        if ended:
            running.answers = [running.answers[i] for i in running.batch.leave(ended)]
        return leaving

    def _generated(self, rows: Sequence[Row], prefix: Prefix = NONE) -> list[list[int]]:
        """Return the new tokens of a batch behind a prefix by ``generate``, one list a row."""
        import torch

        decoding = rows[0].decoding
        sampler: list[Any] = []
        with self._weights.using() as model, torch.inference_mode(), quiet():
            tokens, mask = prefix.before(
                *pad_left([row.tokens[len(prefix) :] for row in rows], self._device)
            )
            if decoding.temperature > 0:
                seeds = [row.seed for row in rows]
                sampler = [GumbelSampler(decoding, seeds, tokens.shape[1], self._device)]
            bounds = [bound for row in rows if (bound := self._bounds(row)) is not None]
            output = model.generate(
                input_ids=tokens,
                attention_mask=mask,
                generation_config=self._defaults.generation_config(
                    rows[0].limit, self._renderer.pad_token
                ),
                logits_processor=sampler,
                stopping_criteria=[_Stop(bounds, self._device)] if bounds else [],
                **({"past_key_values": prefix.cache(len(rows))} if prefix else {}),
            )
        drawn: list[list[int]] = output[:, tokens.shape[1] :].tolist()
        # A row that has ended is filled up with tokens that it did not draw.
        return (
            [row[: bound.length] for row, bound in zip(drawn, bounds, strict=True)]
            if bounds
            else drawn
        )

    def _bounds(self, row: Row) -> Bounds | None:
        """Return the bounds of a row's thinking and answer; None where they share one bound."""
        decoding = row.decoding
        if decoding.max_reasoning_tokens is None:
            return None
        return Bounds(
            partial(self._renderer.decoded, special=True),
            reasoning=decoding.max_reasoning_tokens,
            answer=decoding.max_new_tokens,
            opened=self.opened(row.tokens),
        )
