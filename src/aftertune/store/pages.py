"""Reads the rows of a damaged SQLite file page by page, without SQLite, which stops at the first broken page.

The file format is SQLite's own (https://www.sqlite.org/fileformat2.html). Every page is read by itself, so that a broken page,
a broken way to it or a cut end loses what lies there and nothing else. Frames of the write-ahead log that belong to commits,
by its own checksums, stand in for the pages of the file.
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple

MAGIC = b"SQLite format 3\0"
HEADER = 100
"""Bytes of the file's header, which stands on the first page before its own."""
PAGE_SIZES = tuple(1 << power for power in range(9, 17))
USUAL_PAGE = 4096
KINDS = INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF = 2, 5, 10, 13
_WAL_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
"""The byte order of the checksums of a write-ahead log, by its first number."""
_WAL_HEADER, _FRAME_HEADER = 32, 24
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
"""Bytes of an integer, by its serial type."""
_SHM_COMMITTED, _SHM_COPIED = 16, 96
"""The places where the index of the log counts its frames, and those that were copied into the file."""

Value = int | float | str | bytes | None


class Broken(Exception):
    """A page or a cell is not what SQLite writes; it never leaves this file."""


class Cell(NamedTuple):
    """A row as it lies on its page."""

    rowid: int | None
    """None in a table without row numbers, and in an index."""
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of rows, of a table or of an index."""

    number: int
    kind: int
    cells: tuple[Cell, ...]
    broken: int
    """Cells that cannot be read."""


class Pages:
    """The pages of a file, with those of its write-ahead log in front of them."""

    def __init__(self, path: Path) -> None:
        """Read the file; it is never written to.

        Raises:
            OSError: it cannot be read.
        """
        with path.open("rb") as stream:
            empty = os.fstat(stream.fileno()).st_size == 0
            self._data = b"" if empty else mmap(stream.fileno(), 0, access=ACCESS_READ)
        self.size = _page_size(self._data)
        log = path.with_name(f"{path.name}-wal")
        self.log = _committed(log.read_bytes(), self.size) if log.is_file() else {}
        """The newest committed content of pages, by their number."""
        self.lost_frames = _lost_frames(path, log)
        """Pages that the index of the log counts and that neither the log nor the file has."""

    @property
    def whole(self) -> int:
        """The number of pages that are there whole."""
        return max(len(self._data) // self.size, *self.log, 0)

    @property
    def declared(self) -> int:
        """The number of pages that the file's header speaks of; 0 where it cannot be read."""
        head = self._content(1)
        return int.from_bytes(head[28:32]) if head.startswith(MAGIC) else 0

    def number_at(self, place: int) -> int:
        """Return the big-endian number of four bytes in the file's header."""
        return int.from_bytes(self._content(1)[place : place + 4])

    def rows(self, number: int) -> Page | None:
        """Return a page with what can be read of its rows; None where it is no page of rows, or broken as a whole."""
        try:
            return self._page(number)
        except Broken:
            return None

    def _page(self, number: int) -> Page:
        data, kind, places = self._places(number)
        inner = kind == INDEX_INTERIOR
        cells, broken = [], 0
        for place in places if kind != TABLE_INTERIOR else ():
            try:
                cells.append(self._cell(data, place + 4 * inner, kind))
            except (Broken, IndexError, UnicodeDecodeError, struct.error):
                broken += 1
        return Page(number=number, kind=kind, cells=tuple(cells), broken=broken)

    def tree(self, root: int) -> tuple[set[int], set[int]]:
        """Return the pages that can be reached from the root of a tree, itself among them: those of rows, and the broken ones."""
        reached: set[int] = set()
        broken: set[int] = set()
        waiting = [root]
        while waiting:
            number = waiting.pop()
            if number in reached or number in broken:
                continue
            try:
                waiting += self._children(number)
                reached.add(number)
            except (Broken, IndexError):
                broken.add(number)
        return reached, broken

    def _children(self, number: int) -> list[int]:
        """Return the pages below an inner page of a tree, none for a leaf."""
        data, kind, places = self._places(number)
        if kind not in {INDEX_INTERIOR, TABLE_INTERIOR}:
            return []
        last = HEADER * (number == 1) + 8
        return [int.from_bytes(data[place : place + 4]) for place in (*places, last)]

    def _places(self, number: int) -> tuple[bytes, int, list[int]]:
        """Return a page's bytes, its kind, and the places of its cells."""
        data = self._content(number) if 0 < number <= self.whole else b""
        start = HEADER if number == 1 else 0
        if len(data) < self.size or data[start] not in KINDS:
            raise Broken
        kind = data[start]
        count = int.from_bytes(data[start + 3 : start + 5])
        first = start + (12 if kind in {INDEX_INTERIOR, TABLE_INTERIOR} else 8)
        if first + 2 * count > self.size:
            raise Broken
        places = [int.from_bytes(data[at : at + 2]) for at in range(first, first + 2 * count, 2)]
        return data, kind, places

    def _content(self, number: int) -> bytes:
        start = (number - 1) * self.size
        return self.log.get(number) or self._data[start : start + self.size]

    def _cell(self, data: bytes, place: int, kind: int) -> Cell:
        length, place = _varint(data, place)
        rowid = None
        if kind == TABLE_LEAF:
            rowid, place = _varint(data, place)
            rowid -= (rowid >> 63) << 64
        return Cell(rowid, _record(self._payload(data, place, length, kind)))

    def _payload(self, data: bytes, place: int, length: int, kind: int) -> bytes:
        """Return the bytes of a row, those of its overflow pages too."""
        most = self.size - 35 if kind == TABLE_LEAF else (self.size - 12) * 64 // 255 - 23
        if length <= most:
            if place + length > self.size:
                raise Broken
            return data[place : place + length]
        if length > self.whole * self.size:
            raise Broken
        least = (self.size - 12) * 32 // 255 - 23
        local = least + (length - least) % (self.size - 4)
        local = local if local <= most else least
        parts, left = [data[place : place + local]], length - local
        following = int.from_bytes(data[place + local : place + local + 4])
        while left > 0:
            overflow = self._content(following) if 0 < following <= self.whole else b""
            if len(overflow) < self.size:
                raise Broken
            parts.append(overflow[4 : 4 + left])
            following, left = int.from_bytes(overflow[:4]), left - (self.size - 4)
        if following:
            raise Broken
        return b"".join(parts)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return SQLite's integer of one to nine bytes, and the place behind it."""
    value = 0
    for count in range(8):
        byte = data[place + count]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + count + 1
    return value << 8 | data[place + 8], place + 9


def _record(payload: bytes) -> tuple[Value, ...]:
    end, place = _varint(payload, 0)
    if end > len(payload):
        raise Broken
    serials = []
    while place < end:
        serial, place = _varint(payload, place)
        serials.append(serial)
    values: list[Value] = []
    for serial in serials:
        value, place = _value(payload, place, serial)
        values.append(value)
    if place != len(payload):
        raise Broken
    return tuple(values)


def _value(payload: bytes, place: int, serial: int) -> tuple[Value, int]:
    if serial == 0:
        return None, place
    if serial in {8, 9}:
        return serial - 8, place
    if serial in {10, 11}:
        raise Broken
    end = place + (_INTEGERS.get(serial, 8) if serial < 8 else (serial - 12) // 2)
    if end > len(payload):
        raise Broken
    content = payload[place:end]
    if serial == 7:
        return float(struct.unpack(">d", content)[0]), end
    if serial < 7:
        return int.from_bytes(content, signed=True), end
    return (content.decode() if serial % 2 else content), end


def _page_size(data: bytes | mmap) -> int:
    """Return the size that the header names, or where that is damaged, the one at which most pages begin as pages do."""
    named = int.from_bytes(data[16:18])
    named = 65536 if named == 1 else named

    def share(size: int) -> float:
        starts = range(size, min(len(data) - 8, 400 * size), size)
        pages = sum(data[start] in KINDS and data[start + 7] == 0 for start in starts)
        return pages / max(len(starts), 1)

    sizes = [size for size in (named, USUAL_PAGE, *PAGE_SIZES) if size in PAGE_SIZES]
    if len(data) < 4 * sizes[0]:
        return sizes[0]
    best = max(sizes, key=share)
    return sizes[0] if share(sizes[0]) > share(best) / 2 else best


def _committed(log: bytes, size: int) -> Mapping[int, bytes]:
    """Return the pages of a write-ahead log as its last commit left them; what comes behind a broken frame does not count."""
    if len(log) < _WAL_HEADER:
        return {}
    magic, _, page_size, _, salt, salt_2, *sums = struct.unpack(">8I", log[:_WAL_HEADER])
    order = _WAL_MAGIC.get(magic)
    if order is None or page_size != size or _checksum(log[:24], (0, 0), order) != tuple(sums):
        return {}
    state = (sums[0], sums[1])
    committed: dict[int, bytes] = {}
    waiting: dict[int, bytes] = {}
    frame = _FRAME_HEADER + size
    for start in range(_WAL_HEADER, len(log) - frame + 1, frame):
        head, data = log[start : start + _FRAME_HEADER], log[start + _FRAME_HEADER : start + frame]
        number, pages, *rest = struct.unpack(">6I", head)
        state = _checksum(head[:8] + data, state, order)
        if rest != [salt, salt_2, *state]:
            break
        waiting[number] = data
        if pages:  # the last frame of a commit
            committed |= waiting
            waiting = {}
    return committed


def _checksum(data: bytes, state: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = state
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for left, right in zip(words, words, strict=True):
        first = first + left + second & 0xFFFFFFFF
        second = second + right + first & 0xFFFFFFFF
    return first, second


def _lost_frames(path: Path, log: Path) -> int:
    """Return how many frames the index beside the file counts that were not copied into it, where the log is gone."""
    index = path.with_name(f"{path.name}-shm")
    if not index.is_file() or (log.is_file() and log.stat().st_size):
        return 0
    head = index.read_bytes()[: _SHM_COPIED + 4]
    if len(head) < _SHM_COPIED + 4:
        return 0
    committed, copied = (
        int.from_bytes(head[place : place + 4], "little") for place in (_SHM_COMMITTED, _SHM_COPIED)
    )
    return max(0, committed - copied)
