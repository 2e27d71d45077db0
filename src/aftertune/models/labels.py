"""The tokens that an answer of a few known words can begin with."""

import math
from collections.abc import Iterable, Iterator, Sequence

from aftertune.models.rendering import Renderer


def beginnings(renderer: Renderer, labels: Sequence[str]) -> list[list[int]] | None:
    """Return, for each label, the tokens that one of its spellings begins with; None where two labels share them all.

    Spellings are the label as it is, in small letters, capitalised and in capitals, with and without a space before it:
    tokenizers have a token of its own for each, and fine-tuned classifiers use now this one, now that one.
    """
    found = [set(_first_tokens(renderer, label)) for label in labels]
    own = [
        sorted(tokens - set().union(*(other for j, other in enumerate(found) if j != i)))
        for i, tokens in enumerate(found)
    ]
    return own if labels and all(own) else None


def leading_space(renderer: Renderer, drawn: Sequence[int]) -> list[int]:
    """Return the tokens of white space at the beginning of an answer; none if it has nothing else."""
    for i, token in enumerate(drawn):
        if not _is_space(renderer, token):
            return list(drawn[:i])
    return []


def log_sum(logprobs: Iterable[float]) -> float:
    """Return log of the sum of probabilities, given as their logarithms (nats)."""
    values = list(logprobs)
    highest = max(values)
    return (
        highest
        if highest == -math.inf
        else highest + math.log(sum(math.exp(value - highest) for value in values))
    )


def _first_tokens(renderer: Renderer, label: str) -> Iterator[int]:
    spellings = {label, label.lower(), label.capitalize(), label.upper()}
    written = sorted({space + spelling for spelling in spellings for space in ("", " ")})
    for tokens in renderer.tokens(written):
        words = [token for token in tokens if not _is_space(renderer, token)]
        if words and words[0] != renderer.tokenizer.unk_token_id:
            yield words[0]


def _is_space(renderer: Renderer, token: int) -> bool:
    special = token in renderer.tokenizer.all_special_ids
    return (
        not special
        and not renderer.tokenizer.decode([token], clean_up_tokenization_spaces=False).strip()
    )
