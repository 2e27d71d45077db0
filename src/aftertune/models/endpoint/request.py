"""The body of a call, its key, the seed of a sample, and the most that the call can cost."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from aftertune.core.keys import Key, content_key
from aftertune.core.records import Decoding, GenerateJob, Message, Price
from aftertune.core.untrusted import safe_messages, safe_prompt
from aftertune.errors import ModelError
from aftertune.models.counting import most_tokens
from aftertune.models.endpoint.providers import SERVER, Address

_encode = json.JSONEncoder(separators=(",", ":")).encode
_WORDS = 20
"""Number of words that a reply could have begun with, whose likelihood is asked for; the most that OpenAI allows."""
_SEEDS = 1 << 31
"""Servers keep a seed as a signed 32-bit number, or a longer one."""


def body(
    address: Address, messages: Sequence[Message], decoding: Decoding, sample: int
) -> dict[str, Any]:
    """Return the JSON body of a call.

    At temperature 0 nothing is drawn, so top-p and top-k are left out; the seed is sent all the same.

    Raises:
        ModelError: the provider has no ``top_k``.
    """
    provider = address.provider
    fields: dict[str, Any] = {
        "model": address.model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "temperature": float(decoding.temperature),
        provider.limit_field: decoding.max_new_tokens,
    }
    if decoding.temperature > 0:
        fields["top_p"] = float(decoding.top_p)
        if decoding.top_k and not provider.top_k:
            raise ModelError(
                f"model {address.name!r}: {provider.name} has no top_k; set decoding.top_k to 0"
            )
        if decoding.top_k:
            fields["top_k"] = decoding.top_k
    if provider.seed:
        fields["seed"] = request_seed(decoding.seed, sample)
    return fields


def job_body(address: Address, job: GenerateJob) -> dict[str, Any]:
    """Return the JSON body of a job: its messages, or its question with broken markers.

    The settings of a question's template travel as ``chat_template_kwargs``, which vLLM and SGLang hand on;
    a finished prompt goes to ``/completions``.

    Raises:
        ModelError: a hosted provider, whose template nobody can reach.
    """
    question = job.question
    if question is None:
        return body(address, job.messages, job.decoding, job.sample)
    if question.moderated is not None:
        return {"model": address.model, "input": question.moderated}
    if (question.settings or question.pattern) and address.provider.name != SERVER.name:
        raise ModelError(
            f"model {address.name!r}: this guard or judge needs its own template, which {address.provider.name} does not "
            "offer; serve the checkpoint yourself (vLLM, SGLang), or name its folder"
        )
    fields = body(address, safe_messages(question), job.decoding, job.sample)
    if question.settings:
        fields["chat_template_kwargs"] = dict(question.settings)
    if question.pattern:
        del fields["messages"]
        fields["prompt"] = safe_prompt(question)
    if question.labels is not None:
        fields |= (
            {"logprobs": _WORDS} if question.pattern else {"logprobs": True, "top_logprobs": _WORDS}
        )
    return fields


def key_of(address: Address, fields: dict[str, Any], decoding: Decoding, sample: int) -> Key:
    """Return the key of a call: base URL, model, exact body, decoding seed and sample number.

    The last two stand on their own because a body without ``seed`` would be the same for every sample.
    """
    return content_key(
        "endpoint call", 1, address.url, address.model, fields, decoding.seed, sample
    )


@cache
def request_seed(seed: int, sample: int) -> int:
    """Return the seed in the request, in [0, 2^31): another one for every pair of decoding seed and sample number."""
    return int.from_bytes(content_key("request seed", seed, sample)[:4], "big") % _SEEDS


def encoded(fields: dict[str, Any]) -> bytes:
    """Return the bytes of a body; half a surrogate pair, which is no text, travels as its escape."""
    return _encode(fields).encode()


def most_cost(address: Address, price: Price | None, fields: dict[str, Any]) -> float:
    """Return the most that a call with this body can cost; 0.0 without a price."""
    limit: int = fields.get(address.provider.limit_field, 0)
    return 0.0 if price is None else price.of(most_prompt_tokens(fields), limit)


def most_prompt_tokens(fields: dict[str, Any]) -> int:
    """Return a number of tokens that the prompt of a body cannot exceed."""
    for whole in ("prompt", "input"):
        if whole in fields:
            return most_tokens([fields[whole]])
    return most_tokens(message["content"] for message in fields["messages"])
