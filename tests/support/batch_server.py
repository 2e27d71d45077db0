"""A server with OpenAI's batch API: it checks every request and every line, and kills or fails its client where it is told.

Written to the published reference (files, batches); lists have one entry a page, and answers come in another order.
"""

import json
import os
import signal
from collections import Counter

from aiohttp import web
from faithful_server import Server, answer_of, complaints, completion

LINE = {"custom_id", "method", "url", "body"}
PLACES = ("/v1/chat/completions", "/v1/completions")


def bad(said, status=400):
    return web.json_response(
        {"error": {"message": said, "type": "invalid_request_error", "code": None}}, status=status
    )


def answered(line, body):
    return {
        "id": f"batch_req_{line['custom_id'][:8]}",
        "custom_id": line["custom_id"],
        "response": {"status_code": 200, "request_id": "r", "body": body},
        "error": None,
    }


def refused(line, status, **error):
    return answered(line, None) | {
        "response": {"status_code": status, "request_id": "r", "body": {"error": error}}
    }


def undone(line, code="batch_expired"):
    return answered(line, None) | {
        "response": None,
        "error": {"code": code, "message": "not done in time"},
    }


class BatchServer(Server):
    """A context manager: ``with BatchServer() as server: server.url``.

    Args:
        looks: at a batch before it has ended.
        fates: how each batch ends, by its number: a status, or (status, function from a line and its place to a line of the output); the
            last one counts for all later ones.
        kill_at, fail_at: (name of the request, "before" | "after" it was carried out): when the client dies, or gets a 503.
    """

    def __init__(
        self, *, looks=0, fates=("completed",), kill_at=None, fail_at=None, most_lines=None, **more
    ):
        super().__init__(**more)
        self.looks, self.fates, self.kill_at, self.fail_at, self.most_lines = (
            looks,
            fates,
            kill_at,
            fail_at,
            most_lines,
        )
        self.client, self.files, self.contents, self.batches, self.seen = None, {}, {}, {}, []
        self.done = Counter()
        """How often each request was answered by a batch, by its body."""

    def add_routes(self, router):
        super().add_routes(router)
        for method, path, name, handler in (
            ("GET", "/v1/files", "list files", self.list_files),
            ("POST", "/v1/files", "upload", self.upload),
            ("GET", "/v1/files/{id}/content", "download", self.content),
            ("GET", "/v1/batches", "list batches", self.list_batches),
            ("POST", "/v1/batches", "create", self.create),
            ("GET", "/v1/batches/{id}", "look", self.look),
        ):
            router.add_route(method, path, self._around(name, handler))

    def _around(self, name, handler):
        async def handle(request):
            self.seen.append(name)
            body = await (
                request.post() if request.content_type.startswith("multipart/") else request.read()
            )
            if (lost := self._lost(name, "before")) is not None:
                return lost
            if request.headers.get("Authorization") != f"Bearer {self.key}":
                return bad(
                    f"Incorrect API key provided: {request.headers.get('Authorization')}", 401
                )
            reply = await handler(request, body)
            lost = self._lost(name, "after")
            return reply if lost is None else lost

        return handle

    def _lost(self, name, when):
        if self.kill_at == (name, when) and self.client is not None:
            self.kill_at = None
            os.kill(self.client.pid, signal.SIGKILL)
        if self.fail_at == (name, when):
            self.fail_at = None
            return bad("try later", 503)
        return None

    def _page(self, request, everything):
        start = next(
            (
                place + 1
                for place, one in enumerate(everything)
                if one["id"] == request.query.get("after")
            ),
            0,
        )
        shown = [
            {name: value for name, value in one.items() if name != "looks"}
            for one in everything[start : start + 1]
        ]
        return web.json_response(
            {"object": "list", "data": shown, "has_more": start + 1 < len(everything)}
        )

    async def list_files(self, request, _body):
        if request.query.get("purpose") != "batch":
            return bad(f"purpose {request.query}")
        return self._page(
            request, [file for file in self.files.values() if file["purpose"] == "batch"]
        )

    async def upload(self, _request, parts):
        if set(parts) != {"purpose", "file"} or parts["purpose"] != "batch":
            return bad(f"fields {sorted(parts)}")
        return web.json_response(
            self._file(parts["file"].file.read(), parts["file"].filename, "batch")
        )

    def _file(self, content, name, purpose):
        number = f"file-{len(self.files)}"
        self.files[number] = {
            "id": number, "object": "file", "bytes": len(content), "created_at": 1, "filename": name, "purpose": purpose,
            "status": "processed",
        }  # fmt: skip
        self.contents[number] = content
        return self.files[number]

    async def content(self, request, _body):
        found = self.contents.get(request.match_info["id"])
        return bad("No such File object", 404) if found is None else web.Response(body=found)

    async def list_batches(self, request, _body):
        return self._page(request, list(self.batches.values())[::-1])

    async def create(self, _request, body):
        asked = json.loads(body)
        checks = {
            f"fields {sorted(asked)}": set(asked) == {"input_file_id", "endpoint", "completion_window", "metadata"},
            "input_file_id": asked.get("input_file_id") in self.files,
            "endpoint": asked.get("endpoint") in PLACES,
            "completion_window": asked.get("completion_window") == "24h",
            "metadata": len(asked.get("metadata", {})) <= 16
            and all(len(key) <= 64 and isinstance(value, str) and len(value) <= 512 for key, value in asked["metadata"].items()),
        }  # fmt: skip
        if wrong := [name for name, right in checks.items() if not right]:
            return bad(", ".join(wrong))
        number = f"batch_{len(self.batches)}"
        self.batches[number] = {
            "id": number, "object": "batch", "endpoint": asked["endpoint"], "errors": None, "looks": 0,
            "input_file_id": asked["input_file_id"], "completion_window": "24h", "status": "validating",
            "output_file_id": None, "error_file_id": None, "created_at": 1, "metadata": asked["metadata"],
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        }  # fmt: skip
        return web.json_response(
            {name: value for name, value in self.batches[number].items() if name != "looks"}
        )

    async def look(self, request, _body):
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return bad("No batch found", 404)
        batch["looks"] += 1
        if batch["status"] in ("validating", "in_progress", "finalizing"):
            batch["status"] = "in_progress"
            if batch["looks"] > self.looks:
                self._end(batch)
        return web.json_response({name: value for name, value in batch.items() if name != "looks"})

    def _end(self, batch):
        lines = [json.loads(line) for line in self.contents[batch["input_file_id"]].splitlines()]
        if wrong := list(self._wrong(lines, batch["endpoint"])):
            batch |= {"status": "failed", "errors": {"object": "list", "data": wrong}}
            return
        number = list(self.batches).index(batch["id"])
        fate = self.fates[min(number, len(self.fates) - 1)]
        batch["status"], change = (fate, None) if isinstance(fate, str) else fate
        if batch["status"] == "failed":
            batch["errors"] = change
            return
        out = [
            self._done(line) if change is None else change(place, line, self._done)
            for place, line in enumerate(lines)
        ]
        out.sort(key=lambda one: json.dumps(one)[-60:])  # any order but that of the requests
        errors = [
            one
            for one in out
            if isinstance(one, dict) and (one["response"] or {}).get("status_code") != 200
        ]
        for name, some in (
            ("output_file_id", [one for one in out if one is not None and one not in errors]),
            ("error_file_id", errors),
        ):
            text = "".join(
                (one if isinstance(one, str) else json.dumps(one)) + "\n" for one in some
            )
            batch[name] = (
                self._file(text.encode(), "out.jsonl", "batch_output")["id"] if some else None
            )
        batch["request_counts"] = {
            "total": len(lines),
            "completed": len(lines) - len(errors),
            "failed": len(errors),
        }

    def _wrong(self, lines, place):
        if self.most_lines is not None and len(lines) > self.most_lines:
            yield {
                "code": "token_limit_exceeded",
                "message": "Enqueued token limit reached for m",
                "line": None,
                "param": None,
            }
            return
        if len({line.get("custom_id") for line in lines}) < len(lines):
            yield {
                "code": "duplicate_custom_id",
                "message": "The custom_id is not unique",
                "line": 1,
                "param": None,
            }
        if len({line.get("body", {}).get("model") for line in lines}) > 1:
            yield {
                "code": "mismatched_model",
                "message": "one model a batch",
                "line": 1,
                "param": None,
            }
        for number, line in enumerate(lines, start=1):
            told = [] if set(line) == LINE else [f"fields {sorted(line)}"]
            told += (
                []
                if isinstance(line.get("custom_id"), str) and len(line["custom_id"]) <= 64
                else ["custom_id"]
            )
            told += (
                []
                if (line.get("method"), line.get("url")) == ("POST", place)
                else ["method or url"]
            )
            told += complaints(line.get("body", {}))
            if told:
                yield {
                    "code": "invalid_request",
                    "message": ", ".join(told),
                    "line": number,
                    "param": None,
                }

    def _done(self, line):
        self.done[json.dumps(line["body"], sort_keys=True)] += 1
        body = line["body"]
        said = None if self.reply is None else self.reply(body, None)
        return answered(
            line,
            said
            or completion(
                body, answer_of(body | {"messages": body.get("messages", body.get("prompt"))})
            ),
        )
