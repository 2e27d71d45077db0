"""Responses a second through a local endpoint, against a bare aiohttp loop: ``python bench/endpoint.py [PROMPTS] [ROUNDS]``.

Both ask the same local server, which runs in a process of its own, the same greedy prompts. The loop keeps 32 calls open
and throws the answers away. Aftertune finds its concurrency itself, keys every call, plans, stores every answer and has the
refusal rules judge it, each through the functions that a study runs. Rounds alternate; medians are printed, with start-up
(a fresh process each time, all imports) and without. The last line is what `bench/latest.json` takes.
"""

import asyncio
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPTS, ROUNDS = 2000, 5
OPEN = 32
ANSWER = {
    "model": "served",
    "choices": [{"message": {"role": "assistant", "content": "Sorry, I cannot help. " * 10}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 40, "completion_tokens": 60},
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
    import aiohttp  # noqa: F401 - imported before the clock starts, as on the other side

    from aftertune.pipeline.answering import generate
    from aftertune.pipeline.instruments import make_instruments
    from aftertune.pipeline.prompting import load_sets
    from aftertune.pipeline.reading import read_judges
    from aftertune.pipeline.run_folder import open_run
    from aftertune.pipeline.training import expand_study
    from aftertune.report.progress import Quiet
    from aftertune.study import study_from_mapping

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [
            {"behavior": f"b{i}", "template": "t", "task": "text", "intent": "harmful", "text": text}
            for i, text in enumerate(texts(count))
        ]
        (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        start = time.monotonic()
        keys = {
            "name": "bench",
            "models": [{"name": "m", "reference": f"{url}#m"}],
            "prompts": ["prompts.jsonl"],
            "judges": ["rules"],
        }
        with open_run(study_from_mapping(keys, folder), folder / "run", Quiet(), folder) as run:
            instruments, questions = make_instruments(run), load_sets(run)
            generate(run, expand_study(run), questions.prompts)
            (reader,) = read_judges(run, instruments.judges)
            judged = run.store.table("bench", [reader]).columns["verdict:rules"]
        seconds = time.monotonic() - start
    assert len(judged) == count
    assert (judged == 1).all(), "every answer is a refusal"
    return seconds


def measure(what: str, url: str, count: int) -> dict[str, float]:
    """Run one side in a fresh process; return wall seconds with and without start-up, and CPU seconds with it."""
    before, start = os.times(), time.monotonic()
    done = subprocess.run([sys.executable, __file__, what, url, str(count)], check=True, capture_output=True, text=True)
    wall, after = time.monotonic() - start, os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return {"whole": wall, "work": float(done.stdout), "cpu": cpu}


def main() -> None:
    """Alternate the two sides and print medians and ratios."""
    if len(sys.argv) == 4:
        side = {"bare": bare, "aftertune": aftertune}[sys.argv[1]]
        print(side(sys.argv[2], int(sys.argv[3])))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PROMPTS
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    port: multiprocessing.Queue[int] = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(port,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{port.get(timeout=30)}/v1"
    sides: dict[str, list[dict[str, float]]] = {"bare": [], "aftertune": []}
    for _ in range(rounds):
        for side, runs in sides.items():
            runs.append(measure(side, url, count))
    server.terminate()
    report(sides, count)


def report(sides: dict[str, list[dict[str, float]]], count: int) -> None:
    """Print medians over rounds; a ratio is the median of the rounds' own ratios, since the machine's load drifts."""
    for side, runs in sides.items():
        middle = {what: statistics.median(run[what] for run in runs) for what in runs[0]}
        spread = sorted(count / run["work"] for run in runs)
        print(
            f"{side:10} {count / middle['work']:7.0f} responses/s ({spread[0]:.0f}-{spread[-1]:.0f}), with start-up "
            f"{count / middle['whole']:6.0f}/s, {1000 * middle['cpu'] / count:.2f} ms of CPU each, start-up included"
        )
    ratios = {
        what: statistics.median(
            mine[what] and base[what] / mine[what] for base, mine in zip(*sides.values(), strict=True)
        )
        for what in ("work", "whole", "cpu")
    }
    print(f"ratio to bare aiohttp: {ratios['work']:.2f}; with start-up {ratios['whole']:.2f}; CPU {ratios['cpu']:.2f}")
    print(
        json.dumps(
            {"endpoint_vs_aiohttp": round(ratios["whole"], 3), "endpoint_vs_aiohttp_running": round(ratios["work"], 3)}
        )
    )


if __name__ == "__main__":
    main()
