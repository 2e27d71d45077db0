import pytest
from faithful_server import KEY

from aftertune.models.endpoint.http import Timeouts
from aftertune.models.endpoint.model import Endpoints


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY", "GEMINI_API_KEY",
                 "GOOGLE_API_KEY", "TOGETHER_API_KEY", "OPENROUTER_API_KEY"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AFTERTUNE_API_KEY", KEY)


@pytest.fixture
def endpoints():
    opened = Endpoints(timeouts=Timeouts(call=2.0, retry=20.0, first_wait=0.01))
    yield opened
    opened.close()
