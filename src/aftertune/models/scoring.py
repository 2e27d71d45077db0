"""Log-likelihoods of given answers, in batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

from aftertune.models.padding import pad_left
from aftertune.models.prefix import NONE, Prefix

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """Input tokens and the answer tokens whose likelihood is asked for."""

    index: int
    """Its place among the rows as they were asked."""
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
        kept = max(len(row.answer) for row in rows) + 1
        logits = last_logits(model, tokens, mask, kept, prefix)[:, :-1].float()
        targets = tokens[:, 1 - kept :]
        logprobs = torch.log_softmax(logits, dim=-1).gather(2, targets[:, :, None])[:, :, 0].cpu()
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

    With a ``lead``, the last so many tokens of each prompt are the beginning of the answer and have to be said too:
    their log-probabilities are added. All prompts begin with the prefix and have more than a lead behind it.
    """
    import torch

    with torch.inference_mode():
        tokens, mask = pad_left([row.prompt[len(prefix) :] for row in rows], device)
        logprobs = torch.log_softmax(
            last_logits(model, tokens, mask, 1 + lead, prefix).float(), dim=-1
        )
        said = (
            logprobs[:, :-1]
            .gather(2, tokens[:, tokens.shape[1] - lead :, None])[:, :, 0]
            .sum(1, keepdim=True)
        )
        chosen = logprobs[:, -1, list(choices)] + said
    return [[float(value) for value in row] for row in chosen.cpu()]


def last_logits(
    model: Any, tokens: "Tensor", mask: "Tensor", kept: int, prefix: Prefix = NONE
) -> "Tensor":
    """Return the logits of the last ``kept`` positions, ``[rows, kept, vocabulary]``, of rows behind a prefix.

    Positions are counted from each row's first real token, or from the prefix's.
    """
    if prefix:
        _, mask = prefix.before(tokens, mask)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, len(prefix) :]
    optional = {"position_ids": positions, "logits_to_keep": kept}
    known = signature(model.forward).parameters
    options: dict[str, Any] = {name: value for name, value in optional.items() if name in known}
    if prefix:
        options["past_key_values"] = prefix.cache(len(tokens))
    logits: Tensor = model(
        input_ids=tokens, attention_mask=mask, use_cache=bool(prefix), **options
    ).logits
    return logits[:, -kept:]
