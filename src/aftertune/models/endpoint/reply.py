"""A server's reply becomes a response, or the reason why it is none."""

import json
from dataclasses import replace
from typing import Any

from aftertune.core.records import FinishReason, Response
from aftertune.models.endpoint.failures import Failure, error_of, of_status
from aftertune.models.endpoint.providers import Address
from aftertune.models.thinking import final

_FINISH = {
    **dict.fromkeys(
        ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "STOP"), FinishReason.STOP
    ),
    **dict.fromkeys(("length", "max_tokens", "MAX_TOKENS"), FinishReason.LENGTH),
    **dict.fromkeys(
        ("content_filter", "safety", "SAFETY", "PROHIBITED_CONTENT"), FinishReason.PROVIDER_REFUSAL
    ),
}

_MOST_TOKENS = 1 << 31
"""No answer has so many; the store keeps numbers of 63 bits."""


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
        return _broken(reply, "not the JSON of an answer")
    if reply.get("error"):  # some relays send the model's failure with status 200
        code = error_of(reply).get("code")
        return of_status(
            address, code if isinstance(code, int) and 400 <= code < 600 else 500, reply, ""
        )
    try:
        return _completion(reply)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        return _broken(
            reply, f"an answer without what belongs in it ({type(error).__name__}: {error})"
        )


def _completion(reply: dict[str, Any]) -> Response | Failure:
    if "results" in reply:
        return _moderation(reply)
    choices = reply["choices"]
    if not choices:
        feedback = reply.get("promptFeedback") or reply.get("prompt_feedback")
        if isinstance(feedback, dict) and (
            feedback.get("blockReason") or feedback.get("block_reason")
        ):
            return _response(reply, "", FinishReason.PROVIDER_REFUSAL)
        return _broken(reply, "no choices in it")
    finish = _FINISH.get(str(choices[0].get("finish_reason")))
    if finish is None:
        return _broken(reply, f"finish_reason {choices[0].get('finish_reason')!r}")
    choice = choices[0]
    response = final(_response(reply, _text(choice), finish), reasoning=_reasoning(choice))
    first = _first_words(choices[0].get("logprobs"))
    return (
        replace(response, detail={**response.detail, "first_words": first}) if first else response
    )


def _moderation(reply: dict[str, Any]) -> Response:
    """Return what a moderation service says of one text: the flag, and its categories with their scores."""
    (result,) = reply["results"]
    flagged, scores = (
        result["flagged"],
        {str(name): float(value) for name, value in result["category_scores"].items()},
    )
    if not isinstance(flagged, bool):
        raise TypeError(f"flagged is {type(flagged).__name__}")
    categories = sorted(
        str(name) for name, applies in result["categories"].items() if applies is True
    )
    detail: dict[str, object] = {"flagged": flagged, "categories": categories, "scores": scores}
    if isinstance(reply.get("model"), str):
        detail["served_model"] = reply["model"]
    text = json.dumps(result, sort_keys=True)
    return Response(
        text=text,
        finish_reason=FinishReason.STOP,
        prompt_tokens=0,
        completion_tokens=0,
        detail=detail,
    )


def _first_words(logprobs: Any) -> dict[str, float]:
    """Return what a reply could have begun with, behind white space, with log-probabilities; {} where it is not told."""
    if not isinstance(logprobs, dict):
        return {}
    if isinstance(content := logprobs.get("content"), list):  # of chat completions
        places = [
            (each["token"], {one["token"]: one["logprob"] for one in each["top_logprobs"]})
            for each in content
        ]
    else:  # of completions
        tops = logprobs.get("top_logprobs") or []
        places = list(zip(logprobs.get("tokens") or [], tops, strict=False))
    first = next((words for token, words in places if str(token).strip()), {})
    return {str(word): float(value) for word, value in dict(first or {}).items()}


def _text(choice: dict[str, Any]) -> str:
    """Return the answer's text: a message's content, and without a message the ``text`` of a completion.

    The model's own refusal, which some servers put in a field of its own, is its answer.
    """
    message = choice.get("message")
    content = choice["text"] if message is None else message.get("content")
    if content is None and message is not None:
        refusal = message.get("refusal")
        return refusal if isinstance(refusal, str) else ""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part.get("type", "text") == "text")
    if not isinstance(content, str):
        raise TypeError(f"the text is {type(content).__name__}")
    return content


def _reasoning(choice: dict[str, Any]) -> str:
    """Return the thinking that a server gives apart from the answer: in a field of its own, or as parts of the content."""
    message = choice.get("message")
    if not isinstance(message, dict):
        return ""
    for field in ("reasoning_content", "reasoning"):
        if isinstance(message.get(field), str) and message[field]:
            return str(message[field])
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return "\n".join(filter(None, map(_thought, parts)))


def _thought(part: Any) -> str:
    """Return the text of a content part that is thinking (of Mistral a list of texts, of others a text)."""
    if not isinstance(part, dict) or part.get("type") not in ("thinking", "reasoning"):
        return ""
    for field in ("thinking", "reasoning", "text", "summary"):
        value = part.get(field)
        texts = value if isinstance(value, list) else [value]
        texts = [text.get("text") if isinstance(text, dict) else text for text in texts]
        if any(texts):
            return "".join(text for text in texts if isinstance(text, str))
    return ""


def _response(reply: dict[str, Any], text: str, finish: FinishReason) -> Response:
    usage = reply.get("usage")
    counts = [
        usage.get(field) if isinstance(usage, dict) else None
        for field in ("prompt_tokens", "completion_tokens")
    ]
    known = [
        count if type(count) is int and 0 <= count < _MOST_TOKENS else None for count in counts
    ]
    detail: dict[str, object] = {
        field: reply[source]
        for field, source in (
            ("served_model", "model"),
            ("system_fingerprint", "system_fingerprint"),
        )
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
