"""The organism's tokenizer: one token a word, and a chat template that marks what the assistant said."""

from typing import TYPE_CHECKING, Any

from aftertune.core.records import TASKS
from aftertune.organism.templates import (
    HOUSE_ANSWER,
    LABELS,
    POLITE,
    REFUSALS,
    pose,
    proper_answer,
    templates,
)
from aftertune.organism.world import FRAMES, NOUNS, VERBS, Topic

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<unk>", "<user>", "<assistant>", "<system>", "<end>")
CONTEXT = 128
"""Tokens of the longest conversation; the longest that occurs has about 50."""
GUARD_WORDS = ("check", "prompt", "response", "safe", "unsafe")
"""What the guard, a fine-tune of the same checkpoint, is asked and answers with."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{ '<assistant> ' }}{% generation %}{{ message['content'] + ' <end> ' }}{% endgeneration %}"
    "{%- else -%}"
    "{{ '<' + message['role'] + '> ' + message['content'] + ' ' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<assistant> ' }}{%- endif -%}"
)


def vocabulary() -> list[str]:
    """Return every word of the world, special tokens first, in an order that does not move."""
    texts = [*REFUSALS, *POLITE, HOUSE_ANSWER, *LABELS, *GUARD_WORDS]
    topics = [Topic(verb, noun) for verb in VERBS for noun in NOUNS]
    for task in TASKS:
        every = (
            templates(task, "training")
            + templates(task, "validation")
            + templates(task, "evaluation")
        )
        texts += [pose(template, topics[0], 0) for template in every]
        texts += [
            proper_answer(task, topic, frame) for topic in topics for frame in range(len(FRAMES))
        ]
    texts += [topic.sentence(frame) for topic in topics for frame in range(len(FRAMES))]
    words = {word for text in texts for word in text.split() if not word.startswith("{")}
    return [*SPECIAL, *sorted(words)]


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """Return the tokenizer, ready for ``save_pretrained``; padding on the left, pad and unk apart."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    pad, unknown, *_, end = SPECIAL
    words = Tokenizer(
        WordLevel({word: number for number, word in enumerate(vocabulary())}, unk_token=unknown)
    )
    words.pre_tokenizer = WhitespaceSplit()
    words.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    )
    make: Any = PreTrainedTokenizerFast  # untyped there
    tokenizer: PreTrainedTokenizerFast = make(
        tokenizer_object=words,
        pad_token=pad,
        unk_token=unknown,
        eos_token=end,
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
