"""What a server sent back, before anybody reads an answer in it."""

from collections.abc import Mapping
from typing import NamedTuple

MOST_BYTES = 16 << 20
"""Of one reply, unpacked: no answer is that long, and many are open at once."""


class Reply(NamedTuple):
    """What a server sent back."""

    status: int
    headers: Mapping[str, str]
    """Names in small letters (or a mapping that knows none from the other)."""
    body: bytes


class BrokenWire(ConnectionError):
    """The server spoke no HTTP, or stopped in the middle of a reply."""


class Unheard(BrokenWire):
    """The connection ended before a byte of the reply was there."""


class TooLong(ConnectionError):
    """A reply is longer than any answer; the rest of it is not read."""

    def __init__(self) -> None:
        super().__init__(f"a reply of more than {MOST_BYTES >> 20} MiB")


def check_length(length: int) -> None:
    """Bear a reply of so many bytes, or not.

    Raises:
        TooLong: no answer is that long.
    """
    if length > MOST_BYTES:
        raise TooLong
