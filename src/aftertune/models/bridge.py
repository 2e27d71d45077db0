"""The engine for what Inspect's providers serve: ``inspect:PROVIDER/MODEL``; see `aftertune.core.protocols.Engine`.

How many calls are open at a time, and when a failed one is tried again, is Inspect's affair; a key comes from the
environment variable that Inspect's provider reads, and never gets here.
"""

import asyncio
import importlib.util
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aftertune.core.foreign import safe_messages
from aftertune.core.ids import Key, content_key
from aftertune.core.protocols import Answer
from aftertune.core.records import Attempt, Decoding, GenerateJob, Message
from aftertune.errors import EngineError, ModelError, Stopped
from aftertune.models.bridge_replies import (
    REASONS,
    address_of,
    cause_of,
    read_output,
    status_of,
    without_secrets,
)
from aftertune.models.endpoint.model import Endpoints
from aftertune.models.endpoint.request import request_seed
from aftertune.models.endpoint.stream import Loop, Outlet, stream
from aftertune.models.loading import first_line
from aftertune.models.remote import Remote

if TYPE_CHECKING:
    from inspect_ai.model import GenerateConfig, Model, ModelOutput

ENGINE = "inspect"
"""What `identity` calls this engine."""
PREFIX = "inspect:"
IN_PROCESS = {"hf", "llama_cpp_python", "mockllm", "nnterp", "none", "transformer_lens"}
"""Inspect's providers that load weights into this process, or none. Its ``hf`` draws from one global seed, adds a second
BOS and cannot tell why an answer ended, and its adapters have no place in a key: the local engine opens those weights."""
_IN_FLIGHT = 1000
"""Calls that are handed to Inspect at a time; it opens no more than 100 of them."""


@dataclass(frozen=True, slots=True)
class InspectName:
    """A model as Inspect names it, not looked up yet."""

    model: str
    """``PROVIDER/MODEL``."""

    @property
    def name(self) -> str:
        """As the user wrote it."""
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

    Args:
        found: the model.
        name: for messages and tables.
        endpoints: says how long to wait; it keeps no account of these models.

    Raises:
        ModelError: inspect-ai or the provider's own package is missing, the provider is unknown, or has no key.
    """

    served_by = "Inspect's providers"
    by_batch = moderates = False
    price = None
    price_source = "Inspect asks the provider"

    def __init__(self, found: InspectName, name: str, endpoints: Endpoints) -> None:
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
        self._model: Model = _opened(found, name)
        where = address_of(self._model.api.base_url)
        self.identity: Mapping[str, object] = {"engine": ENGINE, "model": found.model} | (
            {"url": where} if where else {}
        )
        self._patience, self._endpoints, self._loop = endpoints.patience, endpoints, Loop()
        self._heard = 0.0

    def keys(
        self, conversations: Sequence[Sequence[Message]], decoding: Decoding, sample: int
    ) -> list[Key]:
        """Return the key of each call: identity, messages, the configuration that Inspect is given, seed and sample."""
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
        began, limit = self._endpoints.began(), self._patience.run
        self._heard = time.monotonic()

        async def work(outlet: Outlet[tuple[Key, Answer]]) -> None:
            left = iter(listed)

            async def answer_some() -> None:
                for job in left:
                    if limit is not None and time.monotonic() > began + limit:
                        raise Stopped(
                            f"{self.name}: the {limit:g} s of engine.run_seconds are used up; run again to go on"
                        )
                    outlet.put((job.key, await self._answer(job)))

            await _all_of([answer_some() for _ in range(min(_IN_FLIGHT, len(listed)))])

        yield from stream(self._loop, work)

    @property
    def destination(self) -> str:
        """Return the provider and model; where these lie Inspect alone knows."""
        return f"Inspect's {self.identity['model']}"

    def check_ready(self) -> None:
        """Do nothing: Inspect asked for the key when the model was opened."""

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._loop.start(self._model.api.aclose()).result()
        self._loop.close()

    async def _answer(self, job: GenerateJob) -> Answer:
        from inspect_ai.model import GenerateConfig

        config = GenerateConfig(
            **settings(job.decoding, job.sample),
            timeout=round(self._patience.retry),
            attempt_timeout=round(self._patience.call),
        )
        try:
            output = await self._ask(self._messages(job), config)
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - of whichever client the provider uses; each has its own exceptions
            return self._failed(cause_of(error))
        self._heard = time.monotonic()
        return read_output(output)

    async def _ask(self, messages: Sequence[Message], config: "GenerateConfig") -> "ModelOutput":
        from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

        kinds = {
            "system": ChatMessageSystem,
            "user": ChatMessageUser,
            "assistant": ChatMessageAssistant,
        }
        asked: list[Any] = [kinds[message.role](content=message.content) for message in messages]
        return await self._model.generate(asked, config=config, cache=False)

    def _messages(self, job: GenerateJob) -> Sequence[Message]:
        question = job.question
        if question is None:
            return job.messages
        if question.settings or question.pattern or question.moderated is not None:
            raise ModelError(
                f"model {self.name!r}: this guard or judge needs its own template, which Inspect does not reach; name the "
                "checkpoint's folder, or serve it and name the endpoint"
            )
        return safe_messages(question)

    def _failed(self, error: Exception) -> Attempt:
        """Return the attempt that an exception means.

        Raises:
            ModelError: asking again cannot help.
            EngineError: nothing else was answered either.
        """
        status = status_of(error)
        said = without_secrets(first_line(error))
        if status in (401, 403) or self._model.api.is_auth_failure(error):
            raise ModelError(
                f"model {self.name!r}: the provider refused the key ({said}); set another one"
            )
        if status == 404:
            raise ModelError(
                f"model {self.name!r}: the provider has no such model ({said}); check the name"
            )
        if (silent := time.monotonic() - self._heard) >= self._patience.retry:
            raise EngineError(
                f"model {self.name!r}: no answer for {silent:.0f} s ({said}); run again to go on"
            )
        if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
            return Attempt(reason="timeout", detail=said)
        if status is None:
            return Attempt(reason="connection", detail=f"{type(error).__name__}: {said}")
        reason = REASONS.get(status, "server_error" if status >= 500 else "bad_request")
        return Attempt(reason=reason, detail=f"{status}: {said}")


def _opened(found: InspectName, name: str) -> "Model":
    from inspect_ai.model import get_model

    try:
        return get_model(found.model, memoize=False)
    except (
        Exception
    ) as error:  # a key or a package that is missing: each provider says it in its own way
        said = getattr(error, "message", None) or error
        line = " ".join(re.sub(r"\[/?[a-z ]*\]", "", str(said)).split()).removeprefix("ERROR: ")
        raise ModelError(
            f"model {name!r}: Inspect cannot open it ({without_secrets(line) or type(error).__name__})"
        ) from error


def settings(decoding: Decoding, sample: int) -> dict[str, Any]:
    """Return what Inspect is told of a decoding; at temperature 0 nothing is drawn, so top-p and top-k are left out."""
    drawn = {"top_p": float(decoding.top_p)} if decoding.temperature > 0 else {}
    cut = {"top_k": decoding.top_k} if decoding.temperature > 0 and decoding.top_k else {}
    return {
        "temperature": float(decoding.temperature),
        "max_tokens": decoding.max_new_tokens,
        "seed": request_seed(decoding.seed, sample),
        **drawn,
        **cut,
    }


async def _all_of(parts: Sequence[Any]) -> None:
    """Wait for all; the first error ends the rest."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
