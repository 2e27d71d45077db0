"""Asks one served model by batches: cheaper, later, and under way whether anybody waits or not.

What is asked goes into files, a file makes a batch, and the ledger knows of each before the server does. A batch that
has ended is the memory of its answers: whoever asks the same again is given what its file says.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count

from aftertune.core.again import again
from aftertune.core.ids import Key
from aftertune.core.protocols import Answer
from aftertune.core.records import Attempt, GenerateJob, Response
from aftertune.errors import AftertuneError, EngineError, Stopped
from aftertune.models.endpoint.batch_ledger import Batch, Ledger, Step, batch_key
from aftertune.models.endpoint.batch_limits import Limits
from aftertune.models.endpoint.batch_lines import (
    UNCHARGED,
    Line,
    Result,
    files,
    lines_of,
    missing,
    read_lines,
)
from aftertune.models.endpoint.batch_service import BatchService, Status
from aftertune.models.endpoint.failures import Failure
from aftertune.models.endpoint.prices import in_batch
from aftertune.models.endpoint.providers import Address
from aftertune.models.endpoint.spending import Spending

FIRST_WAIT, LONGEST_WAIT, GROWTH = 1.0, 60.0, 1.5
"""Seconds between two looks at the batches."""
_SAY_SECONDS = 60.0
"""Between two lines about them."""
_SILENT_SECONDS = 3600.0
"""For which a server may say nothing of its batches before the run ends."""


class Batches:
    """The batches of one served model; used from one thread.

    Args:
        address: whom to ask.
        service: its files and batches.
        ledger: the batches of the run's folder, those of other models among them.
        spending: where requests are accounted for.
        note: where to say what happens.
        deadline: when the run's time is up (`time.monotonic`); None for never.
    """

    def __init__(
        self,
        address: Address,
        service: BatchService,
        ledger: Ledger,
        spending: Spending,
        note: Callable[[str], object],
        deadline: float | None,
    ) -> None:
        self._address, self._service, self._ledger, self._spending = (
            address,
            service,
            ledger,
            spending,
        )
        self._note, self._deadline = note, deadline
        price = spending.price(address)
        self._price = None if price is None else in_batch(price)
        self._found: dict[str, Result] = {}
        """What lines said that nobody has asked for yet, by request."""
        self._unanswered: dict[str, set[str]] = {}
        """Requests without an answer of each ended batch that was read in this run."""
        self._limits = Limits(address.name, note)
        self._said = -_SAY_SECONDS

    def submit(self, jobs: Iterable[GenerateJob]) -> None:
        """Send what no batch has an answer to or is asking already, as far as the budget has room for it.

        Raises:
            ModelError: the server refuses, or has no batches.
            EngineError: it does not answer.
        """
        self._submit(lines_of(self._address, self._price, jobs)[0])

    def generate(self, jobs: Iterable[GenerateJob]) -> Iterator[tuple[Key, Answer]]:
        """Yield what each job is answered, or why it is not, as its batch ends.

        Raises:
            ModelError, EngineError: no further batch can succeed.
            Stopped: the budget or the run's time is used up; batches under way go on.
        """
        lines, keys = lines_of(self._address, self._price, jobs)
        left = {line.id: line for line in lines}
        while left:
            yield from ((key, answer) for id_, answer in self._given(left) for key in keys[id_])
            if not left:
                return
            self._submit(left.values())
            if not left.keys().isdisjoint(self._found):
                continue
            open_ = self._open()
            if not open_:
                raise self._spending.used_up(self._address.name, next(iter(left.values())).most)
            self._wait([batch for batch in open_ if not left.keys().isdisjoint(batch.ids)] or open_)

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

    def _submit(self, lines: Iterable[Line]) -> None:
        listed = list(lines)
        self._recover()
        self._read_ended({line.id for line in listed})
        open_ = self._open()
        asked = {id_ for batch in open_ for id_ in batch.ids}
        left = [line for line in listed if line.id not in asked and line.id not in self._found]
        if not left or (self._limits.one_at_a_time and open_):
            return
        parts = list(files(left, self._limits.most_requests, self._spending.room))
        for part in parts[:1] if self._limits.one_at_a_time else parts:
            self._send(part)

    def _open(self) -> list[Batch]:
        return self._ledger.of(self._address.url, self._address.name, Step.WAITING)

    def _recover(self) -> None:
        """Find out what became of batches that were about to be created when the client stopped."""
        lost = self._ledger.of(self._address.url, self._address.name, Step.CREATING)
        for batch in lost:
            if (found := self._service.find(batch.key, batch.file_name)) is not None:
                self._ledger.put(replace(batch, step=Step.WAITING, batch=found))
            else:
                self._ledger.drop(batch)
                self._spending.drop(batch.key)

    def _send(self, part: list[Line]) -> None:
        """Upload a file and create its batch, unless they are there: a kill, a lost reply or a lost folder costs nothing."""
        batch, created = self._next_of(part)
        self._spending.hold(batch.key, batch.most)
        self._ledger.put(batch)
        if created is None:
            content = b"".join(line.data for line in part)
            file = self._service.uploaded(batch.file_name, len(content))
            file = file or self._service.upload(batch.file_name, content)
            created = self._service.create(file, batch.file_name, batch.place, batch.key)
        self._ledger.put(replace(batch, step=Step.WAITING, batch=created))
        self._note(
            f"{self._address.name}: batch {created} with {len(batch.ids):,} requests; it goes on without us"
        )

    def _next_of(self, part: list[Line]) -> tuple[Batch, str | None]:
        """Return the first batch of a file that has not ended, and its id where the server knows it.

        One that ended without the ledger's knowledge, and whose answers are gone, has ended too: its entry was deleted to have
        them asked anew.
        """
        ids, place, name = tuple(line.id for line in part), part[0].place, self._address.name
        ended = self._ledger.of(self._address.url, name, Step.ENDED)
        for before in count(sum(not set(ids).isdisjoint(batch.ids) for batch in ended)):
            batch = Batch(
                key=batch_key(self._address.url, place, ids, before),
                model=name,
                url=self._address.url,
                place=place,
                ids=ids,
                most=sum(line.most for line in part),
            )
            if batch.key in self._ledger.batches:
                continue
            created = self._service.find(batch.key, batch.file_name)
            if created is None or not self._is_gone(replace(batch, batch=created)):
                return batch, created
        raise AssertionError  # there is always a next number

    def _is_gone(self, batch: Batch) -> bool:
        """Return whether a batch has ended whose answers cannot be fetched."""
        status = self._status(batch)
        return status.ended and self._lines(batch, status) is None

    def _status(self, batch: Batch) -> Status:
        return again(partial(self._service.look, batch.batch))

    def _wait(self, waiting: list[Batch]) -> None:
        """Look at batches until one of them has ended, and read that one."""
        wait, heard = FIRST_WAIT, time.monotonic()
        while True:
            states = [(batch, self._looked(batch)) for batch in waiting]
            for batch, status in states:
                if status is not None and status.ended:
                    self._end(batch, status)
            if any(status is not None and status.ended for _, status in states):
                return
            now = time.monotonic()
            heard = now if any(status is not None for _, status in states) else heard
            if now - heard > _SILENT_SECONDS:
                raise EngineError(
                    f"model {self._address.name!r}: says nothing of its batches; run again to go on"
                )
            if self._deadline is not None and now > self._deadline:
                raise Stopped(
                    f"{self._address.name}: engine.run_seconds are used up; batches go on, run again to go on"
                )
            self._say(states, now)
            time.sleep(wait)
            wait = min(wait * GROWTH, LONGEST_WAIT)

    def _looked(self, batch: Batch) -> Status | None:
        """Look once; None where the server does not answer just now."""
        try:
            return self._service.look(batch.batch)
        except EngineError:
            return None

    def _say(self, states: list[tuple[Batch, Status | None]], now: float) -> None:
        if now < self._said + _SAY_SECONDS:
            return
        self._said = now
        done, total = (
            sum(status.done for _, status in states if status),
            sum(len(batch.ids) for batch, _ in states),
        )
        said = ", ".join(
            sorted({status.said for _, status in states if status}) or ["no word from the server"]
        )
        batches = f"{len(states)} batch{'es' * (len(states) > 1)}"
        self._note(
            f"{self._address.name}: {batches} {said}, {done:,} of {total:,} done (Ctrl-C: they go on, and a rerun picks them up)"
        )

    def _end(self, batch: Batch, status: Status) -> None:
        """Read a batch that has ended: account for it, keep its answers at hand, and see whether going on makes sense."""
        results = self._lines(batch, status)
        if results is None:
            raise EngineError(
                f"model {self._address.name!r}: the answers of batch {batch.batch} cannot be fetched (no such file); run again "
                f"to go on, or delete batches/{batch.key}.json to have them asked and paid for anew"
            )
        silence = missing(status.said)
        whole: dict[str, Result] = {id_: results.get(id_, silence) for id_ in batch.ids}
        each = batch.most / len(batch.ids)
        charged = [
            (each, one if isinstance(one, Response | Failure) else UNCHARGED)
            for one in whole.values()
        ]
        self._spending.settle_batch(batch.key, self._address.name, self._price, charged)
        self._ledger.put(replace(batch, step=Step.ENDED))
        self._unanswered[batch.key] = {
            id_ for id_, one in whole.items() if not isinstance(one, Response)
        }
        self._found |= whole
        self._limits.learn(batch, status, whole)

    def _read_ended(self, ids: set[str]) -> None:
        """Have the answers at hand that batches gave which ended before; what else they said is asked again."""
        for batch in self._ledger.of(self._address.url, self._address.name, Step.ENDED):
            wanted = (
                ids.intersection(batch.ids)
                - self._found.keys()
                - self._unanswered.get(batch.key, set())
            )
            if not wanted:
                continue
            results = self._lines(batch, self._status(batch)) or {}
            answers = {id_: one for id_, one in results.items() if isinstance(one, Response)}
            self._unanswered[batch.key] = set(batch.ids) - answers.keys()
            self._found |= answers

    def _lines(self, batch: Batch, status: Status) -> dict[str, Result] | None:
        """Return what the files of an ended batch say of its requests; None where a file is gone."""
        found: dict[str, Result] = {}
        own = set(batch.ids)
        if status.said == "completed" and status.done and not status.files:
            return None
        for file in status.files:
            content = self._service.download(file)
            if content is None:
                return None
            results, broken = read_lines(self._address, content)
            strange = sum(id_ not in own for id_ in results)
            if broken or strange:
                self._note(
                    f"{self._address.name}: batch {batch.batch}: {broken} lines broken, {strange} of no request of ours"
                )
            found |= {
                id_: one
                for id_, one in results.items()
                if id_ in own and not isinstance(found.get(id_), Response)
            }
        return found

    def _given(self, left: dict[str, Line]) -> Iterator[tuple[str, Answer]]:
        """Hand out what is known of requests and take them off the list; what failed for the time being stays on it."""
        fatal: AftertuneError | None = None
        for id_ in [id_ for id_ in left if id_ in self._found]:
            result = self._found.pop(id_)
            if isinstance(result, AftertuneError):
                fatal = fatal or result
            elif isinstance(result, Response):
                del left[id_]
                yield id_, result
            elif not result.retried or self._limits.given_up(id_):
                del left[id_]
                yield id_, Attempt(reason=result.reason, detail=result.detail)
        if fatal is not None:
            raise fatal
