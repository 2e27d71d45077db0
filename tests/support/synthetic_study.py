"""Small invented studies for the tests of the store."""

from aftertune.core.keys import content_key
from aftertune.core.records import Decoding, FinishReason, Intent, Prompt, Response
from aftertune.store import PlannedJob

GREEDY = Decoding(max_new_tokens=8)


def prompt(number: int, **changes) -> Prompt:
    values = {
        "behavior": f"b{number // 2}",
        "template": f"t{number % 2}",
        "task": ("text", "code")[number % 2],
        "intent": Intent.HARMFUL,
        "text": f"prompt {number}",
        "set": "made-up",
    }
    return Prompt(**{**values, **changes})


def key(*parts: object) -> bytes:
    return content_key("test", *parts)


def response(text: str, finish: FinishReason = FinishReason.STOP) -> Response:
    return Response(text=text, finish_reason=finish, prompt_tokens=3, completion_tokens=len(text))


def job(model: str, asked: Prompt, sample: int = 0, decoding: Decoding = GREEDY) -> PlannedJob:
    return PlannedJob(
        model=model,
        prompt=asked,
        system="none",
        decoding=decoding,
        sample=sample,
        key=key(model, asked.id, decoding.temperature, decoding.seed, sample),
    )
