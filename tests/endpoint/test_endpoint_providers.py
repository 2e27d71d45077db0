import subprocess
import sys
import traceback

import pytest
from endpoint_jobs import ask, open_at
from faithful_server import Server

from aftertune.errors import ModelError
from aftertune.models.endpoint.providers import PROVIDERS, SERVER, Secret, address_of, is_endpoint


@pytest.mark.parametrize(
    ("reference", "provider", "url", "model"),
    [
        ("http://127.0.0.1:8000/v1#org/m", "server", "http://127.0.0.1:8000/v1", "org/m"),
        ("https://h.example/v1/#m#x", "server", "https://h.example/v1", "m#x"),
        ("http://[::1]:8/v1/chat/completions#m", "server", "http://[::1]:8/v1", "m"),
        ("openai:ft:gpt-4o-mini:org::id", "openai", "https://api.openai.com/v1", "ft:gpt-4o-mini:org::id"),
        ("https://api.openai.com/v1#m", "openai", "https://api.openai.com/v1", "m"),
        ("together:org/m", "together", "https://api.together.xyz/v1", "org/m"),
        ("gemini:m", "gemini", "https://generativelanguage.googleapis.com/v1beta/openai", "m"),
        ("openrouter:a/b:free", "openrouter", "https://openrouter.ai/api/v1", "a/b:free"),
    ],
)  # fmt: skip
def test_references(reference, provider, url, model):
    address = address_of(reference)
    assert (address.provider.name, address.url, address.model) == (
        provider,
        url,
        model,
    )


@pytest.mark.parametrize(
    "reference", ["org/model", "./folder", "model", "/a/b", "C:/x", "ftp://x/v1#m"]
)
def test_what_is_no_endpoint(reference):
    assert not is_endpoint(reference)


@pytest.mark.parametrize(
    ("reference", "match"),
    [
        ("http://h/v1", "names no model"),
        ("openai:", "names no model"),
        ("http://#m", "is no address"),
        ("http://h:99999/v1#m", "is no address"),
        ("azure:m", "AZURE_OPENAI_ENDPOINT"),
        ("https://me:hunter2secret@h/v1#m", "do not belong"),
        ("https://h/v1?api-key=hunter2secret#m", "do not belong"),
    ],
)
def test_addresses_that_cannot_be_used(reference, match):
    with pytest.raises(ModelError, match=match) as caught:
        address_of(reference)
    assert "hunter2secret" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_a_missing_key_is_said_with_the_variable_to_set(monkeypatch, name):
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com")
    with pytest.raises(ModelError, match=f"set the environment variable {PROVIDERS[name].keys[0]}"):
        address_of(f"{name}:m").key()


def test_a_key_comes_from_the_first_variable_that_is_set(monkeypatch):
    monkeypatch.setenv("GOOGLE_API_KEY", "second\n")
    assert address_of("gemini:m").key() == "second"
    monkeypatch.setenv("GEMINI_API_KEY", "first")
    assert address_of("gemini:m").key() == "first"


def test_a_key_that_cannot_travel_in_a_header_is_refused_without_repeating_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden\r\nX-Evil: 1")
    with pytest.raises(ModelError, match="OPENAI_API_KEY holds characters") as caught:
        address_of("openai:m").key()
    assert "hidden" not in "".join(traceback.format_exception(caught.value))


def test_a_secret_shows_itself_in_no_repr():
    assert "abc" not in repr([Secret("abc")]) + repr({"key": Secret("abc")})


def test_a_servers_own_base_url_goes_with_the_providers_key(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "https://relay.example/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    assert (address_of("openai:m").url, address_of("openai:m").key()) == (
        "https://relay.example/v1",
        "sk-1",
    )


def test_any_other_server_is_never_sent_a_providers_key(endpoints, monkeypatch):
    monkeypatch.delenv("AFTERTUNE_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-provider")
    with Server(key=None) as server:
        ask(open_at(endpoints, server), ["q"])
    assert "sk-of-a-provider" not in repr(server.headers)
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1/v1", True), ("http://localhost/v1", True), ("http://10.1.2.3/v1", True), ("http://gpu7:8000/v1", True),
        ("http://[::1]/v1", True), ("https://api.openai.com/v1", False), ("http://8.8.8.8/v1", False),
    ],
)  # fmt: skip
def test_which_servers_belong_to_somebody_else(url, local):
    assert address_of(f"{url}#m").local is local


def test_own_servers_need_no_key():
    assert not SERVER.key_needed


def test_aiohttp_loads_at_the_first_call_only():
    code = "import sys, aftertune.models.open; from aftertune import workspace; assert 'aiohttp' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
