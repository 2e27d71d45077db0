"""A server's reply becomes a response, or the reason why it is none."""

import json
from typing import Any

from aftertune.core.records import FinishReason, Response
from aftertune.engine.endpoint.failures import Failure, error_of, of_status
from aftertune.engine.endpoint.providers import Address

_FINISH = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "STOP"), FinishReason.STOP),
    **dict.fromkeys(("length", "max_tokens", "MAX_TOKENS"), FinishReason.LENGTH),
    **dict.fromkeys(("content_filter", "safety", "SAFETY", "PROHIBITED_CONTENT"), FinishReason.PROVIDER_REFUSAL),
}


def read_reply(address: Address, status: int, data: bytes) -> Response | Failure:
    """Return what a reply says.

    Raises:
        ModelError, EngineError: no further call can succeed (see `failures.of_status`).
    """
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError):
        reply = None
    if status != 200:
        return of_status(address, status, reply, data[:1000].decode("utf-8", "replace"))
    if not isinstance(reply, dict):
        return _broken(reply, "not the JSON of a completion")
    if reply.get("error"):  # some relays send the model's failure with status 200
        code = error_of(reply).get("code")
        return of_status(address, code if isinstance(code, int) and 400 <= code < 600 else 500, reply, "")
    try:
        return _completion(reply)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        return _broken(reply, f"a completion without what belongs in it ({type(error).__name__}: {error})")


def _completion(reply: dict[str, Any]) -> Response | Failure:
    choices = reply["choices"]
    if not choices:
        feedback = reply.get("promptFeedback") or reply.get("prompt_feedback")
        if isinstance(feedback, dict) and (feedback.get("blockReason") or feedback.get("block_reason")):
            return _response(reply, "", FinishReason.PROVIDER_REFUSAL)
        return _broken(reply, "no choices in it")
    message = choices[0]["message"]
    finish = _FINISH.get(str(choices[0].get("finish_reason")))
    if finish is None:
        return _broken(reply, f"finish_reason {choices[0].get('finish_reason')!r}")
    return _response(reply, _text(message), finish)


def _text(message: dict[str, Any]) -> str:
    """Return the answer's text; the model's own refusal, which some servers put in a field of its own, is its answer."""
    content = message.get("content")
    if content is None:
        return str(message.get("refusal") or "")
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type", "text") == "text")
    if not isinstance(content, str):
        raise TypeError(f"content is {type(content).__name__}")
    return content


def _response(reply: dict[str, Any], text: str, finish: FinishReason) -> Response:
    usage = reply.get("usage")
    counts = [usage.get(field) if isinstance(usage, dict) else None for field in ("prompt_tokens", "completion_tokens")]
    known = [count if type(count) is int and count >= 0 else None for count in counts]
    detail: dict[str, object] = {
        field: reply[source]
        for field, source in (("served_model", "model"), ("system_fingerprint", "system_fingerprint"))
        if isinstance(reply.get(source), str)
    }
    if None in known:
        detail["usage"] = "missing"
    return Response(
        text=text,
        finish_reason=finish,
        prompt_tokens=known[0] or 0,
        completion_tokens=known[1] or 0,
        detail=detail,
    )


def _broken(reply: object, what: str) -> Failure:
    shown = "" if reply is None else f": {json.dumps(reply)[:200]}"
    return Failure(reason="broken_reply", detail=what + shown, billed=True)
