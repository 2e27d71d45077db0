"""The wire format of one call: a job becomes the body of a request, and a server's reply a response or a failure."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from aftertune.core.keys import Key, content_key, replicate_part
from aftertune.core.records import (
    Decoding,
    FinishReason,
    GenerateJob,
    Message,
    Price,
    Response,
    folded,
)
from aftertune.core.untrusted import safe_messages, safe_prompt
from aftertune.errors import EngineError, ModelError
from aftertune.models.counting import most_tokens
from aftertune.models.endpoint.budget import Usage
from aftertune.models.endpoint.providers import SERVER, Address
from aftertune.models.thinking import THINKING_SWITCHES, final

_PATHS = {"prompt": "/completions", "input": "/moderations", "messages": "/chat/completions"}
_WORDS = 20
"""Number of words that a reply could have begun with, whose likelihood is asked for; the most that OpenAI allows."""
_SEEDS = 1 << 31
"""Servers keep a seed as a signed 32-bit number, or a longer one."""
_SHOWN = 300
"""Characters of a server's own message that are kept."""
_STOPPED = """
    stop stopped stop_sequence stop_word stop_token end end_turn end_of_turn eos eos_token complete completed finished
    done tool_call tool_calls tool_use function_call
"""
_CUT = """
    length max_length model_length length_limit max_tokens max_new_tokens max_output_tokens max_completion_tokens
    token_limit context_length context_length_exceeded model_context_window_exceeded
"""
_REFUSED = """
    refusal refused sensitive safety image_safety prohibited_content blocklist blocked spii recitation content_filter
    content_filtered contentfilter filtered content_policy content_policy_violation policy_violation moderation moderated
    content_moderation guardrail guardrails guardrail_intervened toxic error_toxic
"""
_FINISH = {
    **dict.fromkeys(_STOPPED.split(), FinishReason.STOP),
    **dict.fromkeys(_CUT.split(), FinishReason.LENGTH),
    **dict.fromkeys(_REFUSED.split(), FinishReason.PROVIDER_REFUSAL),
}
"""The reasons to stop that servers give, in small letters."""
_USUAL = ("stop", "length", "content_filter")
"""The reasons of OpenAI's chat completions; any other one is kept with the answer."""
_BROKEN_OFF = frozenset(
    [
        "error",
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "interrupted",
        "network_error",
        "timeout",
        "insufficient_system_resource",
    ]
)
"""The reasons of answers that the server itself broke off."""
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
LIMITS = ("max_tokens", "max_completion_tokens")
"""The names of the limit of an answer's tokens, of which a body has one at most."""
SYSTEM = "system"
"""Stands for a system turn among the fields that a server refuses."""
_TOGETHER = ("logprobs", "top_logprobs")
_DISPENSABLE = ("seed", "top_k", "top_p", *_TOGETHER, *LIMITS, "temperature")
"""The fields that a request can do without or rename; where an error names several, the first is tried first."""
_NO_SYSTEM = re.compile(
    r"system[\w' -]{0,3}(?:role|prompt|message|instruction|turn)|role\b.{0,40}\bsystem|developer instruction"
    r"|roles must alternate|only user and assistant",
    re.IGNORECASE,
)
"""A template or a server that takes no system turn."""
_STREAMED = ("content", "reasoning_content", "reasoning", "refusal")
"""The texts of a message that a stream gives in pieces."""
_MOST_TOKENS = 1 << 31
"""No answer has so many tokens; the store keeps numbers of 63 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestForm:
    """The differences between the requests that a server takes and the usual ones; see `changed`."""

    left_out: tuple[str, ...] = ()
    """Fields that the server refuses, whatever their value."""
    temperatures: tuple[float, ...] = ()
    """Temperatures that it refuses: such a request names none, and the server decides."""
    limit_field: str = ""
    """Its name for the limit of an answer's tokens; empty for the provider's usual one."""
    folds_system: bool = False
    """True where it takes no system turn: the text then stands at the head of the user's turn."""

    def applied(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return a body as the server takes it."""
        if self == USUAL:
            return fields
        without = {*self.left_out} | (
            {"temperature"} if fields.get("temperature") in self.temperatures else set()
        )
        renamed = dict.fromkeys(LIMITS, self.limit_field) if self.limit_field else {}
        taken = {
            renamed.get(name, name): value for name, value in fields.items() if name not in without
        }
        if self.folds_system and "messages" in taken:
            taken["messages"] = [_plain(turn) for turn in folded(_turns(taken["messages"]))]
        return taken

    def changed(self, refused: Sequence[str], fields: dict[str, Any]) -> "RequestForm | None":
        """Return the form that does without the first of the refused fields that a body has; None where there is none.

        Args:
            refused: `Failure.refused`.
            fields: the body that was refused.
        """
        for name in refused:
            if name == SYSTEM and any(
                turn["role"] == "system" for turn in fields.get("messages", ())
            ):
                return replace(self, folds_system=True)
            if name not in fields:
                continue
            if name == "temperature":
                return replace(self, temperatures=(*self.temperatures, fields[name]))
            if name not in LIMITS:
                also = _TOGETHER if name in _TOGETHER else (name,)
                return replace(self, left_out=(*self.left_out, *also))
            if not self.limit_field:
                return replace(self, limit_field=next(other for other in LIMITS if other != name))
        return None

    @property
    def in_words(self) -> str:
        """The differences as a sentence for a note; empty where there are none."""
        temperatures = [f"temperature {value:g}" for value in self.temperatures]
        refused = [*self.left_out, *temperatures]
        parts = []
        if refused:
            parts.append(f"refuses {', '.join(refused)}: left out, and the server decides")
        if self.limit_field:
            parts.append(f"takes the token limit as {self.limit_field}")
        if self.folds_system:
            parts.append(
                "takes no system turn: the system prompt stands at the head of the user's turn"
            )
        return f"the server {'; '.join(parts)}" if parts else ""


USUAL = RequestForm()
"""The form of requests to a server that refuses nothing."""


def _turns(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    return [Message(role=turn["role"], content=turn["content"]) for turn in messages]


def _plain(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def body(
    address: Address,
    messages: Sequence[Message],
    decoding: Decoding,
    sample: int,
    form: RequestForm = USUAL,
) -> dict[str, Any]:
    """Return the JSON body of a call. Messages that end with the assistant's are an answer that the model goes on with.

    At temperature 0 nothing is drawn, so top-p and top-k are left out; the seed is sent all the same.

    Raises:
        ModelError: the provider has no ``top_k``, no switch for thinking, or does not go on with a begun answer.
    """
    provider, fields = address.provider, _fields(address, messages, decoding, sample)
    if messages and messages[-1].role == "assistant":
        if provider.continuing is None:
            raise ModelError(
                f"model {address.name!r}: {provider.name} does not go on behind the beginning of an answer; leave attacks of the "
                "kind prefill out"
            )
        fields |= provider.continuing
    return form.applied(fields)


def _fields(
    address: Address, messages: Sequence[Message], decoding: Decoding, sample: int
) -> dict[str, Any]:
    """Return the fields of a call's body, whatever its last message is for."""
    provider = address.provider
    fields: dict[str, Any] = {
        "model": address.model,
        "messages": [_plain(message) for message in messages],
        "temperature": float(decoding.temperature),
        provider.limit_field: decoding.limit,
    }
    if decoding.thinking != "default":
        if provider.name != SERVER.name:
            raise ModelError(
                f"model {address.name!r}: {provider.name} has no switch for thinking; leave decoding.thinking at default, not at "
                f"{decoding.thinking}"
            )
        # vLLM, SGLang and llama.cpp hand these on; a template takes the one that it knows.
        on = decoding.thinking == "on"
        fields["chat_template_kwargs"] = dict.fromkeys(THINKING_SWITCHES, on)
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


def job_body(address: Address, job: GenerateJob, form: RequestForm = USUAL) -> dict[str, Any]:
    """Return the JSON body of a job: its messages, or its question with broken markers.

    The settings of a question's template travel as ``chat_template_kwargs``, which vLLM and SGLang hand on;
    a finished prompt goes to ``/completions``.

    Raises:
        ModelError: a hosted provider, whose template nobody can reach.
    """
    question = job.question
    if question is None:
        return body(address, job.messages, job.decoding, job.sample, form)
    if question.moderated is not None:
        return {"model": address.model, "input": question.moderated}
    if (question.settings or question.pattern) and address.provider.name != SERVER.name:
        raise ModelError(
            f"model {address.name!r}: this guard or judge needs its own template, which {address.provider.name} does not "
            "offer; serve the checkpoint yourself (vLLM, SGLang), or name its folder"
        )
    # A guard's last message is the answer that it is to judge, not one to go on with.
    fields = _fields(address, safe_messages(question), job.decoding, job.sample)
    if question.settings:
        fields["chat_template_kwargs"] = dict(question.settings)
    if question.pattern:
        del fields["messages"]
        fields["prompt"] = safe_prompt(question)
    if question.labels is not None:
        fields |= (
            {"logprobs": _WORDS} if question.pattern else {"logprobs": True, "top_logprobs": _WORDS}
        )
    return form.applied(fields)


def key_of(address: Address, fields: dict[str, Any], decoding: Decoding, sample: int) -> Key:
    """Return the key of a call: base URL, model, exact body, decoding seed, sample number, and replicate if it is not the first.

    The last three stand on their own because a body without ``seed`` would be the same for every sample, and that of a
    replicate always is.
    """
    again = replicate_part(decoding.replicate)
    return content_key(
        "endpoint call", 1, address.url, address.model, fields, decoding.seed, sample, *again
    )


@cache
def request_seed(seed: int, sample: int) -> int:
    """Return the seed in the request, in [0, 2^31): another one for every pair of decoding seed and sample number."""
    return int.from_bytes(content_key("request seed", seed, sample)[:4], "big") % _SEEDS


def encoded(fields: dict[str, Any]) -> bytes:
    """Return the bytes of a body; half a surrogate pair, which is no text, travels as its escape."""
    return json.dumps(fields, separators=(",", ":")).encode()


def path_of(fields: dict[str, Any]) -> str:
    """Return the path behind the base URL for a body: messages are completed by a chat, a ``prompt`` as it stands, an ``input`` is moderated."""
    return next(path for field, path in _PATHS.items() if field in fields)


def token_limit(fields: dict[str, Any]) -> int:
    """Return the most tokens that the answer to a body may have; 0 where it names no limit."""
    return int(next((fields[name] for name in LIMITS if name in fields), 0))


def most_cost(price: Price | None, fields: dict[str, Any]) -> float:
    """Return the most that a call with this body can cost; 0.0 without a price."""
    texts = [fields[field] for field in ("prompt", "input") if field in fields]
    texts += [message["content"] for message in fields.get("messages", ())]
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
    return 0.0 if price is None else price.of(most_tokens(sizes), token_limit(fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The reason why a call has no answer."""

    reason: str
    """``timeout``, ``connection``, ``unreachable``, ``rate_limit``, ``server_error``, ``broken_reply``, ``too_long``,
    ``bad_request``; of a line of a batch also ``expired`` and ``cancelled``."""
    detail: str
    retried: bool = True
    overload: bool = False
    """The server says, or its silence does, that it is asked too much."""
    billed: bool = False
    """The server may have done the work, and may charge for it."""
    wait: float = 0.0
    """Seconds that the server asks to wait before the next try."""
    refused: tuple[str, ...] = ()
    """The fields that the server names as the ones that it does not take (`SYSTEM` for a system turn), the likeliest first."""


def usage_of(result: Response | Failure | None) -> Usage:
    """Return what a call adds to the account of its model; None is a call that was cancelled."""
    if isinstance(result, Response):
        return Usage(
            answered=True,
            prompt_tokens=result.prompt_tokens,
            completion_tokens=result.completion_tokens,
            unknown=result.detail.get("usage") == "missing",
        )
    return Usage(unknown=result is None or result.billed)


def shortened(text: str) -> str:
    """Return a text on one line, cut for a message."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line[:_SHOWN] + "…" if len(line) > _SHOWN else line


def finish_of(reason: object) -> FinishReason:
    """Return the meaning of a server's reason to stop.

    Capital letters, a prefix (``FINISH_REASON_SAFETY``, ``FinishReason.SAFETY``) and what follows a colon
    (``content_filter: PROHIBITED_CONTENT``) are passed over. No reason at all and a name that nobody knows are a stop:
    the text is there, whatever its end is called.
    """
    return _FINISH.get(_bare(reason), FinishReason.STOP)


def broken_off(reason: object) -> bool:
    """Return whether a reason to stop says that the server failed in the midst of its answer."""
    return _bare(reason) in _BROKEN_OFF


def reason_kept(reason: object) -> dict[str, str]:
    """Return a reason to stop as a part of an answer's ``detail``; empty for those of OpenAI."""
    if reason in _USUAL:
        return {}
    return {"stop_reason": shortened(reason if isinstance(reason, str) else json.dumps(reason))}


def _bare(reason: object) -> str:
    """Return a reason to stop in small letters, without prefix and explanation; empty for what is no text."""
    if not isinstance(reason, str):
        return ""
    name = reason.partition(":")[0].rpartition(".")[2].strip().casefold()
    return re.sub(r"[\s-]+", "_", name).removeprefix("finish_reason_")


def whole_of(data: bytes) -> Any:
    """Return a stream of events (``data: {…}`` line by line) as the one reply that it would have been.

    None for what is no such stream, or ends before the server said that it was the end.
    """
    events = [line[5:].strip() for line in data.splitlines() if line.startswith(b"data:")]
    chunks = [json.loads(event) for event in events if event != b"[DONE]"]
    if not chunks or not all(isinstance(chunk, dict) for chunk in chunks):
        return None
    texts: dict[str, str] = {}
    whole: dict[str, Any] = {}
    finish = None
    for chunk in chunks:
        if chunk.get("error"):
            return chunk
        whole |= {name: value for name, value in chunk.items() if value is not None}
        choice: dict[str, Any] = next(iter(chunk.get("choices") or ()), {})
        delta = choice.get("delta") or {}
        pieces = {name: delta.get(name) for name in _STREAMED} | {"text": choice.get("text")}
        for name, piece in pieces.items():
            if piece is not None:
                texts[name] = texts.get(name, "") + piece
        finish = choice.get("finish_reason") or finish
    if finish is None and events[-1] != b"[DONE]":
        return None
    answer = {"text": texts["text"]} if texts.keys() == {"text"} else {"message": texts}
    return whole | {"choices": [{**answer, "finish_reason": finish}]}


def read_reply(
    address: Address, status: int, value: Any, text: str = "", limit: int = 0
) -> Response | Failure:
    """Return the answer in a reply, or the reason why there is none.

    Args:
        address: who replied.
        status: the HTTP status.
        value: the decoded JSON; None for what is no JSON.
        text: the beginning of the reply, for a message where it is no JSON.
        limit: most tokens of the answer, 0 where they are not known: an answer of so many tokens that comes without a
            reason to stop was cut.

    Raises:
        ModelError: asking again, or anything else, cannot help: key, model or address are wrong.
        EngineError: the account has no credit left.
    """
    if status != 200:
        return _of_status(address, status, value, text)
    if not isinstance(value, dict):
        return _broken(value, "not the JSON of an answer")
    if value.get("error"):  # some relays send the model's failure with status 200
        code = _error_of(value).get("code")
        failed = code if isinstance(code, int) and 400 <= code < 600 else 500
        return _of_status(address, failed, value, "")
    try:
        return _moderation(value) if "results" in value else _completion(value, limit)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        return _broken(
            value, f"an answer without what belongs in it ({type(error).__name__}: {error})"
        )


def _of_status(address: Address, status: int, value: Any, text: str) -> Response | Failure:
    """Return the meaning of a reply with an HTTP error: a refusal by the provider's filter is an answer, the rest is not."""
    error = _error_of(value)
    inner = error.get("innererror") or error.get("inner_error")
    holders = [error, inner if isinstance(inner, dict) else {}]
    values = [holder.get(field) for holder in holders for field in ("code", "type", "status")]
    codes = {value.lower() for value in values if isinstance(value, str)}
    message = error.get("message")
    plain = message if isinstance(message, str) else json.dumps(error) if error else text
    message = shortened(plain) or "no reason given"
    if status in (400, 403, 422, 451) and _filtered(error, codes, message):
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
            f"model {address.name!r}: the server refused the key ({status}: {message}); set {variable} to a key that may use this model"
        )
    if status == 402 or codes & _NO_MONEY:
        raise EngineError(
            f"model {address.name!r}: the account has no credit ({message}); top it up and run again to go on"
        )
    if status == 404:
        raise ModelError(
            f"model {address.name!r}: there is no such model or path at {address.url} ({message}); check both"
        )
    if status == 405 or 300 <= status < 400:  # a redirect of a whole reply: `Session.redirected`
        raise ModelError(
            f"model {address.name!r}: {address.url} is no chat-completions address ({status}); check it (most end in /v1)"
        )
    detail = f"{status}: {message}"
    # vLLM gives no code for a prompt that is too long
    too_long = status == 413 or codes & _TOO_LONG or "maximum context length" in message
    refused = () if too_long else _refused(status, value, message)
    if not refused and (status in _RETRIED or status >= 500):
        return Failure(
            reason={408: "timeout", 429: "rate_limit"}.get(status, "server_error"),
            detail=detail,
            overload=status in (408, 429, 503, 529),
        )
    reason = "too_long" if too_long else "bad_request"
    return Failure(reason=reason, detail=detail, retried=False, refused=refused)


def _refused(status: int, value: Any, message: str) -> tuple[str, ...]:
    """Return the fields that an error names as not taken: by ``param``, by the place of a validation, or in its message."""
    if status == 500:  # a template that raised; some servers call that a failure of their own
        return (SYSTEM,) if _NO_SYSTEM.search(message) else ()
    if status not in (400, 422):
        return ()
    places = [place.partition("[")[0] for place in _places(value)]
    named = [name for name in _DISPENSABLE if name in places]
    if not named:
        words = set(re.findall(r"\w+", message.casefold()))
        named = [name for name in _DISPENSABLE if name in words]
    return (*((SYSTEM,) if _NO_SYSTEM.search(message) else ()), *named)


def _places(value: Any) -> Iterator[str]:
    """Yield what an error gives as the place of a fault: ``param``, and the last part of each ``loc``."""
    if isinstance(value, list):
        for item in value:
            yield from _places(item)
    if isinstance(value, dict):
        place = value.get("loc")
        ends = place[-1:] if isinstance(place, list) else []
        yield from (str(name) for name in (value.get("param"), *ends))
        for item in value.values():
            yield from _places(item)


def _error_of(value: Any) -> dict[str, Any]:
    """Return the error object of a reply, {} if it has none; some servers wrap it in a list, some write a text."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return {}
    error = value.get("error", value if "message" in value and "choices" not in value else None)
    return error if isinstance(error, dict) else {"message": error} if error else {}


def _filtered(error: dict[str, Any], codes: set[str], message: str) -> bool:
    """Return whether a content filter refused; by its codes, since words such as "policy" occur in other errors too."""
    metadata = error.get("metadata")
    flagged = isinstance(metadata, dict) and (
        "flagged_input" in metadata or bool(metadata.get("reasons"))
    )
    return (
        flagged
        or bool(codes & _FILTERS)
        or ("invalid_prompt" in codes and "usage polic" in message.lower())
    )


def _completion(value: dict[str, Any], limit: int) -> Response | Failure:
    choices = value["choices"]
    if not choices:
        feedback = value.get("promptFeedback") or value.get("prompt_feedback")
        if isinstance(feedback, dict) and (
            feedback.get("blockReason") or feedback.get("block_reason")
        ):
            return _response(value, "", FinishReason.PROVIDER_REFUSAL)
        return _broken(value, "no choices in it")
    choice = choices[0]
    reason = choice.get("finish_reason")
    finish, text, reasoning = finish_of(reason), _text(choice), _reasoning(choice)
    if broken_off(reason):
        return _broken(value, f"finish_reason {reason!r}")
    if _bare(reason) not in _FINISH and not text and not reasoning:
        return _broken(value, f"no text, and finish_reason {reason!r}")
    response = _response(value, text, finish)
    if not _bare(reason) and 0 < limit <= response.completion_tokens:
        response = replace(response, finish_reason=FinishReason.LENGTH)
    response = replace(response, detail={**response.detail, **reason_kept(reason)})
    response = final(response, reasoning=reasoning)
    first_words = _first_words(choice.get("logprobs"))
    words = {"first_words": first_words} if first_words else {}
    return replace(response, detail={**response.detail, **words})


def _text(choice: dict[str, Any]) -> str:
    """Return the answer's text: a message's content, and without a message the ``text`` of a completion.

    The model's own refusal, which some servers put in a field of its own, is its answer.
    """
    message = choice.get("message")
    if message is None and choice.get("text") is None and _is_refusal(choice):
        return ""  # of a filter that gives nothing but its reason
    content = choice["text"] if message is None else message.get("content")
    if content is None and message is not None:
        refusal = message.get("refusal")
        return refusal if isinstance(refusal, str) else ""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part.get("type", "text") == "text")
    if not isinstance(content, str):
        raise TypeError(f"the text is {type(content).__name__}")
    return content


def _is_refusal(choice: dict[str, Any]) -> bool:
    return finish_of(choice.get("finish_reason")) is FinishReason.PROVIDER_REFUSAL


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


def _moderation(value: dict[str, Any]) -> Response:
    """Return the result of a moderation service for one text: the flag, and its categories with their scores."""
    (result,) = value["results"]
    flagged = result["flagged"]
    if not isinstance(flagged, bool):
        raise TypeError(f"flagged is {type(flagged).__name__}")
    detail: dict[str, object] = {
        "flagged": flagged,
        "categories": sorted(
            str(name) for name, applies in result["categories"].items() if applies is True
        ),
        "scores": {str(name): float(score) for name, score in result["category_scores"].items()},
    }
    if isinstance(value.get("model"), str):
        detail["served_model"] = value["model"]
    return Response(
        text=json.dumps(result, sort_keys=True),
        finish_reason=FinishReason.STOP,
        prompt_tokens=0,
        completion_tokens=0,
        detail=detail,
    )


def _first_words(logprobs: Any) -> dict[str, float]:
    """Return the words that a reply could have begun with, behind white space, with log-probabilities; {} where not told."""
    if not isinstance(logprobs, dict):
        return {}
    if isinstance(content := logprobs.get("content"), list):  # of chat completions
        places = [
            (place["token"], {top["token"]: top["logprob"] for top in place["top_logprobs"]})
            for place in content
        ]
    else:  # of completions
        tops = logprobs.get("top_logprobs") or []
        places = list(zip(logprobs.get("tokens") or [], tops, strict=False))
    first = next((words for token, words in places if str(token).strip()), {})
    return {str(word): float(logprob) for word, logprob in dict(first or {}).items()}


def _response(value: dict[str, Any], text: str, finish: FinishReason) -> Response:
    usage = value.get("usage")
    counts = [
        usage.get(field) if isinstance(usage, dict) else None
        for field in ("prompt_tokens", "completion_tokens")
    ]
    tokens = [
        count if type(count) is int and 0 <= count < _MOST_TOKENS else None for count in counts
    ]
    fields = (("served_model", "model"), ("system_fingerprint", "system_fingerprint"))
    detail: dict[str, object] = {
        field: value[source] for field, source in fields if isinstance(value.get(source), str)
    }
    if None in tokens:
        detail["usage"] = "missing"
    return Response(
        text=text,
        finish_reason=finish,
        prompt_tokens=tokens[0] or 0,
        completion_tokens=tokens[1] or 0,
        detail=detail,
    )


def _broken(value: Any, what: str) -> Failure:
    beginning = "" if value is None else f": {json.dumps(value)[:200]}"
    return Failure(reason="broken_reply", detail=what + beginning, billed=True)
