"""The files of a batch: requests as lines of the one that goes up, replies as lines of those that come down."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from aftertune.core.ids import Key
from aftertune.core.records import GenerateJob, Price, Response
from aftertune.errors import AftertuneError
from aftertune.models.endpoint.failures import Failure
from aftertune.models.endpoint.providers import Address
from aftertune.models.endpoint.reply import read_reply
from aftertune.models.endpoint.request import encoded, job_body, key_of, most_prompt_tokens

MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000
"""What OpenAI takes in one file."""
_NOT_DONE = {"batch_expired": "expired", "batch_cancelled": "cancelled"}
"""Codes of lines that were never worked on."""
_HTTP_OK = 200

UNCHARGED = Failure(reason="refused", detail="")
"""A line that says that no call can succeed, in the account."""
Result = Response | Failure | AftertuneError
"""What a line says; an error is one that no further call can mend."""


@dataclass(frozen=True, slots=True)
class Line:
    """A request of a batch."""

    id: str
    """The key of the request, in hexadecimal: what the reply's line is found by."""
    place: str
    """The path of the call, ``/v1/chat/completions``."""
    data: bytes
    most: float
    """The most that it can cost."""


def batched(job: GenerateJob) -> bool:
    """Return whether a batch makes sense for a job; moderation costs nothing, and is asked for at once."""
    return job.question is None or job.question.moderated is None


def lines_of(
    address: Address, price: Price | None, jobs: Iterable[GenerateJob]
) -> tuple[list[Line], dict[str, list[Key]]]:
    """Return a line for each different request, and the keys of the jobs that its answer is for.

    A request is known by its own key, not by its job's: a judge asks under one key until it can read a reply.
    """
    lines: dict[str, Line] = {}
    keys: dict[str, list[Key]] = {}
    for job in jobs:
        fields = job_body(address, job)
        id_ = key_of(address, fields, job.decoding, job.sample).hex()
        keys.setdefault(id_, []).append(job.key)
        if id_ not in lines:
            place = "/v1" + address.place(fields).removeprefix(address.url)
            whole = {"custom_id": id_, "method": "POST", "url": place, "body": fields}
            limit: int = fields[address.provider.limit_field]
            most = 0.0 if price is None else price.of(most_prompt_tokens(fields), limit)
            lines[id_] = Line(id_, place, encoded(whole) + b"\n", most)
    return list(lines.values()), keys


def files(lines: Iterable[Line], most_requests: int, room: float) -> Iterator[list[Line]]:
    """Yield the lines of each file: one path a file, no more than may stand in one, all together within the budget's room.

    What comes after the first line that the room is too small for is left for later.
    """
    by_place: dict[str, list[Line]] = {}
    for line in lines:
        room -= line.most
        if room < 0:
            break
        by_place.setdefault(line.place, []).append(line)
    for listed in by_place.values():
        file: list[Line] = []
        size = 0
        for line in listed:
            if file and (len(file) == most_requests or size + len(line.data) > MOST_BYTES):
                yield file
                file, size = [], 0
            file.append(line)
            size += len(line.data)
        yield file


def read_lines(address: Address, content: bytes) -> tuple[dict[str, Result], int]:
    """Return what the lines of a file say, by their ids, and how many could not be read.

    Of two lines with one id an answer stands before a failure, and the first before the second.
    """
    found: dict[str, Result] = {}
    broken = 0
    for raw in content.splitlines():
        if not raw.strip():
            continue
        read = _read(address, raw)
        if read is None:
            broken += 1
        elif read[0] not in found or not isinstance(found[read[0]], Response):
            found[read[0]] = read[1]
    return found, broken


def _read(address: Address, raw: bytes) -> tuple[str, Result] | None:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not isinstance(line.get("custom_id"), str):
        return None
    try:
        return line["custom_id"], _result(address, line)
    except AftertuneError as error:
        return line["custom_id"], error


def _result(address: Address, line: dict[str, Any]) -> Response | Failure:
    response, error = line.get("response"), line.get("error")
    if isinstance(response, dict) and isinstance(response.get("status_code"), int):
        return read_reply(
            address, response["status_code"], json.dumps(response.get("body")).encode()
        )
    code = error.get("code") if isinstance(error, dict) else None
    if code in _NOT_DONE:
        return Failure(
            reason=_NOT_DONE[code],
            detail=str(error.get("message", "")) if isinstance(error, dict) else "",
        )
    if isinstance(error, dict):
        status = int(str(code)) if str(code).isdecimal() else _HTTP_OK + 300
        return read_reply(address, status, json.dumps({"error": error}).encode())
    return Failure(
        reason="broken_reply", detail="a line with neither response nor error", billed=True
    )


def missing(said: str) -> Failure:
    """Return what is known of a request without a line, by the last word of its batch."""
    if said == "completed":
        return Failure(
            reason="broken_reply", detail="no line in the files of its batch", billed=True
        )
    return Failure(reason=said, detail=f"its batch is {said}")
