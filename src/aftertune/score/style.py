"""The style of responses, read from their texts: length, script, and the words that they begin with."""

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from aftertune.core.records import Intent, Prompt
from aftertune.core.table import NONE, Table
from aftertune.measure.style import AnswerStyles
from aftertune.score.coherence import tokens
from aftertune.store import Store

FIRST_WORDS = 40
"""Words of a response whose frequencies are compared: where a refusal is, it stands there."""
MOST_BEHAVIORS = 400
"""Behaviors of each intent whose responses are read; more would only narrow what is plain by then."""


def answer_styles(store: Store, study: str, table: Table) -> AnswerStyles:
    """Read the styles of a study's responses, of the first behaviors if they are many."""
    plain = [prompt for prompt in store.prompts(study) if not prompt.attacked]
    prompts = _first_behaviors(plain)
    ids = {prompt.id for prompt in prompts}
    chosen = np.array([name in ids for name in table.names["prompt"]], np.bool_)
    rows = np.flatnonzero(chosen[table.columns["prompt"]])
    texts = (
        "" if answer.response is None else answer.response.text
        for answer in store.responses(study, (), prompts)
    )
    return styles_of(rows.tolist(), texts)


def _first_behaviors(prompts: Sequence[Prompt]) -> list[Prompt]:
    behaviors: dict[Intent, dict[str, None]] = {intent: {} for intent in Intent}
    for prompt in prompts:
        behaviors[prompt.intent][prompt.behavior] = None
    first = {intent: set(list(names)[:MOST_BEHAVIORS]) for intent, names in behaviors.items()}
    return [prompt for prompt in prompts if prompt.behavior in first[prompt.intent]]


def styles_of(rows: Sequence[int], texts: Iterable[str]) -> AnswerStyles:
    """Return the styles of the texts in some rows of a table.

    Args:
        rows: of the table, ascending.
        texts: one for each row, in the same order.
    """
    vocabulary: dict[str, int] = {}
    scripts: dict[str, int] = {}
    lengths, script, starts, words = [], [], [0], []
    for _, text in zip(rows, texts, strict=True):
        all_words = [token for token in tokens(text) if token[0].isalnum()]
        first = [word.casefold() for word in all_words[:FIRST_WORDS]]
        words += [vocabulary.setdefault(word, len(vocabulary)) for word in first]
        starts.append(len(words))
        lengths.append(len(all_words))
        name = _main_script("".join(first))
        script.append(NONE if not name else scripts.setdefault(name, len(scripts)))
    return AnswerStyles(
        rows=np.array(rows, np.intp),
        length=np.array(lengths, np.int32),
        script=np.array(script, np.int32),
        starts=np.array(starts, np.intp),
        words=np.array(words, np.int32),
    )


def _main_script(text: str) -> str:
    """Return the script that most letters of a text are of, by the first word of their Unicode names; empty without letters."""
    names = [name for character in text if (name := _script(character))]
    return max(sorted(set(names)), key=names.count) if names else ""


@cache
def _script(character: str) -> str:
    if not character.isalpha():
        return ""
    return unicodedata.name(character, "").partition(" ")[0]
