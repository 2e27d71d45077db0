"""When another batch makes sense, and how large it may be."""

from collections import Counter
from collections.abc import Callable, Mapping

from aftertune.core.records import Response
from aftertune.errors import EngineError, ModelError, Stopped
from aftertune.models.endpoint.batch_ledger import Batch
from aftertune.models.endpoint.batch_lines import MOST_REQUESTS, Result
from aftertune.models.endpoint.batch_service import Status
from aftertune.models.endpoint.failures import Failure

TRIES = 4
"""Batches of one run that a request may be in before it is given up."""
_HOPELESS = 8
"""Requests that all have to be refused as malformed before the request itself is held to be wrong."""
_FULL = "token_limit_exceeded"
"""The account's queue has no room for so many tokens."""
_FULL_TRIES = 20
"""Batches, each half as large, that such a queue may send back before the run stops."""


class Limits:
    """What a run has learnt of a server's batches.

    Attributes:
        most_requests: of one batch; halved by every queue that is full.

    Args:
        name: of the model, for messages.
        note: where to say that batches get smaller.
    """

    def __init__(self, name: str, note: Callable[[str], object]) -> None:
        self.most_requests = MOST_REQUESTS
        self._name, self._note = name, note
        self._tries: Counter[str] = Counter()
        self._sent_back = self._barren = 0

    @property
    def one_at_a_time(self) -> bool:
        """Whether a batch has to wait for the one before it."""
        return self._sent_back > 0

    def given_up(self, id_: str) -> bool:
        """Return whether a request has had its tries."""
        return self._tries[id_] >= TRIES

    def learn(self, batch: Batch, status: Status, results: Mapping[str, Result]) -> None:
        """Look at a batch that has ended.

        Args:
            batch: the batch.
            status: what the server says of it.
            results: what came of each of its requests.

        Raises:
            ModelError: the requests, or their file, are refused.
            EngineError: batch after batch ends without an answer.
            Stopped: the account's queue is full.
        """
        if status.said == "failed" and status.errors:
            self._refused(batch, status)
            return
        silent = [id_ for id_, result in results.items() if not isinstance(result, Response)]
        self._tries.update(silent)
        failures = [result for result in results.values() if isinstance(result, Failure)]
        malformed = [failure for failure in failures if failure.reason == "bad_request"]
        if len(malformed) == len(results) >= _HOPELESS:
            raise ModelError(
                f"model {self._name!r}: the server accepts none of our calls ({malformed[0].detail})"
            )
        self._barren = self._barren + 1 if len(silent) == len(results) else 0
        failure = next((failure for failure in failures if failure.retried), None)
        if self._barren >= TRIES and failure is not None:
            raise EngineError(
                f"model {self._name!r}: {self._barren} batches in a row without an answer ({failure.reason}: {failure.detail}); "
                "run again to go on"
            )

    def _refused(self, batch: Batch, status: Status) -> None:
        said = status.errors[0][1]
        if all(code != _FULL for code, _ in status.errors):
            raise ModelError(f"model {self._name!r}: batch {batch.batch} was refused ({said})")
        self._sent_back += 1
        if self._sent_back > _FULL_TRIES:
            raise Stopped(
                f"{self._name}: the account's queue of batches is full ({said}); run again later to go on"
            )
        self.most_requests = max(1, len(batch.ids) // 2)
        self._note(
            f"{self._name}: the account's queue is full; going on with batches of {self.most_requests:,}"
        )
