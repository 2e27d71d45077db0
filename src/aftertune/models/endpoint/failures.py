"""Every way in which a call can fail, and what follows from it."""

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from aftertune.core.records import FinishReason, Response
from aftertune.errors import EngineError, ModelError
from aftertune.models.endpoint.providers import Address
from aftertune.models.endpoint.received import TooLong

_SHOWN = 300
"""Characters of a server's own message that are kept."""
_FILTERS = {
    "content_filter",
    "content_policy_violation",
    "responsibleaipolicyviolation",
    "moderation_blocked",
    "data_inspection_failed",
    "safety",
}
_TOO_LONG = {"context_length_exceeded", "string_above_max_length", "max_tokens_exceeded"}
_NO_MONEY = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_RETRIED = {408, 409, 425, 429}


class Unreachable(ConnectionError):
    """Nobody took the connection, so nothing was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a call has no answer."""

    reason: str
    """``timeout``, ``connection``, ``unreachable``, ``rate_limit``, ``server_error``, ``broken_reply``, ``too_long``,
    ``bad_request``."""
    detail: str
    retried: bool = True
    overload: bool = False
    """The server says, or its silence does, that it is asked too much."""
    billed: bool = False
    """The server may have done the work, and may charge for it."""


def of_status(address: Address, status: int, reply: object, text: str) -> Response | Failure:
    """Return what a reply with an HTTP error means: a refusal by the provider's filter is an answer, the rest is not.

    Args:
        address: who replied.
        status: the HTTP status, or the code of an error object in a reply with status 200.
        reply: the decoded reply, None if it is no JSON.
        text: the reply as text, for a message when it is no JSON.

    Raises:
        ModelError: asking again, or anything else, cannot help: key, model or address are wrong.
        EngineError: the account has no credit left.
    """
    error = error_of(reply)
    codes, said = _codes(error), _message(error, text)
    if status in (400, 403, 422, 451) and _filtered(error, codes, said):
        refusal = {"refused_by": "provider", "code": ", ".join(sorted(codes)) or str(status)}
        return Response(
            text="",
            finish_reason=FinishReason.PROVIDER_REFUSAL,
            prompt_tokens=0,
            completion_tokens=0,
            detail=refusal,
        )
    if status in (401, 403):
        variable = " or ".join(address.provider.keys)
        raise ModelError(
            f"model {address.name!r}: the server refused the key ({status}: {said}); set {variable} to a key that may use this model"
        )
    if status == 402 or codes & _NO_MONEY:
        raise EngineError(
            f"model {address.name!r}: the account has no credit ({said}); top it up and run again to go on"
        )
    if status in (404, 405) or 300 <= status < 400:
        _wrong_address(address, status, said)
    if status in _RETRIED or status >= 500:
        reason = {408: "timeout", 429: "rate_limit"}.get(status, "server_error")
        return Failure(
            reason=reason, detail=f"{status}: {said}", overload=status in (408, 429, 503, 529)
        )
    too_long = (
        status == 413 or bool(codes & _TOO_LONG) or "maximum context length" in said
    )  # vLLM gives no code
    return Failure(
        reason="too_long" if too_long else "bad_request", detail=f"{status}: {said}", retried=False
    )


def of_exception(error: OSError) -> Failure:
    """Return why a call broke on its way."""
    detail = str(error)[:_SHOWN] or type(error).__name__
    if isinstance(error, TimeoutError):
        return Failure(
            reason="timeout", detail="no whole reply in time", overload=True, billed=True
        )
    if isinstance(error, Unreachable):
        return Failure(reason="unreachable", detail=detail)
    if isinstance(error, TooLong):
        return Failure(reason="broken_reply", detail=detail, billed=True)
    return Failure(reason="connection", detail=detail, billed=True)


def error_of(reply: object) -> dict[str, Any]:
    """Return the error object of a reply, {} if it has none; some servers wrap it in a list, some write a text."""
    if isinstance(reply, list) and reply:
        reply = reply[0]
    if not isinstance(reply, dict):
        return {}
    error = reply.get("error", reply if "message" in reply and "choices" not in reply else None)
    return error if isinstance(error, dict) else {"message": error} if error else {}


def _wrong_address(address: Address, status: int, said: str) -> NoReturn:
    if status == 404:
        raise ModelError(
            f"model {address.name!r}: there is no such model or path at {address.url} ({said}); check both"
        )
    raise ModelError(
        f"model {address.name!r}: {address.url} is no chat-completions address ({status}); check it (most end in /v1)"
    )


def _codes(error: dict[str, Any]) -> set[str]:
    """Return every code that an error object carries, in small letters."""
    inner = error.get("innererror") or error.get("inner_error")
    holders = [error, inner if isinstance(inner, dict) else {}]
    found = [holder.get(field) for holder in holders for field in ("code", "type", "status")]
    return {code.lower() for code in found if isinstance(code, str)}


def _filtered(error: dict[str, Any], codes: set[str], said: str) -> bool:
    """Return whether a content filter refused; by its codes, since words such as "policy" occur in other errors too."""
    metadata = error.get("metadata")
    flagged = isinstance(metadata, dict) and (
        "flagged_input" in metadata or bool(metadata.get("reasons"))
    )
    return (
        flagged
        or bool(codes & _FILTERS)
        or ("invalid_prompt" in codes and "usage polic" in said.lower())
    )


def _message(error: dict[str, Any], text: str) -> str:
    message = error.get("message")
    plain = message if isinstance(message, str) else json.dumps(error) if error else text
    line = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
    return (line[:_SHOWN] + "…" if len(line) > _SHOWN else line) or "no reason given"
