"""What Inspect's providers say becomes a response or an attempt, and nothing in it is a key."""

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aftertune.core.protocols import Answer
from aftertune.core.records import Attempt, FinishReason, Response
from aftertune.models.loading import first_line
from aftertune.models.thinking import final

if TYPE_CHECKING:
    from inspect_ai.model import ModelOutput

FINISH = {
    "stop": FinishReason.STOP,
    "unknown": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "content_filter": FinishReason.PROVIDER_REFUSAL,
}
"""Inspect's reasons to stop that mean a final answer; some of its providers never say more than ``unknown``."""
REASONS = {408: "timeout", 429: "rate_limit"}
"""HTTP status -> reason of the attempt, where it has one of its own."""
_SECRET = re.compile(r"(?:_KEY|_TOKEN|_SECRET|_SECRET_ACCESS_KEY)$")


def read_output(output: "ModelOutput") -> Answer:
    """Return what a provider's answer says; a reason to stop that is no final answer is an attempt."""
    if output.empty:
        return Attempt(
            reason="broken_reply",
            detail=without_secrets(first_line(Exception(output.error or "no choices"))),
        )
    finish = FINISH.get(output.stop_reason)
    if finish is None or (output.error and finish is not FinishReason.PROVIDER_REFUSAL):
        return Attempt(
            reason="broken_reply",
            detail=without_secrets(output.error or f"stop reason {output.stop_reason!r}"),
        )
    detail: dict[str, object] = {"served_model": output.model}
    if output.stop_reason == "unknown":
        detail["stop_reason"] = "unknown"
    if output.usage is None:
        detail["usage"] = "missing"
    if finish is FinishReason.PROVIDER_REFUSAL:
        detail["refused_by"] = "provider"
    response = Response(
        text="" if finish is FinishReason.PROVIDER_REFUSAL else output.completion,
        finish_reason=finish,
        prompt_tokens=output.usage.input_tokens if output.usage else 0,
        completion_tokens=output.usage.output_tokens if output.usage else 0,
        detail=detail,
    )
    return final(response, reasoning=_reasoning(output))


def _reasoning(output: "ModelOutput") -> str:
    """Return the thinking that Inspect keeps apart from the answer, as parts of the message."""
    content = output.message.content
    parts = content if isinstance(content, list) else []
    return "\n".join(part.reasoning for part in parts if part.type == "reasoning")


def cause_of(error: Exception) -> Exception:
    """Return what a retry that was given up was tried for."""
    last = getattr(error, "last_attempt", None)
    cause = last.exception() if last is not None else None
    return cause if isinstance(cause, Exception) else error


def status_of(error: Exception) -> int | None:
    """Return the HTTP status that an exception of a provider's client carries."""
    found = getattr(error, "status_code", None) or getattr(error, "code", None)
    return found if isinstance(found, int) else None


def address_of(url: str | None) -> str:
    """Return a base URL without user name, password and query, which may hold a key."""
    parts = urlsplit(url or "")
    return (
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
        if parts.netloc
        else ""
    )


def without_secrets(text: str) -> str:
    """Return a text without what the environment keeps secret, and without what looks like a part of a key."""
    secrets = sorted(
        (v for k, v in os.environ.items() if _SECRET.search(k) and len(v) >= 6),
        key=len,
        reverse=True,
    )
    for secret in secrets:
        text = text.replace(secret, "***")
    return re.sub(r"\b(?:sk|key|gsk|hf|AIza)[-_][\w*.-]{4,}", "***", text)[:300]
