"""What is sent: the body of a call, its key, and the seed of a sample."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from aftertune.core.foreign import safe_messages, safe_prompt
from aftertune.core.ids import Key, content_key
from aftertune.core.records import Decoding, GenerateJob, Message
from aftertune.errors import ModelError
from aftertune.models.endpoint.providers import SERVER, Address

_encode = json.JSONEncoder(separators=(",", ":")).encode
_WORDS = 20
"""Words that a reply could have begun with, of which a server tells how likely they were; the most that OpenAI allows."""
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

    What a question's template takes besides messages travels as ``chat_template_kwargs``, which vLLM and SGLang hand on;
    a finished prompt goes to ``/completions``.

    Raises:
        ModelError: a hosted provider, whose template nobody can reach.
    """
    asked = job.question
    if asked is None:
        return body(address, job.messages, job.decoding, job.sample)
    if asked.moderated is not None:
        return {"model": address.model, "input": asked.moderated}
    if (asked.settings or asked.pattern) and address.provider.name != SERVER.name:
        raise ModelError(
            f"model {address.name!r}: this guard or judge needs its own template, which {address.provider.name} does not "
            "offer; serve the checkpoint yourself (vLLM, SGLang), or name its folder"
        )
    fields = body(address, safe_messages(asked), job.decoding, job.sample)
    if asked.settings:
        fields["chat_template_kwargs"] = dict(asked.settings)
    if asked.pattern:
        del fields["messages"]
        fields["prompt"] = safe_prompt(asked)
    if asked.logprobs:
        fields |= (
            {"logprobs": _WORDS} if asked.pattern else {"logprobs": True, "top_logprobs": _WORDS}
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


def most_prompt_tokens(fields: dict[str, Any]) -> int:
    """Return a number of tokens that the prompt cannot exceed: one a byte, and the template's around each message."""
    for whole in ("prompt", "input"):
        if whole in fields:
            return len(fields[whole].encode("utf-8", "surrogatepass")) + 16
    messages = fields["messages"]
    return sum(
        len(message["content"].encode("utf-8", "surrogatepass")) for message in messages
    ) + 16 * (1 + len(messages))
