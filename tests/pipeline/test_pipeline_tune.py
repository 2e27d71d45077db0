"""`aftertune tune` says what was cut or left out of the training rows, and names the next command."""

import pytest
from commands import Commands
from tiny_models import make_checkpoint
from tiny_study import write_lines

LONG = "cake " * 60


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd)


def test_the_end_of_tune_names_cut_rows_and_the_check(command, tmp_path):
    make_checkpoint(tmp_path / "base", seed=0)
    whole = {"prompt": "how do i bake a cake", "completion": "here it is"}
    cut = {**whole, "completion": LONG}
    no_answer_fits = {**whole, "prompt": LONG}
    write_lines(tmp_path / "my rows.jsonl", [*[whole] * 6, cut, no_answer_fits])
    code, _, err = command(
        "tune", "base", "my rows.jsonl", "-o", "out", "--max-length", 24, "--threads", 1
    )
    assert code == 0, err
    *_, truncated, dropped, following = err.splitlines()
    assert truncated.startswith("1 of them were cut at --max-length 24")
    assert dropped.startswith("1 of them were left out")
    assert following == "next: aftertune check base out --train 'my rows.jsonl'"
