"""Proof that the fine-tune was measured: before generating, its probabilities must differ from its base's.

An adapter that was never switched on, a folder with the base's own weights, a merge that failed: each gives a study full
of "no change" and no error. Comparing a few log-likelihoods finds them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from aftertune.core.protocols import Engine
from aftertune.core.records import Prompt
from aftertune.stages.calls import conversation

PROBES = 8
_ANSWER = "yes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How far a fine-tune's log-likelihoods lie from its base's."""

    prompts: int
    largest_change: float
    """Largest absolute difference of the mean negative log-likelihood per token, in nats."""

    @property
    def changed(self) -> bool:
        """Whether the fine-tune computes anything else than its base."""
        return self.largest_change > 0.0


def probe(base: Sequence[float], tuned: Engine, prompts: Sequence[Prompt]) -> Probe:
    """Compare a fine-tune with the ``base`` likelihoods that `likelihoods` gave for the same prompts."""
    changes = [
        abs(before - after) for before, after in zip(base, likelihoods(tuned, prompts), strict=True)
    ]
    return Probe(prompts=len(changes), largest_change=max(changes, default=0.0))


def likelihoods(engine: Engine, prompts: Sequence[Prompt]) -> list[float]:
    """Return the negative log-likelihood of a fixed answer to the first few prompts."""
    return engine.nll(
        [
            (conversation(prompt.text, None), prompt.reference or _ANSWER)
            for prompt in prompts[:PROBES]
        ]
    )
