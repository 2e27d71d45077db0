"""What a guard is asked: each prompt once, and each response with its prompt."""

from aftertune.core.ids import content_key
from aftertune.core.protocols import Guard
from aftertune.core.records import GuardJob, Side


def screening(guard: Guard, prompt: str, response: str | None) -> GuardJob:
    """Return the job that screens a prompt (``response`` None) or the response to it.

    The key holds the guard's identity and the texts alone, so equal texts of two models are screened once.
    """
    side: Side = "prompt" if response is None else "response"
    key = content_key("guard", dict(guard.call_identity), side, prompt, response)
    return GuardJob(key=key, side=side, prompt=prompt, response=response)
