"""The engine for models of Inspect's providers: ``inspect:PROVIDER/MODEL``; see `aftertune.core.protocols.Engine`.

How many calls are open at a time, and when a failed one is tried again, is Inspect's affair; a key comes from the
environment variable that Inspect's provider reads, and never gets here.
"""

import importlib.util
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aftertune.core.keys import Key, content_key, replicate_part
from aftertune.core.protocols import Answer
from aftertune.core.records import Attempt, Decoding, FinishReason, GenerateJob, Message, Response
from aftertune.core.untrusted import safe_messages
from aftertune.errors import EngineError, ModelError, Stopped
from aftertune.models.endpoint.chat import broken_off, finish_of, reason_kept, request_seed
from aftertune.models.endpoint.model import Endpoints
from aftertune.models.foreign import first_line
from aftertune.models.remote import Loop, Put, Remote, all_of, in_seconds
from aftertune.models.thinking import final

if TYPE_CHECKING:
    from inspect_ai.model import Model, ModelOutput

ENGINE = "inspect"
"""The name of this engine in `identity`."""
PREFIX = "inspect:"
IN_PROCESS = {"hf", "llama_cpp_python", "mockllm", "nnterp", "none", "transformer_lens"}
"""Inspect's providers that load weights into this process, or none. Its ``hf`` draws from one global seed, adds a second
BOS and cannot tell why an answer ended, and its adapters have no place in a key: the local engine opens those weights."""
_IN_FLIGHT = 1000
"""Calls that are handed to Inspect at a time, `Endpoints.connections` permitting; it opens no more than 100 of them."""
BATCHED = {"anthropic", "google", "grok", "openai", "together"}
"""Inspect's providers with a batch API. Inspect keeps its batches in memory: a run that is killed asks anew."""
CONTINUING = frozenset({"anthropic"})
"""Inspect's providers that go on behind the beginning of an answer; their newest models may refuse it, call by call."""
REASONS = {408: "timeout", 429: "rate_limit"}
"""HTTP status -> reason of the attempt, where it has one of its own."""
_SECRET = re.compile(r"(?:_KEY|_TOKEN|_SECRET|_SECRET_ACCESS_KEY)$")


@dataclass(frozen=True, slots=True)
class InspectName:
    """A model as Inspect names it, not looked up yet."""

    model: str
    """``PROVIDER/MODEL``."""

    @property
    def name(self) -> str:
        """The reference as the user wrote it."""
        return PREFIX + self.model


def inspect_name(reference: str) -> InspectName:
    """Return the model that a reference with `PREFIX` names; asks nobody.

    Raises:
        ModelError: no provider or no model, or a provider that loads weights here.
    """
    model = reference.removeprefix(PREFIX)
    provider, _, rest = model.partition("/")
    if not provider or not rest:
        raise ModelError(
            f"model {reference!r}: write {PREFIX}PROVIDER/MODEL, as in {PREFIX}anthropic/MODEL"
        )
    if provider in IN_PROCESS:
        raise ModelError(
            f"model {reference!r}: Inspect's provider {provider} answers in this process; for weights name the folder or "
            "the hub id itself"
        )
    return InspectName(model)


class InspectModel(Remote):
    """A model behind one of Inspect's providers.

    Attributes:
        name: for messages and tables.
        identity: provider and model, and the base URL where one is set. What stands behind them is the provider's affair.
        by_batch: whether Inspect is told to ask by the provider's batch API.

    Args:
        model: the model.
        name: for messages and tables.
        endpoints: says how long to wait and whom to ask by batch; it keeps no account of these models.

    Raises:
        ModelError: inspect-ai or the provider's own package is missing, the provider is unknown, or has no key.
    """

    served_by = "Inspect's providers"
    moderates = False
    price = None
    price_source = "Inspect asks the provider"

    def __init__(self, model: InspectName, name: str, endpoints: Endpoints) -> None:
        if importlib.util.find_spec("inspect_ai") is None:
            raise ModelError(
                f"model {name!r}: {PREFIX} models need inspect-ai; pip install 'aftertune[inspect]'"
            )
        if endpoints.budget is not None:
            raise ModelError(
                f"model {name!r}: engine.budget cannot be kept for it, since Inspect spends; leave the budget out, or name an "
                "endpoint (PROVIDER:MODEL, URL#MODEL)"
            )
        self.name = name
        self._model: Model = _opened(model, name)
        provider = self._provider = model.model.partition("/")[0]
        where = address_of(self._model.api.base_url)
        self.identity: Mapping[str, object] = {"engine": ENGINE, "model": model.model} | (
            {"url": where} if where else {}
        )
        self.by_batch = provider in BATCHED and endpoints.batching.names(model.name)
        self._timeouts, self._endpoints, self.loop = endpoints.timeouts, endpoints, Loop()
        self._last_answer = 0.0

    @property
    def continues_answers(self) -> bool:
        """Return whether the provider is known to go on behind the beginning of an answer that is the last message."""
        return self._provider in CONTINUING

    def keys(
        self, conversations: Sequence[Sequence[Message]], decoding: Decoding, sample: int
    ) -> list[Key]:
        """Return the key of each call: identity, messages, the configuration that Inspect is given, seed, sample and replicate."""
        config = settings(decoding, sample)
        return [
            content_key(
                "inspect call",
                1,
                self.identity,
                [[message.role, message.content] for message in messages],
                config,
                decoding.seed,
                sample,
                *replicate_part(decoding.replicate),
            )
            for messages in conversations
        ]

    def generate(self, jobs: Iterable[GenerateJob]) -> Iterator[tuple[Key, Answer]]:
        """Answer each job, in any order; a call without an answer gives an attempt with its reason.

        Raises:
            ModelError: the key or the model is wrong; or a question needs a template that nobody can reach.
            EngineError: nothing was answered for as long as a call is tried.
            Stopped: the run's time is used up.
        """
        listed = list(jobs)
        if not listed:
            return
        deadline = self._endpoints.deadline
        self._last_answer = time.monotonic()
        left = iter(listed)

        async def answer_some(put: Put) -> None:
            for job in left:
                if time.monotonic() > deadline:
                    raise Stopped(
                        f"{self.name}: the {self._timeouts.run:g} s of engine.run_seconds are used up; run again to go on"
                    )
                put((job.key, await self._answer(job)))

        # a batch is made of the calls that wait together
        in_flight = min(_IN_FLIGHT, self._endpoints.connections)
        workers = len(listed) if self.by_batch else min(in_flight, len(listed))
        yield from self.stream(lambda put: all_of([answer_some(put) for _ in range(workers)]))

    @property
    def destination(self) -> str:
        """Return the provider and model; where these lie Inspect alone knows."""
        return f"Inspect's {self.identity['model']}"

    def check_ready(self) -> None:
        """Do nothing: Inspect asked for the key when the model was opened."""

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self.loop.cancel_all()
        self.loop.run(self._model.api.aclose())
        self.loop.close()

    async def _answer(self, job: GenerateJob) -> Answer:
        from inspect_ai.model import (
            ChatMessageAssistant,
            ChatMessageSystem,
            ChatMessageUser,
            GenerateConfig,
        )

        kinds = {
            "system": ChatMessageSystem,
            "user": ChatMessageUser,
            "assistant": ChatMessageAssistant,
        }
        question, turns = job.question, job.messages
        if question is not None:
            if question.settings or question.pattern or question.moderated is not None:
                raise ModelError(
                    f"model {self.name!r}: this guard or judge needs its own template, which Inspect does not reach; name "
                    "the checkpoint's folder, or serve it and name the endpoint"
                )
            turns = safe_messages(question)
        messages: list[Any] = [kinds[turn.role](content=turn.content) for turn in turns]
        retry, call = round(self._timeouts.retry), round(self._timeouts.call)
        limits: dict[str, Any] = {"timeout": retry, "attempt_timeout": call}
        config = GenerateConfig(
            **settings(job.decoding, job.sample), **({"batch": True} if self.by_batch else limits)
        )
        try:
            output = await self._model.generate(messages, config=config, cache=False)
        except Exception as error:  # noqa: BLE001 - of whichever client the provider uses; each has its own exceptions
            # behind a retry that was given up stands the error of its last try
            last = getattr(error, "last_attempt", None)
            cause = last.exception() if last is not None else None
            return self._failed(cause if isinstance(cause, Exception) else error)
        self._last_answer = time.monotonic()
        return read_output(output)

    def _failed(self, error: Exception) -> Attempt:
        """Return the attempt that an exception means.

        Raises:
            ModelError: asking again cannot help.
            EngineError: nothing else was answered either.
        """
        code = getattr(error, "status_code", None) or getattr(error, "code", None)
        status = code if isinstance(code, int) else None
        message = without_secrets(first_line(error))
        if status in (401, 403) or self._model.api.is_auth_failure(error):
            raise ModelError(
                f"model {self.name!r}: the provider refused the key ({message}); set another one"
            )
        if status == 404:
            raise ModelError(
                f"model {self.name!r}: the provider has no such model ({message}); check the name"
            )
        silent = time.monotonic() - self._last_answer
        if silent >= self._timeouts.retry and not self.by_batch:
            raise EngineError(
                f"model {self.name!r}: no answer for {in_seconds(silent)} ({message}); run again to go on"
            )
        if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
            return Attempt(reason="timeout", detail=message)
        if status is None:
            return Attempt(reason="connection", detail=f"{type(error).__name__}: {message}")
        return Attempt(
            reason=REASONS.get(status, "server_error" if status >= 500 else "bad_request"),
            detail=f"{status}: {message}",
        )


def _opened(model: InspectName, name: str) -> "Model":
    from inspect_ai.model import get_model

    try:
        return get_model(model.model, memoize=False)
    except Exception as error:  # each provider reports a missing key or package in its own way
        message = getattr(error, "message", None) or error
        line = " ".join(re.sub(r"\[/?[a-z ]*\]", "", str(message)).split()).removeprefix("ERROR: ")
        raise ModelError(
            f"model {name!r}: Inspect cannot open it ({without_secrets(line) or type(error).__name__})"
        ) from error


def settings(decoding: Decoding, sample: int) -> dict[str, Any]:
    """Return a decoding as fields of `GenerateConfig`; at temperature 0 nothing is drawn, so top-p and top-k are left out.

    Raises:
        ModelError: thinking is to be switched.
    """
    if decoding.thinking != "default":
        raise ModelError(
            "decoding.thinking: Inspect's providers share no switch for it; leave it at default, or name the model's endpoint or "
            "checkpoint"
        )
    drawn = {"top_p": float(decoding.top_p)} if decoding.temperature > 0 else {}
    cut = {"top_k": decoding.top_k} if decoding.temperature > 0 and decoding.top_k else {}
    return {
        "temperature": float(decoding.temperature),
        "max_tokens": decoding.limit,
        "seed": request_seed(decoding.seed, sample),
        **drawn,
        **cut,
    }


def read_output(output: "ModelOutput") -> Answer:
    """Return the response in a provider's answer; one that the provider broke off is an attempt."""
    reason = output.stop_reason
    finish = finish_of(reason)
    failed = output.error and finish is not FinishReason.PROVIDER_REFUSAL
    if output.empty or broken_off(reason) or failed:
        why = "no choices" if output.empty else f"stop reason {reason!r}"
        return Attempt(
            reason="broken_reply",
            detail=without_secrets(first_line(Exception(output.error or why))),
        )
    detail: dict[str, object] = {"served_model": output.model, **reason_kept(reason)}
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
    content = output.message.content
    parts = content if isinstance(content, list) else []
    return final(
        response,
        reasoning="\n".join(part.reasoning for part in parts if part.type == "reasoning"),
    )


def address_of(url: str | None) -> str:
    """Return a base URL without user name, password and query, which may hold a key."""
    parts = urlsplit(url or "")
    return (
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
        if parts.netloc
        else ""
    )


def without_secrets(text: str) -> str:
    """Return a text without the secrets of the environment, and without what looks like a part of a key."""
    secrets = sorted(
        (v for k, v in os.environ.items() if _SECRET.search(k) and len(v) >= 6),
        key=len,
        reverse=True,
    )
    for secret in secrets:
        text = text.replace(secret, "***")
    return re.sub(r"\b(?:sk|key|gsk|hf|AIza)[-_][\w*.-]{4,}", "***", text)[:300]
