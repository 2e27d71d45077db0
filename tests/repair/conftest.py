import pytest
from commands import Commands
from repair_models import write_base, write_prompts, write_tuned, write_tuned_adapter

BEHAVIORS, ENOUGH = 12, 84
"""12 behaviors are quick; of 84, 28 choose the strength, and the other 56 are enough for a PASS at 5 points."""


@pytest.fixture(scope="session")
def repair_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("repair_cache")


def make_models(folder, behaviors):
    base = write_base(folder / "base", behaviors)
    write_tuned(folder / "tuned", base)
    write_tuned_adapter(folder / "adapter", base)
    write_prompts(folder, behaviors)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with ``base``, ``tuned``, ``adapter`` and the prompts."""
    return make_models(tmp_path_factory.mktemp("repair"), BEHAVIORS)


@pytest.fixture(scope="session")
def enough(tmp_path_factory):
    """The same with enough behaviors for a PASS."""
    return make_models(tmp_path_factory.mktemp("enough"), ENOUGH)


@pytest.fixture
def command(monkeypatch, capfd, repair_cache, tmp_path):
    """Runs commands in this process, in a folder of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(repair_cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd)


@pytest.fixture
def repair(command, models):
    """Repairs one of the fine-tunes by the command line, into ``out``, with the run in ``run``."""

    def run(*options, tuned=("tuned",), own=True, out="out", among=models, quiet=True):
        declared = ["--own-task", among / "own.jsonl", "--own-score", "exact"] if own else []
        written = ["-o", out] if out else []
        fine_tunes = [among / name for name in tuned]
        return command(
            "repair", among / "base", *fine_tunes, *written, "--prompts", among / "harm.jsonl", "--judge", "rules",
            "--max-new-tokens", 12, "--run", "run", *(["-q"] if quiet else []), *declared, *options,
        )  # fmt: skip

    return run
