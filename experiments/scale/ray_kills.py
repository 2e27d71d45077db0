"""Kills nodes of a Ray cluster at random during one study, and compares the result with that of a plain run.

The study is the small one of the tests (a base, four fine-tunes, 1,200 answers, two judges and a guard), slowed down so that
there is something to kill: a batch of four answers waits half a second, a training step or a scorer's call an eighth. The cluster has
a head and two more nodes on this machine; each kill takes one of the two with all its processes, after 20 to 120 more steps and
calls, and a new node takes its place. The log of calls is written by the models themselves, outside of Aftertune's stores.

Usage: python experiments/scale/ray_kills.py [KILLS=20] [SEED=1] [OUT=FOLDER]
       python experiments/scale/ray_kills.py throughput [OUT=FOLDER]
"""

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
from ray_nodes import nodes
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

PACE = 0.5
"""Seconds that a batch of four answers waits."""
BETWEEN = 20, 120
"""Training steps and calls between two kills."""
DECODING = {"temperatures": [0.9], "samples": 10, "max_new_tokens": 8}
SAMPLES = 20
"""Answers to each prompt where throughput is measured."""
WORK = ("train", "generate", "judge", "guard")


def study_folder(folder: Path) -> Path:
    """Write the small study into a new folder."""
    folder.mkdir(parents=True)
    make_base(folder / "base")
    return write_data(folder)


def run(folder: Path, out: str, env: dict[str, str], *options: str) -> float:
    """Run the study to its end and return the seconds that it took."""
    began = time.monotonic()
    code, _, err = finish(
        start("run", "study.yaml", "--out", out, *options, env=env, cwd=folder), 7200
    )
    if code:
        raise SystemExit(err)
    return time.monotonic() - began


def kills(out: Path, number: int, seed: int) -> bool:
    """Run the study plainly and on a cluster whose nodes are killed; print what was made again."""
    folder = study_folder(out / "kills")
    write_study(folder, decoding=DECODING)
    run(folder, "plain", environment(out / "cache"))
    log, store = folder / "calls.log", folder / "out" / "store.sqlite"
    env = environment(out / "cache", log=log, pace=PACE) | {"TMPDIR": str(out)}
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
    counts = {
        kind: Counter(calls_of(log, kind)) for kind in ("train", "generate", "judge", "guard")
    }
    same = (folder / "out" / "result.json").read_bytes() == (
        folder / "plain" / "result.json"
    ).read_bytes()
    figures = {
        "kills": done,
        "equal result": same,
        "seconds": round(time.monotonic() - began),
        "committed answers made again": committed_again,
        **{f"{kind} calls": f"{counts[kind].total()} for {len(counts[kind])}" for kind in counts},
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
            run(folder, f"out-{workers}", env, "--on", f"ray:{cluster.address}")
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
    return kills(out, int(named.get("KILLS", 20)), int(named.get("SEED", 1)))


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
