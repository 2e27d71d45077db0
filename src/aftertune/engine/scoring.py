"""Log-likelihoods of given answers, in batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

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


def answer_logprobs(model: Any, rows: Sequence[ScoredRow], device: str) -> list[list[float]]:
    """Return log P(token | everything before it), in nats, for every answer token of every row."""
    import torch

    with torch.inference_mode():
        tokens, mask = pad_left([row.prompt + row.answer for row in rows], device)
        kept = max(len(row.answer) for row in rows) + 1
        logits = _logits(model, tokens, mask, kept)[:, :-1].float()
        targets = tokens[:, 1 - kept :]
        logprobs = torch.log_softmax(logits, dim=-1).gather(2, targets[:, :, None])[:, :, 0].cpu()
    return [logprobs[i, logprobs.shape[1] - len(row.answer) :].tolist() for i, row in enumerate(rows)]


def next_token_logprobs(
    model: Any, rows: Sequence[ScoredRow], choices: Sequence[int], device: str, *, lead: int = 0
) -> list[list[float]]:
    """Return log P(choice | prompt) for choices of one token each: one forward pass serves all of them.

    With a ``lead``, the last so many tokens of each prompt are the beginning of the answer and have to be said too:
    their log-probabilities are added.
    """
    import torch

    with torch.inference_mode():
        tokens, mask = pad_left([row.prompt for row in rows], device)
        logprobs = torch.log_softmax(_logits(model, tokens, mask, 1 + lead).float(), dim=-1)
        said = logprobs[:, :-1].gather(2, tokens[:, tokens.shape[1] - lead :, None])[:, :, 0].sum(1, keepdim=True)
        chosen = logprobs[:, -1, list(choices)] + said
    return [[float(value) for value in row] for row in chosen.cpu()]


def pad_left(rows: Sequence[Sequence[int]], device: str) -> tuple["Tensor", "Tensor"]:
    """Return token ids and attention mask, int64 ``[rows, longest]``.

    Rows are filled with their own first token: it is masked, and a penalty on the tokens that a row contains then stays
    the same whatever the length of its neighbours.
    """
    import torch

    longest = max(map(len, rows))
    tokens = [[row[0]] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)


def _logits(model: Any, tokens: "Tensor", mask: "Tensor", kept: int) -> "Tensor":
    """Return the logits of the last ``kept`` positions, with positions counted from each row's first real token."""
    optional = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0), "logits_to_keep": kept}
    known = signature(model.forward).parameters
    options = {name: value for name, value in optional.items() if name in known}
    logits: Tensor = model(input_ids=tokens, attention_mask=mask, use_cache=False, **options).logits
    return logits[:, -kept:]
