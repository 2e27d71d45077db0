"""Kills nodes of a Ray cluster at random during one study, and compares the result with that of a plain run.

The study is the small one of the tests (a base, four fine-tunes, 1,200 answers, two judges and a guard), slowed down so that
there is something to kill: a batch of four answers waits half a second, a training step or a scorer's call an eighth. The cluster has
a head and two more nodes on this machine; each kill takes one of the two with all its processes, after 20 to 120 more steps and
calls, and a new node takes its place. The log of calls is written by the models themselves, outside of Aftertune's stores.

With `smollm2` it is a study of a real model as it is, at its own speed: SmolLM2, two LoRA fine-tunes that are ready, and one that
is trained for two steps; 10 behaviors with their twins in two tasks, greedy and at temperature 0.9, one thread a worker.

Usage: python experiments/scale/ray_kills.py [KILLS=20] [SEED=1] [OUT=FOLDER]
       python experiments/scale/ray_kills.py smollm2 [KILLS=5] [SEED=1] [DTYPE=float32] [OUT=FOLDER]
       python experiments/scale/ray_kills.py throughput [OUT=FOLDER]
"""

import json
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).parents[1] / "smollm2"))
from ray_nodes import nodes
from rows import task_rows
from tiny_study import (
    calls_of,
    environment,
    finish,
    lines_of,
    make_base,
    start,
    stored_keys,
    write_data,
    write_study,
)

from aftertune.data.rows import write_rows

ADAPTER = Path(__file__).parents[1] / "smollm2" / "aligned"
PACE = 0.5
"""Seconds that a batch of four answers waits."""
BETWEEN = 20, 120
"""Training steps and calls between two kills."""
DECODING = {"temperatures": [0.9], "samples": 10, "max_new_tokens": 8}
SAMPLES = 20
"""Answers to each prompt where throughput is measured."""
WORK = ("train", "generate", "judge", "guard")
ROWS = 16
"""Training rows of a fine-tune of SmolLM2: two steps."""


def study_folder(folder: Path) -> Path:
    """Write the small study into a new folder."""
    folder.mkdir(parents=True)
    make_base(folder / "base")
    return write_data(folder)


def command(folder: Path, env: dict[str, str], *words: str) -> float:
    """Run a command to its end and return the seconds that it took."""
    began = time.monotonic()
    code, _, err = finish(start(*words, env=env, cwd=folder), 7200)
    if code:
        raise SystemExit(err)
    return time.monotonic() - began


def small_study(out: Path) -> tuple[Path, float]:
    """Write the small study, and return its folder and the pace of its calls."""
    folder = study_folder(out / "kills")
    write_study(folder, decoding=DECODING)
    return folder, PACE


def smollm2_study(out: Path, dtype: str) -> tuple[Path, float]:
    """Write a study of SmolLM2, and return its folder and a pace of 0."""
    folder = out / f"smollm2-{dtype}"
    folder.mkdir(parents=True)
    for task in ("code", "translation"):
        write_rows(task_rows(task, None, ROWS), folder / f"{task}.jsonl")
    training = {"epochs": 1, "learning_rate": 5.0e-4, "max_length": 128}
    study = {
        "name": "smollm2",
        "models": [
            {"name": "base", "reference": "smollm2"},
            {"name": "aligned", "reference": str(ADAPTER), "base": "base"},
            {"name": "translation", "reference": "./translation", "base": "base"},
        ],
        "fine_tunes": [
            {"name": "code", "base": "base", "data": "./code.jsonl", "method": "lora", "seeds": [1], "training": training},
        ],
        "prompts": [
            {"loader": "multitask-v1", "options": {"templates_per_task": 1, "tasks": ["text", "code"]}, "limit": 10},
        ],
        "decoding": {"temperatures": [0.0, 0.9], "max_new_tokens": 24},
        "execute": {"calls_per_unit": 40},
        "engine": {"threads": 1, "device": "cpu", "dtype": dtype},
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    options = ("--epochs", "1", "--max-length", "128", "--threads", "1")
    tune = ("tune", "smollm2", "translation.jsonl", "-o", "translation", *options)
    command(folder, environment(out / "cache"), *tune)
    return folder, 0.0


def texts_of(store: Path) -> dict[bytes, bytes]:
    """Return the answers of a study's models by their keys."""
    query = "SELECT key, text FROM call JOIN text ON text.call = call.id WHERE kind = 'generate'"
    with closing(sqlite3.connect(store)) as connection:
        return dict(connection.execute(query))


def kills(out: Path, folder: Path, pace: float, number: int, seed: int) -> bool:
    """Run a study plainly and on a cluster whose nodes are killed; print what was made again.

    Args:
        out: the folder of the experiment.
        folder: the study's.
        pace: seconds that a batch of its answers waits.
        number: nodes to kill.
        seed: of the moments and the nodes.
    """
    plain = command(folder, environment(out / "cache"), "run", "study.yaml", "--out", "plain")
    log, store = folder / "calls.log", folder / "out" / "store.sqlite"
    env = environment(out / "cache", log=log, pace=pace) | {"TMPDIR": str(out)}
    draw, done, committed_again = np.random.default_rng(seed), 0, 0
    began = time.monotonic()
    with nodes(2, env) as cluster:
        place = f"ray:{cluster.address}"
        driver = start("run", "study.yaml", "--out", "out", "--on", place, env=env, cwd=folder)
        marks = []
        due = int(draw.integers(*BETWEEN))
        while driver.poll() is None:
            time.sleep(0.05)
            if done < number and len(calls_of(log, *WORK)) >= due:
                marks.append((len(lines_of(log)), stored_keys(store)))
                cluster.kill(int(draw.integers(2)))
                cluster.add()
                done += 1
                due = len(calls_of(log, *WORK)) + int(draw.integers(*BETWEEN))
                sys.stdout.write(
                    f"{time.monotonic() - began:6.0f} s: kill {done}, {len(marks[-1][1]):,} committed\n"
                )
                sys.stdout.flush()
        code, _, err = finish(driver)
    if code:
        raise SystemExit(err)
    lines = lines_of(log)
    for place, committed in marks:
        committed_again += sum(
            kind == "generate" and key in committed for _, kind, key in lines[place:]
        )
    counts = {kind: Counter(calls_of(log, kind)) for kind in WORK}
    same = (folder / "out" / "result.json").read_bytes() == (
        folder / "plain" / "result.json"
    ).read_bytes()
    there, straight = texts_of(store), texts_of(folder / "plain" / "store.sqlite")
    other = sum(text != there.get(key) for key, text in straight.items())
    figures = {
        "kills": done,
        "equal result": same,
        "answers with another text": f"{other} of {len(straight)}",
        "seconds": round(time.monotonic() - began),
        "seconds of the plain run": round(plain),
        "committed answers made again": committed_again,
        **{
            f"{kind} calls": f"{made.total()} for {len(made)}"
            for kind, made in counts.items()
            if made
        },
    }
    print(json.dumps(figures, indent=1))
    print("\n".join(line for line in err.splitlines() if line.startswith("Ray:")))
    return same and not committed_again


def throughput(out: Path) -> bool:
    """Print the answers a second of one worker and of two; a batch of four answers waits, as for a GPU."""
    folder = study_folder(out / "throughput")
    keys = {"fine_tunes": None, "judges": ["rules"], "guards": None}
    decoding = {"temperatures": [0.9], "samples": SAMPLES, "max_new_tokens": 8}
    write_study(folder, **keys, decoding=decoding, execute={"on": "ray", "calls_per_unit": 120})
    for workers in (1, 2):
        log = folder / f"calls-{workers}.log"
        env = environment(out / "cache", log=log, pace=PACE) | {"TMPDIR": str(out)}
        with nodes(workers - 1, env) as cluster:
            place = f"ray:{cluster.address}"
            command(folder, env, "run", "study.yaml", "--out", f"out-{workers}", "--on", place)
        times = [seconds for seconds, kind, _ in lines_of(log) if kind == "given"]
        print(
            f"{workers} workers: {len(times)} answers, {len(times) / (times[-1] - times[0]):.1f} a second"
        )
    return True


def main(words: list[str]) -> bool:
    """Run what the words of the command line name, and return whether nothing is wrong."""
    named = dict(word.split("=", 1) for word in words if "=" in word)
    out = Path(named.get("OUT") or tempfile.mkdtemp(prefix="aftertune-ray-"))
    if "throughput" in words:
        return throughput(out)
    if "smollm2" in words:
        (folder, pace), number = smollm2_study(out, named.get("DTYPE", "float32")), 5
    else:
        (folder, pace), number = small_study(out), 20
    return kills(out, folder, pace, int(named.get("KILLS", number)), int(named.get("SEED", 1)))


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
