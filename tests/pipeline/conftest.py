import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import Commands
from tiny_study import environment, finish, make_base, start, write_data


@dataclass(frozen=True)
class Finished:
    """A study that ran to its end: its folder, what it printed, and the log of its calls."""

    folder: Path
    printed: str
    log: Path

    @property
    def result(self):
        return (self.folder / "out" / "result.json").read_bytes()


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("tiny_cache")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("tiny_base") / "base")


@pytest.fixture
def tiny_folder(tmp_path, tiny_base):
    """A fresh folder with the small study, nothing of it run."""
    return fresh(tmp_path / "tiny", tiny_base)


def fresh(folder, base):
    folder.mkdir()
    shutil.copytree(base, folder / "base")
    return write_data(folder)


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory, tiny_base, tiny_cache):
    """The small study, run once to its end by the command line; tests work on copies of it."""
    folder = fresh(tmp_path_factory.mktemp("finished") / "tiny", tiny_base)
    log = folder / "calls.log"
    env = environment(tiny_cache, log=log)
    code, out, err = finish(start("run", "study.yaml", "--out", "out", env=env, cwd=folder))
    assert code == 0, err
    return Finished(folder=folder, printed=out, log=log)


@pytest.fixture
def copied(tmp_path, finished_study):
    """A copy of the finished study to work on."""
    folder = shutil.copytree(finished_study.folder, tmp_path / "copy")
    (folder / "calls.log").unlink()
    return folder


@pytest.fixture
def command(monkeypatch, capfd, tiny_cache, tmp_path):
    """Runs commands in this process, in a folder of their own, with the small study's plug-ins to be found."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tiny_cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd)
