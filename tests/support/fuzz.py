"""Files that differ from valid ones: a deterministic mutator of JSON, CSV, YAML and bytes, and the law that it tests.

    for number in range(100):
        path.write_bytes(Mutator(number).file(VALID, "jsonl"))
        ended(lambda: read(path), f"training file {number}")

The same number gives the same file on every machine: the number in a failure's name is all that is needed to see it again.
"""

import csv
import io
import json
import random
import signal
import threading
from contextlib import contextmanager

from aftertune.errors import AftertuneError

SECONDS = 20
"""The longest that a case may take; cases take milliseconds, so only a hang comes near."""
VALUES = (
    *(None, True, False, 0, 1, -1, 0.5, 1e308, 10**30, float("nan"), float("inf")),
    *("", " ", "\0", "\ud800", "\u2028", "\ufeff", "=1+1", "../../x", "null", "[1]", "{}", "a" * 5_000),
    *([], {}, [[]], [{}], {"a": None}, ["a", 1, None], {"role": []}, [["role", "user"]]),
)  # fmt: skip
"""Values that stand where others are expected."""
PIECES = (
    *("\0", "\r", "\n", "\t", '"', '"""', "'", ",", ";", ":", "{", "}", "[", "]", "[" * 3_000, "\\u", "\\ud800"),
    *("NaN", "-Infinity", "1e999", "9" * 5_000, "null", "#", "&a", "*a", "!!python/object:os.system ", "- ", "? ", "é", "\u202e"),
)  # fmt: skip
"""Pieces that mean something to a parser of JSON, CSV or YAML, or are too large or too deep for one."""
HEADS = (b"\x1f\x8b", b"PAR1", b"PK\x03\x04", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"version https://git-lfs\n", b"\0" * 9)  # fmt: skip
"""Beginnings by which files of other kinds are recognised."""


class Mutator:
    """Changes valid files in one to three places; its random choices follow from its number alone."""

    def __init__(self, number):
        self.random = random.Random(f"fuzz {number}")  # noqa: S311 - reproducible, not a secret

    def file(self, valid, kind):
        """Return the bytes of a mutated file; ``kind`` is ``json``, ``jsonl``, ``csv``, ``yaml`` or ``bytes``."""
        structured = {"json": self.json, "jsonl": self.json_lines, "csv": self.csv}.get(kind)
        if structured is None or self.random.random() < 0.4:
            mutated = (
                valid
                if kind == "bytes"
                else self.text(valid.decode()).encode(errors="surrogatepass")
            )
            return self.data(mutated) if kind == "bytes" or self.random.random() < 0.2 else mutated
        return structured(valid.decode()).encode(errors="surrogatepass")

    def json(self, text):
        """Return a document with other values, keys or nesting in it."""
        return self._written(self.value(json.loads(text)))

    def json_lines(self, text):
        """Return lines of which one has other values, or is none; sometimes as one array."""
        lines = [json.loads(line) for line in text.splitlines() if line]
        for _ in range(self.random.randint(1, 3)):
            place = self.random.randrange(len(lines))
            lines[place] = self.value(lines[place])
        if self.random.random() < 0.1:
            return self._written(lines)
        return "\n".join(map(self._written, lines))

    def csv(self, text):
        """Return a table with other cells, columns or rows."""
        table = list(csv.reader(io.StringIO(text)))
        for _ in range(self.random.randint(1, 3)):
            row = self.random.choice(table)
            place = self.random.randrange(len(row) + 1)
            change = self.random.randrange(5)
            if change == 0:
                row[place:] = []
            elif change == 1:
                row.insert(place, self._cell())
            elif change == 2:
                row[place : place + 1] = [self._cell()]
            elif change == 3:
                table.insert(self.random.randrange(len(table) + 1), list(row))
            else:
                self.random.shuffle(row)
            table = [row for row in table if row] or [[""]]
        written = io.StringIO()
        csv.writer(written, delimiter=self.random.choice(",,,;\t")).writerows(table)
        return written.getvalue()

    def text(self, text):
        """Return a text (YAML, or any other) with pieces or lines gone, doubled, moved or put in."""
        for _ in range(self.random.randint(1, 3)):
            change = self.random.randrange(5)
            if change < 2:
                start, end = sorted(self.random.randrange(len(text) + 1) for _ in range(2))
                piece = self.random.choice(PIECES) if change else ""
                text = (
                    text[:start] + piece + text[min(end, start + self.random.choice((0, 1, 30))) :]
                )
                continue
            lines = text.splitlines(keepends=True) or [""]
            place = self.random.randrange(len(lines))
            line = lines.pop(place)
            if change > 2:
                lines.insert(self.random.randrange(len(lines) + 1), line)
            if change == 4:
                lines.insert(place, line)
            text = "".join(lines)
        return text

    def data(self, data):
        """Return bytes with some flipped, cut off, gone, doubled, or the beginning of another kind of file."""
        mutated = bytearray(data)
        for _ in range(self.random.randint(1, 3)):
            place, change = self.random.randrange(len(mutated) + 1), self.random.randrange(5)
            if change == 0:
                mutated[place:] = b""
            elif change == 1:
                mutated[:0] = self.random.choice(HEADS)
            elif change == 2:
                mutated[place : place + self.random.choice((1, 2, 100))] = b""
            elif change == 3:
                mutated[place:place] = mutated[place : place + 100]
            else:
                mutated[place : place + 1] = self.random.randbytes(self.random.choice((1, 1, 8)))
        return bytes(mutated)

    def value(self, value):
        """Return a JSON value in which one to three values, at any depth, were replaced, taken out, doubled or moved."""
        mutated = json.loads(json.dumps(value))
        for _ in range(self.random.randint(1, 3)):
            places = list(_places(mutated))
            if not places or self.random.random() < 0.02:
                return self._value()
            holder, key = self.random.choice(places)
            change = self.random.randrange(6)
            if change == 0:
                del holder[key]
            elif change == 1:
                holder[key] = [holder[key]] if self.random.random() < 0.5 else {"data": holder[key]}
            elif change == 2 and isinstance(holder, list):
                holder.insert(key, holder[key])
            elif change == 3 and isinstance(holder, dict):
                holder[self.random.choice((f"{key} ", key.upper(), "", *holder))] = holder.pop(key)
            elif change == 4:
                other, place = self.random.choice(places)
                if not isinstance(other, list) or place < len(other):
                    holder[key] = json.loads(
                        json.dumps(other.get(place) if isinstance(other, dict) else other[place])
                    )
            else:
                holder[key] = self._value()
        return mutated

    def _value(self):
        return json.loads(json.dumps(self.random.choice(VALUES)))

    def _cell(self):
        return self.random.choice(
            [str(value) for value in VALUES] + [piece for piece in PIECES if piece != "\0"]
        )

    def _written(self, value):
        """Return a value as JSON, now and then with a key twice or half of a surrogate pair as it stands."""
        text = json.dumps(value, ensure_ascii=self.random.random() < 0.5)
        place = text.find("{")
        if place >= 0 and self.random.random() < 0.05:
            end = text.find(",", place)
            text = (
                text[: end + 1] + text[place + 1 : end + 1] + text[end + 1 :] if end > 0 else text
            )
        return text


def _places(value):
    """Yield the container and the key or index of every value inside a JSON value."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def ended(call, name):
    """Run a case; return its error of our own, or None. Any other error, and more than `SECONDS`, fail the test by name."""
    try:
        with _alarm(name):
            call()
    except AftertuneError as error:
        assert "\n" not in str(error).strip(), f"{name}: an error of several lines"  # noqa: PT017 - a law of its own
        return error
    except Exception as error:
        raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
    return None


@contextmanager
def _alarm(name):
    """Fail when the block takes longer than `SECONDS`; only the main thread can be told."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_signal, _frame):
        raise AssertionError(f"{name}: not done after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
