"""Asks a served model by OpenAI's batch API: half the price, answers within a day, under way whether anybody waits or not.

Requests go into files, a file makes a batch, and the `Ledger` in the run's folder has each batch before the server does.
So a run that is killed anywhere takes its batches up again. A batch that has ended is the memory of its answers: whoever
asks the same again is given what its files say.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from aftertune.core.files import write_whole
from aftertune.core.keys import Key, content_key
from aftertune.core.records import Attempt, GenerateJob, Price, Response
from aftertune.errors import (
    AftertuneError,
    EngineError,
    InputError,
    KeysChanged,
    ModelError,
    Stopped,
)
from aftertune.models.endpoint.budget import Spending, Usage, in_batch
from aftertune.models.endpoint.chat import (
    USUAL,
    Failure,
    RequestForm,
    encoded,
    job_body,
    key_of,
    most_cost,
    path_of,
    read_reply,
    shortened,
    usage_of,
)
from aftertune.models.endpoint.http import Session, until_heard
from aftertune.models.endpoint.providers import Address
from aftertune.models.endpoint.requests import RequestForms
from aftertune.models.remote import Put

MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000
"""The most that OpenAI takes in one file."""
TRIES = 4
"""Batches of one run that a request may be in before it is given up."""
_HOPELESS = 8
"""Requests that all have to be refused as malformed before the request itself is held to be wrong."""
_FULL, _FULL_TRIES = "token_limit_exceeded", 20
"""The code of an account's queue without room, and how often it may send a batch back before the run stops."""
_TRANSFER_SECONDS = 3600.0
"""Time of a whole file, up or down."""
_API = "/batches"
"""Stands for all paths of a batch API among the URLs that have answered: where one is right, all are."""
_NOTE_SECONDS = 60.0
"""Time between two notes on how far batches are."""
_ENDED = ("completed", "failed", "expired", "cancelled", "gone")
"""States of a batch from which nothing more will come."""
_NOT_DONE = {"batch_expired": "expired", "batch_cancelled": "cancelled"}
"""Codes of lines that were never worked on."""

Result = Response | Failure | AftertuneError
"""The end of a request; an error is one that no further call can mend."""


class Step(StrEnum):
    """The steps of a batch; each is on disk before the server is asked for what it names."""

    CREATING = "creating"
    """The server may have it or not: it is looked for by its file's name."""
    WAITING = "waiting"
    ENDED = "ended"
    """Nothing more will come; its cost is in the account. Its answers can be fetched again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch of requests, as the ledger keeps it."""

    key: str
    """Its identity, from its content."""
    model: str
    """``Address.name``."""
    url: str
    place: str
    """The path that its requests are for."""
    ids: tuple[str, ...]
    """The keys of its requests."""
    most: float
    """The most that it can cost."""
    step: Step = Step.CREATING
    batch: str = ""
    """The server's id; empty until it is known."""

    @property
    def file_name(self) -> str:
        """The name under which its requests are uploaded."""
        return f"aftertune-{self.key[:16]}-batch.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """The models that are asked by batch, and how."""

    models: tuple[str, ...] = ()
    """Patterns of their names, as in a price file."""
    folder: Path | None = None
    """Keeps the batches between runs; None forgets them."""
    note: Callable[[str], object] = str
    """Takes a line about how batches are doing."""
    first_wait: float = 1.0
    """Seconds until the second look at a batch; each wait is half as long again, up to ``longest_wait``."""
    longest_wait: float = 60.0
    most_requests: int = MOST_REQUESTS
    most_bytes: int = MOST_BYTES

    def names(self, name: str) -> bool:
        """Return whether a pattern fits a model's name."""
        return any(fnmatchcase(name, pattern) for pattern in self.models)

    def covers(self, address: Address) -> bool:
        """Return whether a served model is asked by batch.

        Raises:
            ModelError: it shall be, and its provider has no such API.
        """
        named = self.names(address.name)
        if named and not address.provider.batch:
            raise ModelError(
                f"model {address.name!r}: {address.provider.name} has no batch API of OpenAI's kind; name those that have "
                "in engine.batch (batch: [openai:*])"
            )
        return named


class Ledger:
    """The batches of a run's folder, one file each, so that nothing is asked or paid for twice.

    Args:
        folder: where the files are; None keeps the batches in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        paths = sorted(folder.glob("*.json")) if folder is not None and folder.is_dir() else []
        self.batches: dict[str, Batch] = {batch.key: batch for batch in map(_read, paths)}

    def of(self, address: Address, step: Step) -> list[Batch]:
        """Return the batches of a model that are at a step."""
        model = (address.url, address.name, step)
        return [b for b in self.batches.values() if (b.url, b.model, b.step) == model]

    def held(self, settled: Collection[str]) -> float:
        """Return the most that the batches can cost that have not ended, those in ``settled`` left out."""
        return sum(
            batch.most
            for batch in self.batches.values()
            if batch.step is not Step.ENDED and batch.key not in settled
        )

    def put(self, batch: Batch) -> None:
        """Write how far a batch is, whole or not at all.

        Raises:
            AftertuneError: the folder cannot be written.
        """
        if self._folder is not None:
            try:
                self._folder.mkdir(exist_ok=True)
            except OSError as error:
                raise AftertuneError(
                    f"cannot make the folder {self._folder}: {error.strerror}"
                ) from error
            write_whole(
                self._folder / f"{batch.key}.json",
                [json.dumps({"format": 1, **asdict(batch)}) + "\n"],
            )
        self.batches[batch.key] = batch

    def drop(self, batch: Batch) -> None:
        """Forget a batch that was never created."""
        if self._folder is not None:
            (self._folder / f"{batch.key}.json").unlink(missing_ok=True)
        del self.batches[batch.key]


def _read(path: Path) -> Batch:
    try:
        values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Batch(
            **{name: str(values[name]) for name in ("key", "model", "url", "place", "batch")},
            ids=tuple(map(str, values["ids"])),
            most=float(values["most"]),
            step=Step(values["step"]),
        )
    except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); it names a batch that may be paid for, so mend it"
        ) from error


@dataclass(frozen=True, slots=True)
class Line:
    """A request of a batch: its key in hexadecimal, the path of the call, the line itself, the most that it can cost."""

    id: str
    place: str
    data: bytes
    most: float


def batched(job: GenerateJob) -> bool:
    """Return whether a batch makes sense for a job; moderation costs nothing, and is asked for at once."""
    return job.question is None or job.question.moderated is None


def lines_of(
    address: Address, price: Price | None, jobs: Iterable[GenerateJob], form: RequestForm = USUAL
) -> tuple[dict[str, Line], dict[str, list[Key]]]:
    """Return a line for each different request by its id, and the keys of the jobs that its answer is for.

    A request has a key of its own, not its job's: a judge asks under one key until it can read a reply.
    """
    lines: dict[str, Line] = {}
    keys: dict[str, list[Key]] = {}
    for job in jobs:
        fields = job_body(address, job, form)
        id_ = key_of(address, fields, job.decoding, job.sample).hex()
        keys.setdefault(id_, []).append(job.key)
        if id_ not in lines:
            place = "/v1" + path_of(fields)
            line = {"custom_id": id_, "method": "POST", "url": place, "body": fields}
            lines[id_] = Line(id_, place, encoded(line) + b"\n", most_cost(price, fields))
    return lines, keys


def files_of(
    lines: Iterable[Line], most_requests: int, most_bytes: int, room: float
) -> Iterator[list[Line]]:
    """Yield the lines of each file: one path a file, no more than may stand in one, all together within the budget's room.

    The first line that the room is too small for, and all lines behind it, are left for later.
    """
    by_place: dict[str, list[Line]] = {}
    for line in lines:
        room -= line.most
        if room < 0:
            break
        by_place.setdefault(line.place, []).append(line)
    for alike in by_place.values():
        file: list[Line] = []
        size = 0
        for line in alike:
            if file and (len(file) == most_requests or size + len(line.data) > most_bytes):
                yield file
                file, size = [], 0
            file.append(line)
            size += len(line.data)
        yield file


def read_line(address: Address, line: Any) -> tuple[str, Result] | None:
    """Return the id and the result in a decoded line of a batch's output; None for a broken line."""
    if not isinstance(line, dict) or not isinstance(line.get("custom_id"), str):
        return None
    response, error = line.get("response"), line.get("error")
    result: Result = Failure(
        reason="broken_reply", detail="a line with neither response nor error", billed=True
    )
    try:
        if isinstance(response, dict) and isinstance(response.get("status_code"), int):
            result = read_reply(address, response["status_code"], response.get("body"))
        elif isinstance(error, dict) and error.get("code") in _NOT_DONE:
            result = Failure(reason=_NOT_DONE[error["code"]], detail=str(error.get("message", "")))
        elif isinstance(error, dict):
            result = read_reply(address, 500, {"error": error})
    except AftertuneError as fatal:
        result = fatal
    return line["custom_id"], result


@dataclass(frozen=True, slots=True)
class Status:
    """A server's word on a batch."""

    state: str
    """``validating``, ``in_progress``, ``finalizing``, ``completed``, ``failed``, ``expired``, ``cancelled``; ``gone`` where
    the server does not know the batch any more."""
    done: int
    """Requests that are answered or have failed."""
    files: tuple[str, ...]
    """Ids of the files with answers and with errors."""
    faults: tuple[Mapping[str, Any], ...]
    """The faults in the input file, with code, line and message."""


class BatchService:
    """Files and batches at one base URL.

    Every method raises a `ModelError` where another try cannot help (key, address, a server without batches), and an
    `EngineError` where it may. What only looks is tried again for `Timeouts.retry`; what starts something is sent once.
    """

    def __init__(self, session: Session) -> None:
        self._address, self._session = session.address, session

    async def create(self, batch: Batch, content: bytes) -> str:
        """Upload the requests of a batch unless they are there, create the batch, and return its id."""
        import aiohttp

        async def uploaded() -> str | None:
            files = [f async for f in self._files(batch) if f.get("bytes") == len(content)]
            return str(files[0]["id"]) if files else None

        file = await uploaded()
        if file is None:
            form = aiohttp.FormData({"purpose": "batch"})
            form.add_field("file", content, filename=batch.file_name)
            file = await self._start("/files", uploaded, data=form, seconds=_TRANSFER_SECONDS)
        body = {
            "input_file_id": file,
            "endpoint": batch.place,
            "completion_window": "24h",
            "metadata": {"aftertune": batch.key},
        }
        return await self._start("/batches", lambda: self.find(batch), json=body)

    async def find(self, batch: Batch) -> str | None:
        """Return the id that the server gave a batch, which it is recognised by its file in; None where it was not created.

        A batch whose file was refused cost and gave nothing, and counts as none.
        """
        files = {file["id"] async for file in self._files(batch)}
        async for entry in self._pages("/batches"):
            if str(entry.get("input_file_id")) in files and entry.get("status") != "failed":
                return str(entry["id"])
        return None

    async def status(self, batch: str) -> Status:
        """Return how far a batch is."""
        value = await self._get(f"/batches/{batch}", optional=True) or {"status": "gone"}
        counts, errors = value.get("request_counts"), value.get("errors")
        counts = counts if isinstance(counts, dict) else {}
        faults = errors.get("data") if isinstance(errors, dict) else None
        return Status(
            state=str(value.get("status")),
            done=sum(n for n in (counts.get("completed"), counts.get("failed")) if type(n) is int),
            files=tuple(
                str(value[name]) for name in ("output_file_id", "error_file_id") if value.get(name)
            ),
            faults=tuple(fault for fault in faults or () if isinstance(fault, dict)),
        )

    async def lines(self, file: str) -> list[Any] | None:
        """Return the decoded lines of a file, None for a broken line; None if the server has the file no more."""
        content: bytes | None = await until_heard(self._session.timeouts)(
            self._sent,
            "GET",
            f"/files/{file}/content",
            optional=True,
            seconds=_TRANSFER_SECONDS,
            most_bytes=2 * MOST_BYTES,
        )
        if content is None:
            return None
        return [self._session.decoded(line) for line in content.splitlines() if line.strip()]

    async def _files(self, batch: Batch) -> AsyncIterator[dict[str, Any]]:
        async for file in self._pages("/files", purpose="batch"):
            if file.get("filename") == batch.file_name and file.get("status") != "error":
                yield file

    async def _pages(self, path: str, **query: str) -> AsyncIterator[dict[str, Any]]:
        """Yield what all pages of a list hold: objects with an id."""
        params, before = {**query, "limit": "100"}, {""}
        while True:
            page = await self._get(path, wanted="data", params=params) or {}
            listed = page["data"] if isinstance(page["data"], list) else []
            entries = [e for e in listed if isinstance(e, dict) and isinstance(e.get("id"), str)]
            for entry in entries:
                yield entry
            params["after"] = entries[-1]["id"] if entries else ""
            # some servers know one page only, always give it, and always say that there are more
            if not page.get("has_more") or params["after"] in before:
                return
            before.add(params["after"])

    async def _get(self, path: str, **more: Any) -> dict[str, Any] | None:
        value: dict[str, Any] | None = await until_heard(self._session.timeouts)(
            self._object, "GET", path, **more
        )
        return value

    async def _start(
        self, path: str, look_up: Callable[[], Awaitable[str | None]], **body: Any
    ) -> str:
        """Send what starts something and return its id; where the reply is lost, look up whether it was carried out."""
        try:
            value = await self._object("POST", path, **body)
        except EngineError:
            id_ = await look_up()
            if id_ is None:
                raise
            return id_
        return str((value or {})["id"])

    async def _object(
        self, method: str, path: str, *, wanted: str = "id", **more: Any
    ) -> dict[str, Any] | None:
        content = await self._sent(method, path, **more)
        value = None if content is None else self._session.decoded(content)
        if content is not None and (not isinstance(value, dict) or wanted not in value):
            raise EngineError(
                f"model {self._address.name!r}: {path} gives no answer of a batch API; run again to go on"
            )
        self._session.answering.add(self._address.url + _API)
        return value

    async def _sent(
        self, method: str, path: str, *, optional: bool = False, **more: Any
    ) -> bytes | None:
        """Make a request once and return the reply's content; None for an ``optional`` one that is not there."""
        name, url = self._address.name, self._address.url
        reply = await self._session.request(method, url + path, **more)
        if isinstance(reply, Failure):
            raise EngineError(f"model {name!r}: {path}: {reply.detail}; run again to go on")
        if reply.redirects:
            redirect = self._session.redirected(url + _API, reply)
            raise EngineError(f"model {name!r}: {path}: {redirect.detail}; run again to go on")
        if reply.status == 200:
            return reply.data
        if reply.status == 404 and optional:
            return None
        if reply.status in (404, 405):
            raise ModelError(
                f"model {name!r}: {url} has no batch API ({reply.status} for {path}); leave it out of engine.batch"
            )
        value, text = self._session.decoded(reply.data), self._session.text(reply.data)
        failure = read_reply(self._address, reply.status, value, text)
        if isinstance(failure, Failure) and failure.retried:
            raise EngineError(f"model {name!r}: {path}: {failure.detail}; run again to go on")
        why = failure.detail if isinstance(failure, Failure) else reply.status
        raise ModelError(f"model {name!r}: the batch is refused at {path} ({why})")


class Batches:
    """The batches of one served model; used from one event loop.

    Args:
        session: the connections to it.
        ledger: the batches of the run's folder, those of other models among them.
        spending: where requests are accounted for.
        batching: how often to look, and where to say what happens.
        deadline: when the run's time is up (`time.monotonic`).
        forms: what servers refuse.
    """

    def __init__(
        self,
        session: Session,
        ledger: Ledger,
        spending: Spending,
        batching: Batching,
        deadline: float,
        forms: RequestForms,
    ) -> None:
        self._forms, self._form = forms, USUAL
        self._left: dict[str, Line] = {}
        self._address, self._ledger, self._spending = session.address, ledger, spending
        self._service = BatchService(session)
        self._batching, self._deadline = batching, deadline
        price = spending.price(session.address)
        self._price = None if price is None else in_batch(price)
        self._results: dict[str, Result] = {}
        """Results of lines that no job has been given yet, by request."""
        self._unanswered: dict[str, set[str]] = {}
        """Requests without an answer of each ended batch that was read in this run."""
        self._tries: Counter[str] = Counter()
        self._most_requests, self._sent_back, self._barren = batching.most_requests, 0, 0
        self._noted = -_NOTE_SECONDS

    async def answer_all(
        self, jobs: Iterable[GenerateJob], put: Put, form: RequestForm = USUAL
    ) -> None:
        """Put out what each job is answered, or why it is not, as its batch ends.

        All batches that the budget and the account's queue have room for are sent before the first is waited for.

        Raises:
            ModelError, EngineError: no further batch can succeed.
            Stopped: the budget or the run's time is used up; batches under way go on.
            KeysChanged: the server refuses a field: the requests that it refused are made without it.
        """
        left, keys = lines_of(self._address, self._price, jobs, form)
        self._left, self._form = left, form
        while left:
            self._give(left, keys, put)
            if not left:
                return
            await self._send_missing(left)
            if not left.keys().isdisjoint(self._results):
                continue
            open_ = self._ledger.of(self._address, Step.WAITING)
            if not open_:
                raise self._spending.used_up(self._address.name, next(iter(left.values())).most)
            await self._wait([b for b in open_ if not left.keys().isdisjoint(b.ids)] or open_)

    def _give(self, left: dict[str, Line], keys: Mapping[str, list[Key]], put: Put) -> None:
        """Put out the results of requests and take these off the list; what failed for the time being stays on it."""
        fatal: AftertuneError | None = None
        for id_ in left.keys() & self._results.keys():
            result = self._results.pop(id_)
            if isinstance(result, AftertuneError):
                fatal = fatal or result
                continue
            if isinstance(result, Failure) and result.retried and self._tries[id_] < TRIES:
                continue
            del left[id_]
            answer = (
                Attempt(reason=result.reason, detail=result.detail)
                if isinstance(result, Failure)
                else result
            )
            for key in keys[id_]:
                put((key, answer))
        if fatal is not None:
            raise fatal

    async def _send_missing(self, left: Mapping[str, Line]) -> None:
        """Send the requests that no batch has an answer to or is asking already, as far as there is room for them."""
        # what became of batches that were about to be created when the client stopped
        for batch in self._ledger.of(self._address, Step.CREATING):
            id_ = await self._service.find(batch)
            if id_ is not None:
                self._ledger.put(replace(batch, step=Step.WAITING, batch=id_))
            else:
                self._ledger.drop(batch)
        await self._read_ended(left.keys())
        open_ = self._ledger.of(self._address, Step.WAITING)
        covered = self._results.keys() | {id_ for batch in open_ for id_ in batch.ids}
        missing = [line for id_, line in left.items() if id_ not in covered]
        if not missing or (self._sent_back and open_):  # the queue was full: one batch at a time
            return
        most, room = self._batching.most_bytes, self._spending.room
        files = list(files_of(missing, self._most_requests, most, room))
        for lines in files[:1] if self._sent_back else files:
            await self._send(lines)

    async def _read_ended(self, ids: Iterable[str]) -> None:
        """Fetch the answers of batches that ended before; the failures of these are asked again."""
        for batch in self._ledger.of(self._address, Step.ENDED):
            wanted = set(ids).intersection(batch.ids) - self._results.keys()
            if not wanted - self._unanswered.get(batch.key, set()):
                continue
            results = await self._lines(batch, await self._service.status(batch.batch)) or {}
            answers = {id_: r for id_, r in results.items() if isinstance(r, Response)}
            self._unanswered[batch.key] = set(batch.ids) - answers.keys()
            self._results |= answers

    async def _send(self, lines: list[Line]) -> None:
        """Upload a file and create its batch, unless they are there: a kill, a lost reply or a lost folder costs nothing.

        Asking again for requests of a batch that has ended is another batch: the number of those is part of its key.
        """
        ids, place = tuple(line.id for line in lines), lines[0].place
        ended = self._ledger.of(self._address, Step.ENDED)
        before = count(sum(not set(ids).isdisjoint(batch.ids) for batch in ended))
        content: tuple[object, ...] = ("batch", 1, self._address.url, place, list(ids))
        keys = (content_key(*content, number).hex() for number in before)
        batch = Batch(
            key=next(key for key in keys if key not in self._ledger.batches),
            model=self._address.name,
            url=self._address.url,
            place=place,
            ids=ids,
            most=sum(line.most for line in lines),
        )
        id_ = await self._service.find(batch)
        self._ledger.put(batch)
        if id_ is None:
            id_ = await self._service.create(batch, b"".join(line.data for line in lines))
        self._ledger.put(replace(batch, step=Step.WAITING, batch=id_))
        self._batching.note(
            f"{self._address.name}: batch {id_} with {len(batch.ids):,} requests; it goes on without us"
        )

    async def _wait(self, waiting: list[Batch]) -> None:
        """Look at batches until one of them has ended, and read that one."""
        wait = self._batching.first_wait
        while True:
            states = [(batch, await self._service.status(batch.batch)) for batch in waiting]
            ended = [(batch, status) for batch, status in states if status.state in _ENDED]
            for batch, status in ended:
                await self._end(batch, status)
            if ended:
                return
            now = time.monotonic()
            if now > self._deadline:
                raise Stopped(
                    f"{self._address.name}: engine.run_seconds are used up; batches go on, run again to go on"
                )
            if now > self._noted + _NOTE_SECONDS:
                self._noted = now
                done = sum(status.done for _, status in states)
                total = sum(len(batch.ids) for batch, _ in states)
                words = ", ".join(sorted({status.state for _, status in states}))
                batches = f"{len(states)} batch{'es' * (len(states) > 1)} {words}"
                self._batching.note(
                    f"{self._address.name}: {batches}, {done:,} of {total:,} done (Ctrl-C: they go on, and a rerun picks them up)"
                )
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, self._batching.longest_wait)

    async def _end(self, batch: Batch, status: Status) -> None:
        """Read a batch that has ended: account for it, keep its answers at hand, and see whether going on makes sense."""
        lines = await self._lines(batch, status)
        if lines is None:
            raise EngineError(
                f"model {self._address.name!r}: the answers of batch {batch.batch} cannot be fetched (no such file); run again "
                "to go on, or leave the model out of engine.batch to have them asked and paid for anew, at once"
            )
        missing = (
            Failure(reason="broken_reply", detail="no line in the files of its batch", billed=True)
            if status.state == "completed"
            else Failure(reason=status.state, detail=f"its batch is {status.state}")
        )
        results: dict[str, Result] = {id_: lines.get(id_, missing) for id_ in batch.ids}
        usages = [
            Usage() if isinstance(r, AftertuneError) else usage_of(r) for r in results.values()
        ]
        most = batch.most / len(batch.ids)
        self._spending.settle_batch(batch.key, self._address.name, self._price, most, usages)
        self._ledger.put(replace(batch, step=Step.ENDED))
        unanswered = {id_ for id_, r in results.items() if not isinstance(r, Response)}
        self._unanswered[batch.key] = unanswered
        self._results |= results
        self._change_form(results)
        if status.state == "failed" and status.faults:
            self._refused(batch, status)
        else:
            self._learn(results, unanswered)

    def _change_form(self, results: Mapping[str, Result]) -> None:
        """Keep the form of requests without what the server refuses in the first of them that it refused.

        Raises:
            KeysChanged: there is such a form; the answers of the batch come again under their own keys.
        """
        for id_, result in results.items():
            if isinstance(result, Failure) and result.refused and id_ in self._left:
                body = json.loads(self._left[id_].data)["body"]
                form = self._form.changed(result.refused, body)
                if form is not None:
                    self._forms.keep(self._address, form)
                    raise KeysChanged(f"{self._address.name}: {form.in_words}; run again to go on")

    async def _lines(self, batch: Batch, status: Status) -> dict[str, Result] | None:
        """Return the results that the files of an ended batch hold, by request; None where a file is gone.

        Broken lines, and lines of no request of this batch, are passed over; an answer stands before a failure.
        """
        if status.state == "completed" and status.done and not status.files:
            return None
        results: dict[str, Result] = {}
        own = set(batch.ids)
        for file in status.files:
            lines = await self._service.lines(file)
            if lines is None:
                return None
            for id_, result in filter(None, map(partial(read_line, self._address), lines)):
                if id_ in own and not isinstance(results.get(id_), Response):
                    results[id_] = result
        return results

    def _learn(self, results: Mapping[str, Result], unanswered: set[str]) -> None:
        """Count tries, and end the run where batch after batch gives nothing.

        Raises:
            ModelError: the server takes none of the requests.
            EngineError: batch after batch ends without an answer.
        """
        self._tries.update(unanswered)
        name = self._address.name
        failures = [result for result in results.values() if isinstance(result, Failure)]
        malformed = [failure for failure in failures if failure.reason == "bad_request"]
        if len(malformed) == len(results) >= _HOPELESS:
            raise ModelError(
                f"model {name!r}: the server accepts none of our calls ({malformed[0].detail})"
            )
        self._barren = self._barren + 1 if len(unanswered) == len(results) else 0
        failure = next((failure for failure in failures if failure.retried), None)
        if self._barren >= TRIES and failure is not None:
            raise EngineError(
                f"model {name!r}: {self._barren} batches in a row without an answer ({failure.reason}: {failure.detail}); "
                "run again to go on"
            )

    def _refused(self, batch: Batch, status: Status) -> None:
        """Halve the size of batches where the account's queue is full; end the run for any other fault in the file."""
        name, line = self._address.name, status.faults[0].get("line")
        message = shortened(str(status.faults[0].get("message") or "no reason given"))
        message = message if line is None else f"line {line}: {message}"
        if all(fault.get("code") != _FULL for fault in status.faults):
            raise ModelError(f"model {name!r}: batch {batch.batch} was refused ({message})")
        self._sent_back += 1
        if self._sent_back > _FULL_TRIES:
            raise Stopped(
                f"{name}: the account's queue of batches is full ({message}); run again later to go on"
            )
        self._most_requests = max(1, len(batch.ids) // 2)
        self._batching.note(
            f"{name}: the account's queue is full; going on with batches of {self._most_requests:,}"
        )
