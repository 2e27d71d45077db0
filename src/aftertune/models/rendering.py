"""Rendering: messages become input tokens by the chat template, to which nothing is added.

A template that writes the date is given a fixed one, `DATE`: the same command shall ask nothing again tomorrow.
"""

import ctypes
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aftertune.core.records import Message, Question, Thinking, begun_answer, folded
from aftertune.core.untrusted import filled, marker_pattern, neutralised
from aftertune.errors import ModelError
from aftertune.models.foreign import first_line, quiet, refused
from aftertune.models.thinking import (
    MARKS,
    THINKING_SWITCHES,
    closed_behind,
    opens,
    separate,
    unopened,
)

DATE = datetime(2024, 7, 26, tzinfo=UTC)
"""The day on which all prompts are asked: a key must not change overnight. It is the default of Llama's own templates."""
_DIRECTIVES = "aAbBcdDeFfGhHIjmMpRSTuUVwWxXyYzZ"
"""The letters that `strftime` replaces on all systems."""
_SECONDS = 20.0
"""The longest time in which a template renders one short turn; one that takes longer does not end."""
_PROBE = "aftertune-system-probe"
_ANSWER_PROBE = "aftertune-answer-probe"
_NO_SETTINGS: Mapping[str, object] = MappingProxyType({})


class Renderer:
    """A tokenizer with its chat template.

    Attributes:
        name: the model's name, for error messages.
        tokenizer: the transformers tokenizer; padding on the left.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        trust_remote_code: bool = False,
        vocabulary: int | None = None,
    ) -> None:
        """Load the tokenizer of a folder.

        Args:
            name: the model's name, for error messages.
            folder: where the tokenizer is.
            trust_remote_code: whether code that comes with it is run.
            vocabulary: the rows of the model's embedding; a token beyond them is an error of the checkpoint.

        Raises:
            ModelError: the tokenizer cannot be loaded.
        """
        from transformers import AutoTokenizer

        self.name = name
        self._vocabulary = vocabulary
        self._last: tuple[Thinking, list[Sequence[Message]], list[list[int]]] | None = None
        """The switch and the conversations that were rendered last, and their tokens."""
        loaded = refused(
            f"model {name!r}: the tokenizer cannot be loaded",
            "; mend tokenizer_config.json, tokenizer.json or config.json, or copy the folder again",
        )
        with loaded, quiet():
            self.tokenizer: Any = AutoTokenizer.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                padding_side="left",
            )
        with self._used():
            # The engine reports prompts that do not fit; the tokenizer's own warning would only repeat it.
            self.tokenizer.deprecation_warnings[
                "sequence-length-is-longer-than-the-specified-maximum"
            ] = True
            # Settings of a wrong type come out where they are used first: here, and not in the midst of a run.
            tokens = self.tokenizer(["a b"], add_special_tokens=True)["input_ids"][0]
            self.tokenizer.decode([int(token) for token in tokens], skip_special_tokens=True)
            _ = self.end_tokens, self.pad_token, self._special, self.tokenizer.bos_token_id

    def _used(self) -> AbstractContextManager[None]:
        """Turn what the tokenizer raises in the block into one line that names its files."""
        return refused(
            f"model {self.name!r}: the tokenizer cannot be used",
            "; mend tokenizer_config.json or tokenizer.json, or copy the folder again",
        )

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """Return the tokenizer's own end token, if it has one."""
        token = self.tokenizer.eos_token_id
        return () if token is None else (token,)

    @property
    def pad_token(self) -> int:
        """Return the token that fills short rows up; it is masked, so any token will do."""
        token = self.tokenizer.pad_token_id
        fits = token is not None and (self._vocabulary is None or token < self._vocabulary)
        return int(token) if fits else next(iter(self.end_tokens), 0)

    def prompts(
        self, conversations: Sequence[Sequence[Message]], thinking: Thinking = "default"
    ) -> list[list[int]]:
        """Return the input tokens of conversations that the model shall continue.

        Where a conversation ends with the model's own turn, the model goes on behind that beginning of its answer. A
        thinking block that the template opens is closed before it, empty: the beginning is one of the final answer.

        Args:
            conversations: turns in order.
            thinking: whether the template is told that the model shall think.

        Raises:
            ModelError: the model has no chat template, or the template refuses a conversation, leaves out what is said,
                or has no switch for thinking.
        """
        self._check_content()
        # The samples and decodings of a study ask the same prompts again and again.
        if self._last is None or self._last[:2] != (thinking, conversations):
            settings = self._switch(thinking) if conversations else _NO_SETTINGS
            begun = [begun_answer(messages) for messages in conversations]
            texts = self.texts(
                [messages for messages, _ in begun], answer_follows=True, settings=settings
            )
            texts = [
                f"{text}{self._before_answer(text)}{beginning}" if beginning else text
                for text, (_, beginning) in zip(texts, begun, strict=True)
            ]
            self._last = (thinking, list(conversations), self.tokens(texts))
        return list(self._last[2])

    def _before_answer(self, prompt: str) -> str:
        """Return the text between a rendered prompt and the beginning of the final answer."""
        closing = closed_behind(prompt)
        return f"\n{closing}\n\n" if closing else self._answer_space

    @cached_property
    def _answer_space(self) -> str:
        """Return the white space that the template writes between its generation prompt and an answer (Llama 2 has one)."""
        turn = [Message(role="user", content=_PROBE)]
        answered = [*turn, Message(role="assistant", content=_ANSWER_PROBE)]
        try:
            (prompted,) = self._render([self._plain(turn)], answer_follows=True)
            (whole,) = self._render([self._plain(answered)], answer_follows=False)
        except ModelError:
            raise
        except Exception:  # noqa: BLE001  # `texts` reports what a template refuses
            return ""
        head, _, _ = whole.removeprefix(prompted).partition(_ANSWER_PROBE)
        return head if whole.startswith(prompted) and not head.strip() else ""

    def _switch(self, thinking: Thinking) -> Mapping[str, object]:
        """Return the template's setting that turns thinking on or off."""
        if thinking == "default":
            return _NO_SETTINGS
        if self._switch_name is None:
            raise ModelError(
                f"model {self.name!r}: its chat template has no switch for thinking ({', '.join(THINKING_SWITCHES)}); leave "
                f"decoding.thinking at default, not at {thinking}"
            )
        return {self._switch_name: thinking == "on"}

    @cached_property
    def _switch_name(self) -> str | None:
        """Return the name of the template's switch for thinking: the setting that changes what it renders; None without one."""
        probe = self._plain([Message(role="user", content=_PROBE)])

        def rendered(**settings: object) -> str | None:
            with suppress(Exception):  # a template raises whatever its author chose
                return self._render([probe], answer_follows=True, **settings)[0]
            return None

        return next(
            (
                name
                for name in THINKING_SWITCHES
                if rendered(**{name: True}) != rendered(**{name: False})
            ),
            None,
        )

    def decoded(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Return the text of tokens, without special tokens unless ``special``."""
        return str(
            self.tokenizer.decode(
                tokens, skip_special_tokens=not special, clean_up_tokenization_spaces=False
            )
        )

    @property
    def marks_thinking(self) -> bool:
        """Return whether some of the special tokens mark thinking."""
        return bool(self._special & MARKS)

    def bare(self, text: str) -> str:
        """Return a text without the special tokens in it."""
        for token in self._special:
            text = text.replace(token, "")
        return text

    @cached_property
    def _special(self) -> frozenset[str]:
        added = self.tokenizer.added_tokens_decoder.values()
        special = [token for token in added if token.special]
        return frozenset(map(str, [*special, *self.tokenizer.all_special_tokens]))

    def questions(self, questions: Sequence[Sequence[Message] | Question]) -> list[list[int]]:
        """Return the input tokens of questions about foreign texts: markers in what the texts say are broken.

        A finished prompt gets the tokenizer's beginning token unless it is written out in it.

        Raises:
            ModelError: as `prompts`.
        """
        items = [
            item if isinstance(item, Question) else Question(messages=tuple(item))
            for item in questions
        ]
        texts: list[str] = []
        for question in items:
            if question.pattern:
                parts = {k: neutralised(v, self._markers) for k, v in question.parts.items()}
                texts.append(filled(question.pattern, parts))
            else:
                messages = [
                    Message(role=turn.role, content=neutralised(turn.content, self._markers))
                    for turn in question.messages
                ]
                texts += self.texts([messages], answer_follows=True, settings=question.settings)
        first = self.tokenizer.bos_token_id
        begins = first is not None and self.tokenizer("")["input_ids"][:1] == [first]
        return [
            [first, *row] if begins and question.pattern and row[:1] != [first] else row
            for question, row in zip(items, self.tokens(texts), strict=True)
        ]

    @cached_property
    def _markers(self) -> re.Pattern[str]:
        """Return a pattern of all that the tokenizer reads as structure: its special tokens, and added tokens of its template."""
        template = str(self.tokenizer.chat_template or "")
        added = self.tokenizer.added_tokens_decoder.values()
        special = [token.content for token in added if token.special or token.content in template]
        return marker_pattern([*special, *self.tokenizer.all_special_tokens])

    def exchanges(
        self, conversations: Sequence[Sequence[Message]]
    ) -> list[tuple[list[int], list[int]]]:
        """Return, for each conversation, the tokens up to its last answer and those of that answer with its end token.

        The template renders the answer. Where its rendering does not begin with the prompt's (some rewrite earlier
        turns), or lacks the thinking that stands in the answer (some take it out), the answer's own tokens and the end
        token are put after the prompt; the mark that opens the thinking stands there once.
        """
        self._check_content()
        prompts = self.texts([messages[:-1] for messages in conversations], answer_follows=True)
        wholes = self.texts(conversations, answer_follows=False)
        answers = [
            _answer(prompt, whole, messages[-1].content)
            for prompt, whole, messages in zip(prompts, wholes, conversations, strict=True)
        ]
        ends = set(self.end_tokens)
        return [
            (prompt, answer if ends & set(answer) else [*answer, *self.end_tokens])
            for prompt, answer in zip(self.tokens(prompts), self.tokens(answers), strict=True)
        ]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts as they stand: no beginning or end token is added."""
        if not texts:
            return []
        with self._used():
            tokens: list[list[int]] = self.tokenizer(
                list(texts), add_special_tokens=False, return_attention_mask=False
            )["input_ids"]
        largest = max((max(row) for row in tokens if row), default=0)
        if self._vocabulary is not None and largest >= self._vocabulary:
            raise ModelError(
                f"model {self.name!r}: its tokenizer gives token {largest}, but its config.json knows {self._vocabulary:,} "
                "tokens only; put the tokenizer that belongs to these weights into the folder"
            )
        return tokens

    def beginnings(self, labels: Sequence[str]) -> list[list[int]] | None:
        """Return, for each label, the tokens that it alone can begin with; None where a label has no such token.

        The spellings of a label are itself, in small letters, capitalised and in capitals, each with and without a space
        before it: tokenizers have a token for each, and fine-tuned classifiers use now this one, now that one.
        """
        first = [set(self._first_tokens(label)) for label in labels]
        own = [
            sorted(tokens - set().union(*(first[:i] + first[i + 1 :])))
            for i, tokens in enumerate(first)
        ]
        return own if labels and all(own) else None

    def leading_space(self, answer: Sequence[int]) -> list[int]:
        """Return the tokens of white space at the beginning of an answer; none where it has nothing else."""
        words = (i for i, token in enumerate(answer) if not self._is_space(token))
        return list(answer[: next(words, 0)])

    def _first_tokens(self, label: str) -> Iterator[int]:
        spellings = {label, label.lower(), label.capitalize(), label.upper()}
        spaced = sorted({space + spelling for spelling in spellings for space in ("", " ")})
        for tokens in self.tokens(spaced):
            words = [token for token in tokens if not self._is_space(token)]
            if words and words[0] != self.tokenizer.unk_token_id:
                yield words[0]

    def _is_space(self, token: int) -> bool:
        return (
            token not in self.tokenizer.all_special_ids
            and not self.decoded([token], special=True).strip()
        )

    def texts(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        answer_follows: bool,
        settings: Mapping[str, object] = _NO_SETTINGS,
    ) -> list[str]:
        """Return the rendered text of conversations, ready for the model's answer if ``answer_follows``.

        Args:
            conversations: turns in order.
            answer_follows: whether the model's turn is begun.
            settings: what the template takes besides messages.
        """
        if not conversations:
            return []
        if self.tokenizer.chat_template is None:
            raise ModelError(
                f"model {self.name!r} has no chat template, so it cannot be asked anything; "
                "add chat_template.jinja beside its tokenizer"
            )
        if self.folds_system:
            conversations = [folded(messages) for messages in conversations]
        plain = [self._plain(messages) for messages in conversations]
        try:
            return self._render(plain, answer_follows=answer_follows, **settings)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"model {self.name!r}: its chat template refuses a conversation ({first_line(error)})"
            ) from error

    def _render(
        self,
        conversations: list[list[dict[str, object]]],
        *,
        answer_follows: bool,
        **settings: object,
    ) -> list[str]:
        return list(
            self.tokenizer.apply_chat_template(
                conversations,
                tokenize=False,
                add_generation_prompt=answer_follows,
                chat_template=self._template,
                date_string=DATE.strftime("%d %b %Y"),
                **settings,
            )
        )

    @cached_property
    def _template(self) -> str:
        """Return the chat template with the fixed date.

        Raises:
            ModelError: it does not end.
        """
        template: str = self.tokenizer.get_chat_template()
        if "strftime_now" in template:
            template = f"{_fixed_date()}\n{template}"
        turn = [{"role": "user", "content": _PROBE}]
        if not _ends(
            partial(
                self.tokenizer.apply_chat_template, turn, chat_template=template, tokenize=False
            )
        ):
            raise ModelError(
                f"model {self.name!r}: its chat template does not end: a short turn is not rendered after {_SECONDS:.0f} s; "
                "mend chat_template.jinja beside its tokenizer"
            )
        return template

    @cached_property
    def begins_turn(self) -> bool:
        """Return whether the template begins the model's turn where it is told to, or has nothing to begin it with.

        It has nothing where an answer stands right behind the user's turn (Llama 2, Mistral).
        """
        answer = _ANSWER_PROBE
        turn = [Message(role="user", content=_PROBE)]
        try:
            plain, prompted = (
                self._render([self._plain(turn)], answer_follows=follows)[0]
                for follows in (False, True)
            )
            whole = self._render(
                [self._plain([*turn, Message(role="assistant", content=answer)])],
                answer_follows=False,
            )[0]
        except ModelError:
            raise
        except Exception:  # noqa: BLE001  # `texts` reports what a template refuses
            return True
        head, _, _ = whole.removeprefix(prompted).partition(answer)
        return plain != prompted or not whole.startswith(prompted) or not head.strip()

    @cached_property
    def folds_system(self) -> bool:
        """Return whether the template refuses a system turn, or drops it without a word."""
        probe = [Message(role="system", content=_PROBE), Message(role="user", content="user")]
        return not self._writes_probe(self._plain(probe))

    def _check_content(self) -> None:
        if self.tokenizer.chat_template is not None and self._leaves_out:
            raise ModelError(
                f"model {self.name!r}: its chat template leaves out what the user says; mend chat_template.jinja beside its tokenizer"
            )

    @cached_property
    def renders_reasoning(self) -> bool:
        """Return whether the template renders the thinking that a message keeps apart from its answer."""
        question = Message(role="user", content="user")
        answer = Message(role="assistant", content="assistant", reasoning=_PROBE)
        try:
            return (
                _PROBE in self._render([self._plain([question, answer])], answer_follows=False)[0]
            )
        except Exception:  # noqa: BLE001  # a template raises whatever its author chose
            return False

    @cached_property
    def _leaves_out(self) -> bool:
        """Return whether the template renders a user's turn without its text; of an error `texts` tells."""
        return self._writes_probe(self._plain([Message(role="user", content=_PROBE)])) is False

    @cached_property
    def _in_parts(self) -> bool:
        """Return whether the template drops contents that are no lists of parts, as those of some Llama Guards do."""
        whole: list[dict[str, object]] = [{"role": "user", "content": _PROBE}]
        parts: list[dict[str, object]] = [
            {"role": "user", "content": [{"type": "text", "text": _PROBE}]}
        ]
        return not self._writes_probe(whole) and bool(self._writes_probe(parts))

    def _writes_probe(self, probe: list[dict[str, object]]) -> bool | None:
        """Return whether the probe's text is in what the template renders; None where the template refuses the probe."""
        try:
            return _PROBE in self._render([probe], answer_follows=True)[0]
        except ModelError:
            raise
        except Exception:  # noqa: BLE001  # a template raises whatever its author chose
            return None

    def _plain(self, messages: Sequence[Message]) -> list[dict[str, object]]:
        return [
            {
                "role": message.role,
                "content": [{"type": "text", "text": message.content}]
                if self._in_parts
                else message.content,
                # The names that templates give it: most the first, gpt-oss' the second.
                **(
                    {"reasoning_content": message.reasoning, "thinking": message.reasoning}
                    if message.reasoning
                    else {}
                ),
            }
            for message in messages
        ]


def _answer(prompt: str, whole: str, content: str) -> str:
    """Return the text of an answer behind its prompt, with the thinking that stands in its content."""
    rendered = whole[len(prompt) :] if whole.startswith(prompt) else content
    if rendered != content and content.strip() in rendered:
        return rendered
    thought = separate(content)
    if thought is None or not thought.reasoning or thought.reasoning in rendered:
        answer = rendered
    else:
        answer = content
    return unopened(answer) if answer == content and opens(prompt) else answer


def _fixed_date() -> str:
    """Return a macro in the template's own language that takes the place of transformers' ``strftime_now``.

    transformers hands no function of ours to a template, so the directives that a format may hold are filled in by name.
    """
    values = {letter: DATE.strftime(f"%{letter}") for letter in _DIRECTIVES}
    values |= {f"-{letter}": values[letter].lstrip("0") or "0" for letter in "dHIjmMSyUW"}
    replaced = {
        "%%": "\ue000",
        **{f"%{key}": value for key, value in values.items()},
        "\ue000": "%",
    }
    filters = "".join(f" | replace({old!r}, {new!r})" for old, new in replaced.items())
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{filters} }}}}{{%- endmacro %}}"


def _ends(render: Callable[[], object]) -> bool:
    """Return whether rendering ends, with a text or an error, within `_SECONDS`; what does not end is stopped."""

    def attempt() -> None:
        # `Renderer.texts` reports what a template refuses; SystemExit is the end from below
        with suppress(Exception, SystemExit):
            render()

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if thread.ident is None or not thread.is_alive():
        return True
    # A loop in a template is a loop of Python's, and an exception that is raised in its thread ends it.
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )
    return False
