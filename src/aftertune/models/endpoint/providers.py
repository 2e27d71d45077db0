"""The providers of served models in one table: their addresses and the environment variables that hold their keys.

A reference is ``http(s)://HOST[:PORT]/v1#MODEL`` for any server, or ``PROVIDER:MODEL`` for one of the table.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from aftertune.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """The differences between servers of the same protocol."""

    name: str
    url: str = ""
    """Base URL; empty where only `url_variable` knows it."""
    url_variable: str = ""
    """Environment variable that holds, or replaces, the base URL."""
    path: str = ""
    """The part of the address that follows the value of `url_variable`."""
    keys: tuple[str, ...]
    """Environment variables that may hold the key; the first one that is set is used."""
    key_needed: bool = True
    header: Literal["Authorization", "api-key"] = "Authorization"
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    seed: bool = True
    """True where the server accepts the field ``seed``."""
    top_k: bool = False
    """True where the server accepts the field ``top_k``."""
    batch: bool = False
    """True where the server has OpenAI's batch API."""
    continuing: Mapping[str, bool] | None = None
    """The fields of a request with which the server goes on behind the beginning of an answer that is the last message;
    None where no such request is known."""


PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            name="openai",
            url="https://api.openai.com/v1",
            url_variable="OPENAI_BASE_URL",
            keys=("OPENAI_API_KEY",),
            limit_field="max_completion_tokens",
            batch=True,
        ),
        Provider(
            name="azure",
            url_variable="AZURE_OPENAI_ENDPOINT",
            path="/openai/v1",
            keys=("AZURE_OPENAI_API_KEY",),
            header="api-key",
            limit_field="max_completion_tokens",
        ),
        Provider(
            name="gemini",
            url="https://generativelanguage.googleapis.com/v1beta/openai",
            keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
            seed=False,  # "Unknown name "seed": Cannot find field", mcpchecker/mcpchecker/pull/188
        ),
        Provider(
            name="together",
            url="https://api.together.xyz/v1",
            keys=("TOGETHER_API_KEY",),
            top_k=True,
        ),
        Provider(
            name="openrouter",
            url="https://openrouter.ai/api/v1",
            keys=("OPENROUTER_API_KEY",),
            top_k=True,
            continuing={},  # "assistant prefill" of its documentation
        ),
    )
}
SERVER = Provider(
    name="server",
    keys=("AFTERTUNE_API_KEY",),
    key_needed=False,
    top_k=True,
    batch=True,
    # vLLM and SGLang; llama.cpp goes on in any case
    continuing={"add_generation_prompt": False, "continue_final_message": True},
)
"""Any other server. It is never sent the key of a provider: a mistyped host must not learn one."""


class Secret(str):
    """A key. It shows itself in no repr, so that no log or traceback prints it by accident."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(***)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A served model: its server and the name that it has there."""

    provider: Provider
    url: str
    """Base URL without a slash at its end."""
    model: str

    @property
    def name(self) -> str:
        """``PROVIDER:MODEL``, or ``URL#MODEL``: how price files call it."""
        return (
            f"{self.url}#{self.model}"
            if self.provider is SERVER
            else f"{self.provider.name}:{self.model}"
        )

    @property
    def local(self) -> bool:
        """True where the server is on this machine or in a private network: nobody's account is at stake there."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ip_address(host).is_private
        except ValueError:
            return (
                host == "localhost"
                or host.endswith((".localhost", ".local", ".internal"))
                or "." not in host
            )

    def headers(self, key: Secret | None) -> dict[str, str]:
        """Return the header that carries a key; none without a key."""
        value = f"Bearer {key}" if self.provider.header == "Authorization" else str(key)
        return {} if key is None else {self.provider.header: value}

    def key(self) -> Secret | None:
        """Return the key from the environment; None where none is needed.

        Raises:
            ModelError: it is needed and not set; the message names the variable.
        """
        values = [os.environ.get(variable, "").strip() for variable in self.provider.keys]
        key = next(filter(None, values), None)
        if key is not None:
            if not key.isascii() or not key.isprintable():
                raise ModelError(
                    f"model {self.name!r}: {self.provider.keys[0]} holds characters that no key has; set it anew"
                )
            return Secret(key)
        if self.provider.key_needed:
            raise ModelError(
                f"model {self.name!r}: no key; set the environment variable {self.provider.keys[0]}"
            )
        return None


def is_endpoint(reference: str) -> bool:
    """Return whether a model reference names an endpoint."""
    return bool(re.match(r"https?://", reference)) or reference.partition(":")[0] in PROVIDERS


def address_of(reference: str) -> Address:
    """Return the address that a reference names; asks nobody.

    Raises:
        ModelError: no model, no host, or a secret in the address.
    """
    name, _, model = reference.partition(":")
    if name not in PROVIDERS:
        url, _, model = reference.partition("#")
        checked = _checked(url.rstrip("/"), "the model's address")
        if not model:
            raise ModelError(f"model {reference!r}: names no model; write {checked}#MODEL")
        origin = urlsplit(checked)[:2]
        providers = (p for p in PROVIDERS.values() if p.url and urlsplit(p.url)[:2] == origin)
        return Address(provider=next(providers, SERVER), url=checked, model=model)
    provider = PROVIDERS[name]
    if not model:
        raise ModelError(f"model {reference!r}: names no model; write {name}:MODEL")
    url = os.environ.get(provider.url_variable, "").strip().rstrip("/")
    if not url and not provider.url:
        raise ModelError(
            f"model {reference!r}: no address; set the environment variable {provider.url_variable}"
        )
    checked = (
        _checked(url + provider.path, f"{provider.url_variable} for {reference!r}")
        if url
        else provider.url
    )
    return Address(provider=provider, url=checked, model=model)


def _checked(url: str, what: str) -> str:
    """Return an address without secrets in it; an error must not repeat one that has some."""
    try:
        parts = urlsplit(url)
        usable = (
            parts.scheme in ("http", "https")
            and parts.hostname
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        usable = False
    if not usable:
        raise ModelError(f"{what}: is no address; write http(s)://HOST[:PORT]/v1#MODEL")
    if parts.username or parts.password or parts.query:
        raise ModelError(
            f"{what}: user names, passwords and ?… do not belong in it; set the key in the environment"
        )
    return url.removesuffix("/chat/completions")
