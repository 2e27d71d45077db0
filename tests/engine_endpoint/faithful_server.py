"""A chat-completions server for tests: it checks every request field by field, and fails on purpose.

It runs in a thread of its own on a real socket. What it saw is kept, so that tests can count.
"""

import asyncio
import hashlib
import json
import random
import threading
from collections import Counter

from aiohttp import web

KEY = "test-key-5f3e9a1c77d24b06"
"""The only key that the server takes; tests look for it on disk."""
FIELDS = {"model", "messages", "temperature", "max_tokens", "max_completion_tokens", "top_p", "top_k", "seed"}
FAULTS = (
    "429", "429 slow", "429 in ms", "500", "503", "408", "529", "broken json", "html", "no choices", "reset", "cut", "hang",
    "error in 200", "null finish",
)  # fmt: skip


def answer_of(body):
    """What the server says to a request: decided by everything in it, as a real model's draw is by its seed."""
    text = json.dumps([body["messages"], body.get("seed") if body["temperature"] > 0 else None])
    return f"Sorry, I cannot help with that. {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def complaint(body):
    """What is wrong with a request; None if nothing is."""
    if not isinstance(body, dict) or set(body) - FIELDS:
        return f"unknown fields {sorted(set(body) - FIELDS)}"
    if not isinstance(body.get("model"), str) or not body["model"]:
        return "model"
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or messages[-1]["role"] != "user":
        return "messages"
    for message in messages:
        if set(message) != {"role", "content"} or message["role"] not in ("system", "user", "assistant"):
            return "message"
        if not isinstance(message["content"], str) or not message["content"]:
            return "content"
    limits = [body[name] for name in ("max_tokens", "max_completion_tokens") if name in body]
    if len(limits) != 1 or type(limits[0]) is not int or limits[0] < 1:
        return "token limit"
    if type(body.get("temperature")) is not float or not 0 <= body["temperature"] <= 2:
        return "temperature"
    if (body["temperature"] > 0) != ("top_p" in body) or not 0 < body.get("top_p", 1.0) <= 1:
        return "top_p"
    if type(body.get("seed", 0)) is not int or not 0 <= body.get("seed", 0) < 2**31:
        return "seed"
    return None


def completion(body, text, finish="stop", **more):
    return {
        "id": "x",
        "object": "chat.completion",
        "model": f"{body['model']}-2026-01-01",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        **more,
    }


class Server:
    """A context manager: ``with Server() as server: server.url``."""

    def __init__(self, *, faults=(), share=0.0, seed=0, key=KEY, reply=None, seconds=0.0):
        self.faults, self.share, self.random = tuple(faults), share, random.Random(seed)
        self.key, self.reply, self.seconds = key, reply, seconds
        self.asked, self.answered, self.injected = Counter(), Counter(), Counter()
        self.bodies, self.headers, self.open, self.most_open, self.connections = [], [], 0, 0, set()

    def __enter__(self):
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self, ready):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._handle)
        app.router.add_post("/openai/v1/chat/completions", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.root = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        self.url = f"{self.root}/v1"
        ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request):
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self.connections.add(request.transport.get_extra_info("peername"))
        try:
            return await self._answer(request)
        finally:
            self.open -= 1

    async def _answer(self, request):
        data = await request.read()
        body = json.loads(data)
        self.asked[data] += 1
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        if self.seconds:
            await asyncio.sleep(self.seconds)
        given = request.headers.get("Authorization", request.headers.get("api-key", "")).removeprefix("Bearer ")
        if self.key and given != self.key:
            return web.json_response(
                {"error": {"message": f"Incorrect API key provided: {given}", "code": "invalid_api_key"}}, status=401
            )
        if (wrong := complaint(body)) is not None:
            return web.json_response({"error": {"message": f"bad field: {wrong}"}}, status=400)
        if self.faults and self.random.random() < self.share:
            fault = self.random.choice(self.faults)
            self.injected[fault] += 1
            return await self._fail(fault, request, body)
        if self.reply is not None and (reply := self.reply(body, request)) is not None:
            return reply
        self.answered[data] += 1
        return web.json_response(completion(body, answer_of(body)))

    async def _fail(self, fault, request, body):
        error = {"error": {"message": f"injected, by the way your header is {request.headers.get('Authorization')}"}}
        if fault.startswith("429"):
            waits = {"429": {}, "429 slow": {"Retry-After": "0.05"}, "429 in ms": {"retry-after-ms": "20"}}[fault]
            return web.json_response(error, status=429, headers=waits)
        if fault.isdigit():
            return web.json_response(error, status=int(fault))
        if fault == "html":
            return web.Response(text="<html>502 Bad Gateway</html>", status=502, content_type="text/html")
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault in ("reset", "cut"):
            return await self._break(request, fault)
        whole = completion(body, answer_of(body))
        if fault == "broken json":
            return web.Response(body=json.dumps(whole).encode()[:-20], content_type="application/json")
        if fault == "error in 200":
            return web.json_response({"error": {"code": 502, "message": "upstream"}})
        if fault == "null finish":
            return web.json_response(completion(body, answer_of(body), finish=None))
        return web.json_response(whole | {"choices": []})

    async def _break(self, request, fault):
        if fault == "cut":
            reply = web.StreamResponse(headers={"Content-Length": "5000", "Content-Type": "application/json"})
            await reply.prepare(request)
            await reply.write(b'{"choices": [')
        request.transport.abort() if fault == "reset" else request.transport.close()
        return web.Response()
