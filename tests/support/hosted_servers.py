"""The fine-tuning services for tests: they check every request field by field, and kill their client where they are told.

Written to the published references (OpenAI: files, fine_tuning.jobs; Vertex: tuningJobs; Cloud Storage: objects, JSON API).
"""

import json
import os
import signal

from aiohttp import web
from local_server import LocalServer

KEY = "sk-test-91b6e3f0aa55"
TOKEN = "ya29.test"  # noqa: S105 - the test service's own


class Service(LocalServer):
    """A context manager: ``with OpenAI() as service: service.url``."""

    def __init__(self, *, kill_at=None, fail_at=None, end="succeeded", looks=0):
        self.kill_at, self.fail_at, self.end, self.looks = kill_at, fail_at, end, looks
        """(name of the request, "before" | "after" it was carried out): when the client dies, or gets a 503; looks: at a job before it has ended."""
        self.client, self.files, self.jobs, self.seen = None, {}, {}, []
        self.contents = {}

    @property
    def url(self):
        return self.root

    def add_routes(self, router):
        for method, path, name, handler in self.routes():
            router.add_route(method, path, self._around(name, handler))

    def _around(self, name, handler):
        async def handle(request):
            self.seen.append(name)
            body = await (
                request.post() if request.content_type.startswith("multipart/") else request.read()
            )
            self._die(name, "before")
            if self.fail_at == (name, "before"):
                self.fail_at = None
                return web.json_response(
                    {"error": {"message": "try later", "code": 503}}, status=503
                )
            problem = self.complaint(request)
            if problem:
                return web.json_response({"error": {"message": problem, "code": 401}}, status=401)
            reply = await handler(request, body)
            self._die(name, "after")
            if self.fail_at == (name, "after"):
                self.fail_at = None
                return web.json_response({"error": {"message": "lost", "code": 503}}, status=503)
            return reply

        return handle

    def _die(self, name, when):
        if self.kill_at == (name, when) and self.client is not None:
            self.kill_at = None
            os.kill(self.client.pid, signal.SIGKILL)


def bad(said):
    return web.json_response(
        {"error": {"message": said, "type": "invalid_request_error", "code": 400}}, status=400
    )


class OpenAI(Service):
    def complaint(self, request):
        return (
            None
            if request.headers.get("Authorization") == f"Bearer {KEY}"
            else "Incorrect API key provided"
        )

    def routes(self):
        return (
            ("GET", "/v1/files", "list files", self.list_files),
            ("POST", "/v1/files", "upload", self.upload),
            ("GET", "/v1/fine_tuning/jobs", "list jobs", self.list_jobs),
            ("POST", "/v1/fine_tuning/jobs", "create", self.create),
            ("GET", "/v1/fine_tuning/jobs/{id}", "look", self.look),
            ("GET", "/v1/fine_tuning/jobs/{id}/events", "events", self.events),
            ("GET", "/v1/fine_tuning/jobs/{id}/checkpoints", "checkpoints", self.checkpoints),
            ("POST", "/v1/fine_tuning/jobs/{id}/cancel", "cancel", self.cancel),
        )

    async def list_files(self, request, _body):
        if request.query.get("purpose") != "fine-tune":
            return bad(f"purpose {request.query}")
        return web.json_response(
            {"object": "list", "data": list(self.files.values()), "has_more": False}
        )

    async def upload(self, _request, parts):
        if set(parts) != {"purpose", "file"} or parts["purpose"] != "fine-tune":
            return bad(f"fields {sorted(parts)}")
        content = parts["file"].file.read()
        for line in content.decode().splitlines():
            row = json.loads(line)
            if set(row) != {"messages"} or row["messages"][-1]["role"] != "assistant":
                return bad(f"row {line[:80]}")
            for turn in row["messages"]:
                weighed = turn["role"] == "assistant" and turn.get("weight") in (0, 1)
                if turn.keys() - ({"weight"} if weighed else set()) != {"role", "content"}:
                    return bad(f"turn {line[:80]}")
        file = {
            "id": f"file-{len(self.files)}", "object": "file", "bytes": len(content), "created_at": 1,
            "filename": parts["file"].filename, "purpose": "fine-tune", "status": "processed",
        }  # fmt: skip
        self.files[file["id"]] = file
        self.contents[file["id"]] = content
        return web.json_response(file)

    async def list_jobs(self, request, _body):
        first = list(self.jobs.values())
        start = next(
            (
                place + 1
                for place, job in enumerate(first)
                if job["id"] == request.query.get("after")
            ),
            0,
        )
        page = first[
            start : start + 1
        ]  # one a page, so that whoever does not turn pages finds too little
        return web.json_response(
            {"object": "list", "data": page, "has_more": start + 1 < len(first)}
        )

    async def create(self, _request, body):
        asked = json.loads(body)
        allowed = {
            "model",
            "training_file",
            "validation_file",
            "method",
            "metadata",
            "seed",
            "suffix",
        }
        chosen = asked.get("method", {}).get("supervised", {}).get("hyperparameters", {})
        checks = {
            f"fields {sorted(asked)}": set(asked) <= allowed,
            "model": isinstance(asked.get("model"), str),
            "training_file": asked.get("training_file") in self.files,
            "validation_file": asked.get("validation_file", "file-0") in self.files,
            "method": asked.get("method", {}).get("type") == "supervised"
            and set(asked["method"]) == {"type", "supervised"},
            "hyperparameters": set(chosen)
            <= {"n_epochs", "batch_size", "learning_rate_multiplier"},
            "n_epochs": type(chosen.get("n_epochs")) is int and chosen["n_epochs"] > 0,
            "seed": type(asked.get("seed", 0)) is int,
            "suffix": 1 <= len(asked.get("suffix", "x")) <= 64,
            "metadata": all(
                isinstance(value, str) and len(value) <= 512
                for value in asked.get("metadata", {}).values()
            ),
        }
        wrong = [name for name, right in checks.items() if not right]
        if wrong:
            return bad(", ".join(wrong))
        number = len(self.jobs)
        job = {
            "id": f"ftjob-{number}", "object": "fine_tuning.job", "created_at": 1, "error": None, "fine_tuned_model": None,
            "finished_at": None, "hyperparameters": chosen, "organization_id": "org", "result_files": [],
            "status": "validating_files", "trained_tokens": None, "validation_file": asked.get("validation_file"),
            "seed": asked.get("seed", 7), "metadata": asked.get("metadata"), "model": asked["model"],
            "training_file": asked["training_file"],
        }  # fmt: skip
        self.jobs[job["id"]] = job
        job["looks"], job["asked"] = 0, asked
        return web.json_response(job)

    async def look(self, request, _body):
        job = self.jobs[request.match_info["id"]]
        job["looks"] += 1
        job["status"] = job["status"] if job["status"] == "cancelled" else "running"
        if job["looks"] > self.looks and job["status"] == "running":
            job["status"] = self.end
            if self.end == "succeeded":
                job |= {"fine_tuned_model": f"ft:{job['model']}:org::abc", "trained_tokens": 4321}
            else:
                job["error"] = {
                    "code": "exceeded_quota",
                    "message": "the rows were refused",
                    "param": None,
                }
        return web.json_response(job)

    async def events(self, request, _body):
        event = {
            "id": "e",
            "created_at": 1,
            "level": "info",
            "message": "step 3 of 9",
            "object": "fine_tuning.job.event",
        }
        return web.json_response({"object": "list", "data": [event], "has_more": False})

    async def checkpoints(self, request, _body):
        one = {
            "id": "c", "created_at": 1, "fine_tuned_model_checkpoint": "ft:x:org::abc:ckpt-step-3", "fine_tuning_job_id":
            request.match_info["id"], "metrics": {}, "object": "fine_tuning.job.checkpoint", "step_number": 3,
        }  # fmt: skip
        return web.json_response({"object": "list", "data": [one], "has_more": False})

    async def cancel(self, request, _body):
        job = self.jobs[request.match_info["id"]]
        job["status"] = "cancelled"
        return web.json_response(job)


class Vertex(Service):
    """Tokens, a bucket and tuning jobs, all at one address."""

    def complaint(self, request):
        if request.path == "/token" or request.headers.get("Authorization") == f"Bearer {TOKEN}":
            return None
        return "no token"

    def routes(self):
        jobs = "/v1beta1/projects/p/locations/l/tuningJobs"
        return (
            ("POST", "/token", "token", self.token),
            ("GET", "/storage/v1/b/{bucket}/o/{name}", "find", self.find),
            ("POST", "/upload/storage/v1/b/{bucket}/o", "upload", self.upload),
            ("POST", jobs, "create", self.create),
            ("GET", jobs, "list jobs", self.list_jobs),
            ("GET", jobs + "/{id}", "look", self.look),
            ("POST", jobs + "/{id}:cancel", "cancel", self.cancel),
        )

    async def token(self, _request, _body):
        return web.json_response(
            {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
        )

    async def find(self, request, _body):
        content = self.files.get((request.match_info["bucket"], request.match_info["name"]))
        if content is None:
            return web.json_response({"error": {"code": 404}}, status=404)
        return web.json_response({"name": request.match_info["name"], "size": str(len(content))})

    async def upload(self, request, body):
        if (
            request.query.get("uploadType") != "media"
            or request.query.get("ifGenerationMatch") != "0"
        ):
            return bad(f"query {dict(request.query)}")
        for line in body.decode().splitlines():
            row = json.loads(line)
            if (
                not set(row) <= {"systemInstruction", "contents"}
                or row["contents"][-1]["role"] != "model"
            ):
                return bad(f"row {line[:80]}")
        place = (request.match_info["bucket"], request.query["name"])
        if place in self.files:
            return web.json_response({"error": {"code": 412}}, status=412)
        self.files[place] = body
        return web.json_response({"name": place[1]})

    async def create(self, _request, body):
        asked = json.loads(body)
        spec = asked.get("supervisedTuningSpec", {})
        bucket, _, name = spec.get("trainingDatasetUri", "").removeprefix("gs://").partition("/")
        checks = {
            f"fields {sorted(asked)}": set(asked)
            == {"baseModel", "supervisedTuningSpec", "tunedModelDisplayName", "labels"},
            f"training file {spec}": (bucket, name) in self.files,
            "epochs": spec.get("hyperParameters", {}).get("epochCount") == 3,
            "label": len(asked.get("labels", {}).get("aftertune", "")) == 32,
        }
        wrong = [name for name, right in checks.items() if not right]
        if wrong:
            return bad(", ".join(wrong))
        job = {
            "name": f"projects/p/locations/l/tuningJobs/{len(self.jobs)}",
            "state": "JOB_STATE_PENDING",
            **asked,
        }
        self.jobs[str(len(self.jobs))] = job
        return web.json_response(job)

    async def list_jobs(self, _request, _body):
        return web.json_response({"tuningJobs": list(self.jobs.values())})

    async def look(self, request, _body):
        job = self.jobs[request.match_info["id"]]
        job["state"] = f"JOB_STATE_{self.end.upper()}"
        if self.end == "succeeded":
            endpoint = "projects/p/locations/l/endpoints/77"
            job["tunedModel"] = {"model": "projects/p/locations/l/models/5", "endpoint": endpoint}
        return web.json_response(job)

    async def cancel(self, request, _body):
        self.jobs[request.match_info["id"]]["state"] = "JOB_STATE_CANCELLED"
        return web.json_response({})
