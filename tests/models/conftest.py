import pytest
from tiny_models import make_adapter, make_checkpoint


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def adapters(tmp_path_factory, base):
    folder = tmp_path_factory.mktemp("adapters")
    return [make_adapter(folder / f"a{seed}", base, seed=seed) for seed in (1, 2)]


@pytest.fixture
def engines():
    from aftertune.models.open import Engines

    with Engines(threads=1, device="cpu") as opened:
        yield opened


@pytest.fixture
def everything_is_large(monkeypatch):
    """Have oneDNN multiply for the smallest model."""
    from aftertune.models import packing

    monkeypatch.setattr(packing, "_LEAST_MODEL", 1)
    monkeypatch.setattr(packing, "_LEAST_LAYER", 1)
