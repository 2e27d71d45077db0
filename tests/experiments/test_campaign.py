"""The campaign that tries to break the product bears a kill itself: every trial counts once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_study import kill

from aftertune import __version__

SCRIPT = Path(__file__).parents[2] / "experiments" / "campaign" / "run.py"
TRIALS = 120


def start(out):
    options = [f"OUT={out}", f"FIGURES={out}/figures.json", "FAMILIES=stores", "JOBS=2"]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *options, f"TRIALS={TRIALS / 1000}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def lines_of(out):
    ledger = out / "trials.jsonl"
    return ledger.read_text().split("\n")[1:] if ledger.exists() else []


@pytest.mark.parametrize("end", [kill, subprocess.Popen.kill], ids=["whole", "first process"])
def test_a_campaign_that_is_killed_goes_on(tmp_path, end):
    """Processes that are left of it end with their trial, and nothing of that trial is taken away."""
    killed = start(tmp_path)
    while killed.poll() is None and len(lines_of(tmp_path)) < 5:
        time.sleep(0.01)
    end(killed)
    assert killed.wait() == -signal.SIGKILL
    before = lines_of(tmp_path)
    assert 5 <= len(before) < TRIALS
    with (tmp_path / "trials.jsonl").open("a") as ledger:
        ledger.write('\n{"family": "stores", "tri')  # cut off by the kill
    (tmp_path / "trial-stores-left").mkdir()

    campaign = start(tmp_path)
    out, err = campaign.communicate()
    killed.communicate()
    assert campaign.returncode == 0, out + err
    kept = [line for line in lines_of(tmp_path) if line.endswith("}")]
    assert kept[: len(before)] == before
    assert sorted(json.loads(line)["trial"] for line in kept) == list(range(TRIALS))
    figures = json.loads((tmp_path / "figures.json").read_text())["stores"]
    assert (figures["trials"], figures["tries"], figures["lost"], figures["wrong"]) == (TRIALS, TRIALS, 0, 0)  # fmt: skip
    assert not list(tmp_path.glob("trial-*"))


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("TRIALS=abc", "TRIALS"),
        ("TRIALS=0", "TRIALS"),
        ("TRIALS=nan", "TRIALS"),
        ("JOBS=0", "JOBS"),
        ("FAMILIES=stores,nonsense", "nonsense"),
        ("FIGURES=nowhere/figures.json", "nowhere"),
        ("TRIAL=0.1", "TRIAL=0.1"),
        ("stores", "stores"),
    ],
)
def test_a_wrong_option_of_the_campaign_is_a_line_before_anything_is_run(tmp_path, word, named):
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), f"OUT={tmp_path / 'out'}", word],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    (line,) = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout, named in line) == (2, "", True)
    assert not list(tmp_path.iterdir())


def test_a_forked_command_is_the_installed_one(tmp_path):
    code = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(SCRIPT.parent)!r})
import run, warm
if __name__ == "__main__":
    command = warm.start("--version", env=dict(os.environ), cwd=Path({str(tmp_path)!r}))
    out, err = command.communicate(120)
    print(command.returncode, out, err)
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    forked = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert forked.stdout.split() == ["0", "aftertune", __version__]
