"""A chat-completions server for tests: it checks every request field by field, and fails on purpose.

It runs in a thread of its own on a real socket. What it saw is kept, so that tests can count.
"""

import asyncio
import hashlib
import json
from collections import Counter

import numpy as np
from aiohttp import web
from local_server import LocalServer

KEY = "test-key-5f3e9a1c77d24b06"
"""The only key that the server takes; tests look for it on disk."""
FIELDS = {"model", "messages", "temperature", "max_tokens", "max_completion_tokens", "top_p", "top_k", "seed", "prompt",
          "logprobs", "top_logprobs", "chat_template_kwargs", "continue_final_message", "add_generation_prompt"}  # fmt: skip
FAULTS = (
    "429", "429 slow", "429 in ms", "500", "503", "408", "529", "broken json", "html", "no choices", "reset", "cut", "hang",
    "error in 200", "error finish",
)  # fmt: skip


def answer_of(body):
    """What the server says to a request: decided by everything in it, as a real model's draw is by its seed."""
    text = json.dumps([body["messages"], body.get("seed") if body["temperature"] > 0 else None])
    return f"Sorry, I cannot help with that. {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def complaints(body):
    """What is wrong with a request, field by field."""
    if "input" in body:  # moderation
        return (
            []
            if set(body) == {"model", "input"} and isinstance(body["input"], str) and body["input"]
            else ["input"]
        )
    if "prompt" in body:
        body = body | {"messages": [{"role": "user", "content": body["prompt"]}], "logprobs": body.get("logprobs", 0) == 20}  # fmt: skip
    limits = [body[name] for name in ("max_tokens", "max_completion_tokens") if name in body]
    messages = body.get("messages") or [{}]
    checks = {
        f"unknown {sorted(set(body) - FIELDS)}": not set(body) - FIELDS,
        "model": isinstance(body.get("model"), str) and body["model"],
        # A guard is shown an answer and asked about it; a model is asked to answer, or to go on, as vLLM wants to be told.
        "messages": messages[-1].get("role")
        in (
            ("assistant",)
            if "continue_final_message" in body
            else ("user", "assistant")
            if "logprobs" in body
            else ("user",)
        ),
        "going on": (
            body.get("continue_final_message", False) is not body.get("add_generation_prompt", True)
        ),
        "message": all(set(message) == {"role", "content"} for message in messages),
        "role": all(message.get("role") in ("system", "user", "assistant") for message in messages),
        "content": all(
            isinstance(message.get("content"), str) and message["content"] for message in messages
        ),
        "token limit": len(limits) == 1 and type(limits[0]) is int and limits[0] > 0,
        "temperature": type(body.get("temperature")) is float and 0 <= body["temperature"] <= 2,
        "top_p": (body.get("temperature") != 0) == ("top_p" in body)
        and 0 < body.get("top_p", 1.0) <= 1,
        "top_k": type(body.get("top_k", 1)) is int and body.get("top_k", 1) > 0,
        "logprobs": type(body.get("logprobs", True)) is bool,
        "top_logprobs": ("prompt" in body) or ("top_logprobs" in body) == ("logprobs" in body),
        "template": isinstance(body.get("chat_template_kwargs", {}), dict),
        "seed": type(body.get("seed", 0)) is int and 0 <= body.get("seed", 0) < 2**31,
    }
    return [name for name, right in checks.items() if not right]


def completion(body, text, finish="stop", **more):
    return {
        "id": "x",
        "object": "chat.completion",
        "model": f"{body['model']}-2026-01-01",
        "system_fingerprint": "fp_1",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        **more,
    }


class Server(LocalServer):
    """A context manager: ``with Server() as server: server.url``."""

    def __init__(self, *, faults=(), share=0.0, seed=0, key=KEY, reply=None, seconds=0.0):
        self.faults, self.share, self.random = tuple(faults), share, np.random.default_rng(seed)
        self.key, self.reply, self.seconds = key, reply, seconds
        self.asked, self.answered, self.injected = Counter(), Counter(), Counter()
        self.bodies, self.headers, self.open, self.most_open, self.connections = [], [], 0, 0, set()

    @property
    def url(self):
        return f"{self.root}/v1"

    def add_routes(self, router):
        router.add_post("/v1/chat/completions", self._handle)
        router.add_post("/v1/completions", self._handle)
        router.add_post("/v1/moderations", self._handle)
        router.add_post("/openai/v1/chat/completions", self._handle)

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
        given = request.headers.get(
            "Authorization", request.headers.get("api-key", "")
        ).removeprefix("Bearer ")
        if self.key and given != self.key:
            return web.json_response(
                {
                    "error": {
                        "message": f"Incorrect API key provided: {given}",
                        "code": "invalid_api_key",
                    }
                },
                status=401,
            )
        if wrong := complaints(body):
            return web.json_response({"error": {"message": f"bad fields: {wrong}"}}, status=400)
        if self.faults and self.random.random() < self.share:
            fault = str(self.random.choice(self.faults))
            self.injected[fault] += 1
            return await self._fail(fault, request, body)
        if self.reply is not None and (reply := self.reply(body, request)) is not None:
            return reply
        self.answered[data] += 1
        return web.json_response(completion(body, answer_of(body)))

    async def _fail(self, fault, request, body):
        said = f"injected; by the way, your header is {request.headers.get('Authorization')}"
        status, _, wait = fault.partition(" ")
        if status.isdigit():
            waits = {"slow": {"Retry-After": "0.05"}, "in ms": {"retry-after-ms": "20"}}.get(
                wait, {}
            )
            return web.json_response(
                {"error": {"message": said}}, status=int(status), headers=waits
            )
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault in ("reset", "cut"):
            return await self._break(request, fault)
        whole = completion(body, answer_of(body))
        replies = {
            "html": lambda: web.Response(
                text="<html>Bad Gateway</html>", status=502, content_type="text/html"
            ),
            "broken json": lambda: web.Response(
                body=json.dumps(whole)[:-20], content_type="application/json"
            ),
            "error in 200": lambda: web.json_response({"error": {"code": 502, "message": said}}),
            "error finish": lambda: web.json_response(
                completion(body, "Sorry, I can", finish="error")
            ),
            "no choices": lambda: web.json_response(whole | {"choices": []}),
        }
        return replies[fault]()

    async def _break(self, request, fault):
        if fault == "cut":
            reply = web.StreamResponse(
                headers={"Content-Length": "5000", "Content-Type": "application/json"}
            )
            await reply.prepare(request)
            await reply.write(b'{"choices": [')
        request.transport.abort() if fault == "reset" else request.transport.close()
        return web.Response()
