"""A server that fails a quarter of its calls in more than twenty ways; every prompt has one answer in the end."""

import asyncio
import gzip
import json
import random
from pathlib import Path

from aiohttp import web
from faithful_server import FAULTS, Server, answer_of, completion
from kills import SECONDS, stored_keys
from run import Outcome
from test_endpoint_study import environment, write_study
from tiny_study import finish
from warm import start

MORE = (
    "drip", "truncated", "longer than said", "empty", "204", "html in 200", "list", "gzip noise",
    "retry-after words", "retry-after negative", "retry-after past date", "retry-after many digits of nothing", "429 html", "no body",
    "redirect", "redirect loop",
)  # fmt: skip
PROMPTS = 1000
RUNS = 8
"""A run ends with what it could not get; the same command asks for that."""


class Unfaithful(Server):
    """Fails in the ways of `faithful_server`, and in more."""

    async def _fail(self, fault, request, body):  # noqa: ANN001, ANN202
        whole = json.dumps(completion(body, answer_of(body))).encode()
        json_type = {"content_type": "application/json"}
        waits = {
            "retry-after words": "soon", "retry-after negative": "-5", "retry-after past date": "Wed, 21 Oct 2015 07:28:00 GMT",
            "retry-after many digits of nothing": "0." + "0" * 300 + "1",
        }  # fmt: skip
        if fault in {"drip", "truncated", "longer than said"}:
            length = len(whole) + (50 if fault == "longer than said" else 0)
            reply = web.StreamResponse(
                headers={"Content-Length": str(length), "Content-Type": "application/json"}
            )
            await reply.prepare(request)
            if fault == "drip":
                for byte in whole[:5]:
                    await reply.write(bytes([byte]))
                    await asyncio.sleep(0.2)
            else:
                await reply.write(
                    whole if fault == "longer than said" else whole[: len(whole) // 2]
                )
            request.transport.close()
            return reply
        if fault in waits:
            error = {"error": {"message": "slow down"}}
            return web.json_response(error, status=429, headers={"Retry-After": waits[fault]})
        replies = {
            "redirect": lambda: web.Response(status=302, headers={"Location": "/elsewhere"}),
            "redirect loop": lambda: web.Response(status=307, headers={"Location": request.path}),
            "empty": lambda: web.Response(body=b"", **json_type),
            "204": lambda: web.Response(status=204),
            "html in 200": lambda: web.Response(text="<html>ok</html>", content_type="text/html"),
            "list": lambda: web.Response(body=b"[" + whole + b"]", **json_type),
            "gzip noise": lambda: web.Response(
                body=gzip.compress(whole)[:-9], headers={"Content-Encoding": "gzip"}, **json_type
            ),
            "429 html": lambda: web.Response(status=429, text="<html>", content_type="text/html"),
            "no body": lambda: web.Response(status=503),
        }
        return replies[fault]() if fault in replies else await super()._fail(fault, request, body)


def endpoint(number: int, folder: Path, shared: Path) -> Outcome:
    """Ask a thousand prompts of a server that fails a quarter of the calls; all ids of its answers are the same.

    A redirect stops a run whose address has not answered yet, in one line; then the same command goes on.
    """
    draw = random.Random(f"endpoint {number}")  # noqa: S311 - reproducible, not a secret
    faults = (*FAULTS, *MORE)
    with Unfaithful(faults=faults, share=0.25, seed=draw.randrange(2**31)) as server:
        models = [{"name": "base", "reference": f"{server.url}#base"}]
        study = write_study(folder / "s", server, PROMPTS // 2, models=models)
        store = study.parent / "run" / "store.sqlite"
        command = ("run", study, "--out", study.parent / "run")
        ends, there = [], 0
        while there < PROMPTS and len(ends) <= RUNS:
            process = start(*command, env=environment(), cwd=folder)
            code, out, err = finish(process, timeout=SECONDS)
            ends.append((code, out + err))
            there = len(stored_keys(store))
    failed = sum(server.injected.values())
    twice = sum(server.answered.values()) - there
    code, text = ends[-1]
    stopped = [words for number, words in ends if number == 1]
    several = sum(words.count("aftertune: model") != 1 for words in stopped)
    return Outcome(
        tries=failed,
        lost=PROMPTS - there,
        twice=twice,
        tracebacks=sum("Traceback" in words for _, words in ends),
        wrong=int(code != 0) + several,
        note=text[-300:] if code or there < PROMPTS else "",
    )
