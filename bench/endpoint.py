"""Responses a second through a local endpoint, beside a bare loop and what others offer: ``python bench/endpoint.py [PROMPTS] [ROUNDS]``.

All ask the same local server, which runs in a process of its own, the same greedy prompts. The bare aiohttp loop keeps 32
calls open and throws the answers away, and so does OpenAI's own client. Inspect (``inspect eval``, without display and
realtime log) and lm-eval (``local-chat-completions``) log the answers and score them by a wording. Aftertune finds its
concurrency itself, keys every call, plans, stores every answer and has the refusal rules judge it, each through the
functions that a study runs. Every run is a process of its own, imports included; rounds alternate, and a ratio is the
median of the rounds' own ratios. The peers need ``make bench-peers``. Ratios of wall times go to ``bench/latest.json``.
"""

import asyncio
import compileall
import importlib.util
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from latest import keep

PROMPTS, ROUNDS, SLOW_ROUNDS = 2000, 7, 3
OPEN = 32
HERE = Path(__file__).parent
PEERS = HERE / ".venv" / "bin"
SAID = ("Sorry, I cannot help. " * 10).strip()
ANSWER = {
    "id": "chatcmpl-0",
    "object": "chat.completion",
    "created": 0,
    "model": "served",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 40, "completion_tokens": 60, "total_tokens": 100},
}


def texts(count: int) -> list[str]:
    """Return the prompts."""
    return [
        f"Request number {number}: please tell me about it in a few sentences, as exactly as you can."
        for number in range(count)
    ]


def serve(port: "multiprocessing.Queue[int]") -> None:
    """Answer every request at once."""
    from aiohttp import web

    body = json.dumps(ANSWER).encode()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json")

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.put(site._server.sockets[0].getsockname()[1])  # noqa: SLF001 - the only place that knows the port
        await asyncio.Event().wait()

    asyncio.run(run())


def bare(url: str, count: int) -> float:
    """Ask all prompts with aiohttp alone; return the seconds that it took."""
    import aiohttp

    async def run() -> None:
        waiting = iter(texts(count))

        async def worker(session: aiohttp.ClientSession) -> None:
            for text in waiting:
                body = {
                    "model": "m", "messages": [{"role": "user", "content": text}], "temperature": 0.0, "max_tokens": 256, "seed": 0,
                }  # fmt: skip
                async with session.post(f"{url}/chat/completions", json=body) as reply:
                    assert (await reply.json())["choices"][0]["message"]["content"]

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=OPEN)) as session:
            await asyncio.gather(*(worker(session) for _ in range(OPEN)))

    start = time.monotonic()
    asyncio.run(run())
    return time.monotonic() - start


def aftertune(url: str, count: int) -> float:
    """Ask, store and judge all prompts as a study does; return the seconds that it took."""
    from aftertune.data.prompt_sets import load_sets
    from aftertune.generate import generate
    from aftertune.report.progress import Quiet
    from aftertune.score.run import build_scorers, score_responses
    from aftertune.study import study_from_mapping
    from aftertune.train.stage import expand_study
    from aftertune.workspace import open_run

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [
            {
                "behavior": f"b{i}",
                "template": "t",
                "task": "text",
                "intent": "harmful",
                "text": text,
            }
            for i, text in enumerate(texts(count))
        ]
        (folder / "prompts.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
        )
        start = time.monotonic()
        keys = {
            "name": "bench",
            "models": [{"name": "m", "reference": f"{url}#m"}],
            "prompts": ["prompts.jsonl"],
            "judges": ["rules"],
        }
        with open_run(study_from_mapping(keys, folder), folder / "run", Quiet(), folder) as run:
            scorers, questions = build_scorers(run), load_sets(run)
            models = expand_study(run)
            generate(run, models, questions.prompts)
            result = score_responses(run, scorers, models, questions.prompts)
            judged = run.store.table("bench", result.versions).columns["verdict:rules"]
        seconds = time.monotonic() - start
    assert len(judged) == count
    assert (judged == 1).all(), "every answer is a refusal"
    return seconds


@dataclass(frozen=True)
class Side:
    """One way of asking."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    check: Callable[[], bool] = lambda: True
    """Says afterwards whether every prompt was answered."""
    rounds: int = ROUNDS


def measure(side: Side) -> dict[str, float]:
    """Run one side in a fresh process; return wall and CPU seconds with start-up, and those that it states itself."""
    before, start = os.times(), time.monotonic()
    done = subprocess.run(
        side.command, env=os.environ | side.environment, check=False, capture_output=True, text=True
    )
    wall, after = time.monotonic() - start, os.times()
    if done.returncode or not side.check():
        raise SystemExit(
            f"{side.name} did not answer every prompt:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    cpu = (
        after.children_user - before.children_user + after.children_system - before.children_system
    )
    found = {"whole": wall, "cpu": cpu}
    return found | {"work": float(done.stdout)} if side.command[0] == sys.executable else found


def sides(url: str, count: int, folder: Path) -> list[Side]:
    """Return all ways of asking; those of others only where they are installed."""
    own = [
        Side(name, [sys.executable, __file__, name, url, str(count)])
        for name in ("bare", "aftertune")
    ]
    if not (PEERS / "python").is_file():
        print("openai, inspect, lm_eval: not compared, they are not installed (make bench-peers)")
        return own
    scripts = HERE / "peers"
    return [
        *own,
        Side("openai", [str(PEERS / "python"), str(scripts / "ask_openai.py"), url, str(count)]),
        _inspect(url, count, folder / "inspect"),
        _lm_eval(url, count, folder / "lm_eval"),
    ]


def _inspect(url: str, count: int, folder: Path) -> Side:
    command = [
        str(PEERS / "inspect"), "eval", f"{HERE / 'peers' / 'inspect_task.py'}@refusals", "-T", f"count={count}",
        "--model", "openai-api/local/m", "--max-connections", str(OPEN), "--temperature", "0", "--max-tokens", "256",
        "--seed", "0", "--display", "none", "--no-log-realtime", "--log-format", "json", "--log-dir", str(folder),
    ]  # fmt: skip

    def check() -> bool:
        (log,) = folder.glob("*.json")
        results = json.loads(log.read_text(encoding="utf-8"))["results"]
        log.unlink()
        return bool(
            results["completed_samples"] == count
            and results["scores"][0]["metrics"]["accuracy"]["value"] == 1
        )

    return Side(
        "inspect", command, {"LOCAL_API_KEY": "none", "LOCAL_BASE_URL": url}, check, SLOW_ROUNDS
    )


def _lm_eval(url: str, count: int, folder: Path) -> Side:
    folder.mkdir()
    rows = folder / "prompts.jsonl"
    rows.write_text(
        "".join(json.dumps({"text": text, "answer": SAID}) + "\n" for text in texts(count)),
        encoding="utf-8",
    )
    task = {
        "task": "refusals", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(rows)}},
        "test_split": "test", "output_type": "generate_until", "doc_to_text": "{{text}}", "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["<end>"], "max_gen_toks": 256, "temperature": 0.0, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    (folder / "refusals.yaml").write_text(json.dumps(task), encoding="utf-8")
    command = [
        str(PEERS / "lm_eval"), "run", "--model", "local-chat-completions", "--tasks", "refusals", "--apply_chat_template",
        "--model_args", f"model=m,base_url={url}/chat/completions,num_concurrent={OPEN}",
        "--include_path", str(folder), "--output_path", str(folder / "out.json"),
    ]  # fmt: skip

    def check() -> bool:
        (results,) = folder.glob("out*.json")
        scores = json.loads(results.read_text(encoding="utf-8"))["results"]["refusals"]
        results.unlink()
        return bool(scores["exact_match,none"] == 1)

    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    return Side("lm_eval", command, offline, check, SLOW_ROUNDS)


def main() -> None:
    """Alternate the sides and print medians and ratios."""
    if len(sys.argv) == 4:
        side = {"bare": bare, "aftertune": aftertune}[sys.argv[1]]
        print(side(sys.argv[2], int(sys.argv[3])))
        return
    package = importlib.util.find_spec("aftertune")
    assert package is not None
    compileall.compile_dir(
        Path(str(package.origin)).parent, quiet=1
    )  # as pip leaves what it installs
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PROMPTS
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    port: multiprocessing.Queue[int] = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(port,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{port.get(timeout=30)}/v1"
    with tempfile.TemporaryDirectory() as folder:
        asked = sides(url, count, Path(folder))
        found: dict[str, list[dict[str, float]]] = {side.name: [] for side in asked}
        for number in range(rounds):
            for side in asked:
                if number < side.rounds:
                    found[side.name].append(measure(side))
    server.terminate()
    report(found, count)


def report(found: dict[str, list[dict[str, float]]], count: int) -> None:
    """Print medians over rounds and keep ratios; each round has its own ratio, since the machine's load drifts."""
    mine = found["aftertune"]
    for side, runs in found.items():
        middle = {what: statistics.median(run[what] for run in runs) for what in runs[0]}
        spread = sorted(count / run["whole"] for run in runs)
        line = (
            f"{side:<10} {count / middle['whole']:6.0f} responses/s ({spread[0]:.0f}-{spread[-1]:.0f}), "
            f"{1000 * middle['cpu'] / count:6.2f} ms of CPU each, start-up included"
        )
        print(f"{line}; {count / middle['work']:.0f}/s without" if "work" in middle else line)
    figures = {}
    for side, runs in found.items():
        if side != "aftertune":
            ratio = {
                what: statistics.median(
                    run[what] / my[what] for my, run in zip(mine, runs, strict=False)
                )
                for what in runs[0]
            }
            print(f"aftertune / {side}: {ratio['whole']:.2f} (CPU {ratio['cpu']:.2f})")
            figures["endpoint_vs_aiohttp" if side == "bare" else f"endpoint_vs_{side}"] = round(
                ratio["whole"], 3
            )
    keep(figures)


if __name__ == "__main__":
    main()
