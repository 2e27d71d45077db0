"""Files and batches of a server that has OpenAI's batch API, each request made once, or looked up before it is made again."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from aftertune.core.again import again
from aftertune.errors import EngineError, ModelError
from aftertune.models.endpoint.failures import Failure, of_exception, of_status
from aftertune.models.endpoint.providers import Address, Secret
from aftertune.models.endpoint.stream import Loop

if TYPE_CHECKING:
    from aiohttp import ClientSession

WINDOW = "24h"
"""The only one there is."""
MARK = "aftertune"
"""The entry of a batch's metadata that holds its key."""
_TRANSFER_SECONDS = 3600.0
"""For a whole file of 200 MB, up or down."""
_GONE = "gone"
_ENDS = {"completed", "failed", "expired", "cancelled", _GONE}
_OK, _NOT_FOUND, _NO_METHOD = 200, 404, 405


@dataclass(frozen=True, slots=True)
class Status:
    """What a server says of a batch."""

    said: str
    """Its own word: ``validating``, ``in_progress``, ``finalizing``, ``completed``, ``failed``, ``expired``, ``cancelled``."""
    done: int = 0
    """Requests that are answered or have failed."""
    files: tuple[str, ...] = ()
    """Ids of the files with answers and with errors."""
    errors: tuple[tuple[str, str], ...] = ()
    """Code and message of what is wrong with the input file."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.said in _ENDS


class BatchService:
    """Files and batches at one base URL.

    Every method raises a `ModelError` where another try cannot help (key, address, a server without batches), and an
    `EngineError` where it may.

    Args:
        address: whom to ask.
        key: goes into a header; replies that repeat it are freed of it.
        loop: where requests are made.
        seconds: how long to wait for a short reply.
    """

    def __init__(self, address: Address, key: Secret | None, loop: Loop, seconds: float) -> None:
        self._address, self._key, self._loop, self._seconds = address, key, loop, seconds
        self._session: ClientSession | None = None

    def uploaded(self, name: str, size: int) -> str | None:
        """Return the id of an uploaded file; None where there is none of this name and size."""
        return next((one["id"] for one in self._files(name) if one.get("bytes") == size), None)

    def upload(self, name: str, content: bytes) -> str:
        """Upload requests and return the file's id."""
        import aiohttp

        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", content, filename=name, content_type="application/jsonl")
        try:
            return str(self._object("POST", "/files", wanted="id", data=form)["id"])
        except EngineError:
            found = self.uploaded(name, len(content))
            if found is None:
                raise
            return found

    def find(self, key: str, name: str) -> str | None:
        """Return the id of the batch that carries a key, or was made of the file of this name: some servers drop metadata.

        One whose file was refused cost and gave nothing, and counts as none.
        """
        unmarked: dict[str, str] = {}
        for one in self._pages("/batches", {}):
            metadata = one.get("metadata")
            mark = metadata.get(MARK) if isinstance(metadata, dict) else None
            if one.get("status") != "failed" and mark == key:
                return str(one["id"])
            if one.get("status") != "failed" and mark is None:
                unmarked[str(one.get("input_file_id"))] = one["id"]
        return (
            next((unmarked[one["id"]] for one in self._files(name) if one["id"] in unmarked), None)
            if unmarked
            else None
        )

    def create(self, file: str, name: str, place: str, key: str) -> str:
        """Create a batch of a file, marked by its key, and return its id; never sent a second time by itself."""
        asked = {
            "input_file_id": file,
            "endpoint": place,
            "completion_window": WINDOW,
            "metadata": {MARK: key},
        }
        try:
            return str(self._object("POST", "/batches", wanted="id", json=asked)["id"])
        except EngineError:
            found = self.find(key, name)
            if found is None:
                raise
            return found

    def look(self, batch: str) -> Status:
        """Ask once how far a batch is; ``gone`` where the server knows it no more."""
        told = self._object("GET", f"/batches/{batch}", wanted="id", optional=True)
        counts, errors = told.get("request_counts"), told.get("errors")
        listed = errors.get("data") if isinstance(errors, dict) else None
        done = (
            [counts.get(name) for name in ("completed", "failed")]
            if isinstance(counts, dict)
            else []
        )
        return Status(
            said=str(told.get("status")),
            done=sum(count for count in done if isinstance(count, int)),
            files=tuple(
                str(told[name]) for name in ("output_file_id", "error_file_id") if told.get(name)
            ),
            errors=tuple(_error(one) for one in listed or () if isinstance(one, dict)),
        )

    def download(self, file: str) -> bytes | None:
        """Return the content of a file; None if the server has it no more."""
        return again(lambda: self._sent("GET", f"/files/{file}/content", optional=True))

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        if self._session is not None:
            self._loop.start(self._session.close()).result()
        self._session = None

    def _files(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the uploaded files of a name."""
        listed = self._pages("/files", {"purpose": "batch"})
        return (
            one for one in listed if one.get("filename") == name and one.get("status") != "error"
        )

    def _pages(self, path: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield what all pages of a list hold: objects with an id."""
        last: set[str] = {""}
        after: dict[str, str] = {}
        while True:
            page = again(
                partial(
                    self._object,
                    "GET",
                    path,
                    wanted="data",
                    params={**query, "limit": "100", **after},
                )
            )
            listed = page["data"] if isinstance(page["data"], list) else []
            found = [
                one for one in listed if isinstance(one, dict) and isinstance(one.get("id"), str)
            ]
            yield from found
            after = {"after": found[-1]["id"] if found else ""}
            if (
                not page.get("has_more") or after["after"] in last
            ):  # some servers know one page only, and always give it
                return
            last.add(after["after"])

    def _object(self, method: str, path: str, *, wanted: str, **more: Any) -> dict[str, Any]:
        content = self._sent(method, path, **more)
        if content is None:
            return {"status": _GONE}
        try:
            told = json.loads(content)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict) or wanted not in told:
            raise EngineError(
                f"model {self._address.name!r}: {path} gives no answer of a batch API; run again to go on"
            )
        return told

    def _sent(self, method: str, path: str, *, optional: bool = False, **more: Any) -> bytes | None:
        """Make a request once and return the reply's content."""
        running = self._loop.start(self._request(method, path, more))
        try:
            result = running.result()
        except BaseException:
            running.cancel()
            raise
        if isinstance(result, Failure):
            raise EngineError(
                f"model {self._address.name!r}: {path}: {result.detail}; run again to go on"
            )
        status, content = result
        if status == _OK:
            return content
        if status == _NOT_FOUND and optional:
            return None
        raise self._refused(path, status, content)

    async def _request(
        self, method: str, path: str, more: dict[str, Any]
    ) -> tuple[int, bytes] | Failure:
        import aiohttp

        try:
            session = self._session or self._opened()
            async with session.request(
                method, self._address.url + path, allow_redirects=False, **more
            ) as reply:
                content = await reply.read()
        except OSError as error:
            return of_exception(error)
        except aiohttp.ClientError as error:
            return of_exception(ConnectionError(f"{type(error).__name__}: {error}"))
        return reply.status, self._without_key(content)

    def _opened(self) -> "ClientSession":
        import aiohttp

        wait = min(30.0, self._seconds)
        self._session = aiohttp.ClientSession(
            headers=self._address.headers(self._key),
            timeout=aiohttp.ClientTimeout(
                total=_TRANSFER_SECONDS, sock_connect=wait, sock_read=self._seconds
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=not self._address.local,
        )
        return self._session

    def _without_key(self, content: bytes) -> bytes:
        return (
            content if self._key is None else content.replace(self._key.encode(), b"[key removed]")
        )

    def _refused(self, path: str, status: int, content: bytes) -> EngineError | ModelError:
        """Return what a reply with an HTTP error means."""
        if status in (_NOT_FOUND, _NO_METHOD):
            return ModelError(
                f"model {self._address.name!r}: {self._address.url} has no batch API ({status} for {path}); leave it out of "
                "engine.batch"
            )
        try:
            told = json.loads(content)
        except (ValueError, RecursionError):
            told = None
        found = of_status(self._address, status, told, content[:1000].decode("utf-8", "replace"))
        if isinstance(found, Failure) and found.retried:
            return EngineError(
                f"model {self._address.name!r}: {path}: {found.detail}; run again to go on"
            )
        said = found.detail if isinstance(found, Failure) else status
        return ModelError(f"model {self._address.name!r}: the batch is refused at {path} ({said})")


def _error(told: Mapping[str, Any]) -> tuple[str, str]:
    line = told.get("line")
    said = " ".join(str(told.get("message") or "no reason given").split())[:300]
    return str(told.get("code") or ""), said if line is None else f"line {line}: {said}"
