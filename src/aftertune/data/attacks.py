"""Attacks: wrappers around a prompt, and beginnings of its answer, that are to make a model do what it refuses.

A dozen ship (``attacks.yaml``), fixed and versioned; files of wrappers add others. An attack changes what the model is sent
and nothing else: judges are shown the prompt as it was posed. Every attack stands around benign twins as well, so that an
attack that makes a model answer nonsense, or refuse everything, is no success.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import cache
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from aftertune.core.records import NO_ATTACK, Intent, Prompt
from aftertune.data.files import Record, read_records, typed
from aftertune.errors import DataError, StudyError
from aftertune.study.fields import is_attack_file
from aftertune.study.yaml_lines import nearest

VERSION = "attacks-v1"
"""The name that stands for all attacks that ship."""
PLACEHOLDER = "{prompt}"
_SHIPPED = Path(__file__).with_name("attacks.yaml")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+\-]*")
_LEET = str.maketrans("aeiostAEIOST", "431057431057")


class AttackKind(StrEnum):
    """The way in which an attack changes what a model is sent."""

    WRAPPER = "wrapper"
    """Words around the prompt, which stands in them as it was posed."""
    PREFILL = "prefill"
    """The beginning of the answer; the prompt stays as it was posed."""
    BASE64 = "base64"
    """Words around the prompt in Base64 (RFC 4648, of its UTF-8 bytes)."""
    LEETSPEAK = "leetspeak"
    """Words around the prompt with digits in place of some letters."""
    JSON = "json"
    """A JSON object with the prompt, escaped, inside a string."""


_WRITTEN: Mapping[AttackKind, Callable[[str], str]] = {
    AttackKind.WRAPPER: str,
    AttackKind.BASE64: lambda text: base64.b64encode(
        text.encode("utf-8", "surrogatepass")
    ).decode(),
    AttackKind.LEETSPEAK: lambda text: text.translate(_LEET),
    AttackKind.JSON: lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
}
"""The form in which a prompt stands in the words of an attack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """An attack, as a line of a file of wrappers gives it."""

    id: str
    """Its name in tables: letters, digits and ``_ . + -``."""
    kind: AttackKind = AttackKind.WRAPPER
    text: str
    """The words with ``{prompt}`` once; of a prefill, the beginning of the answer."""
    source: str = ""
    """The publication that describes the kind of attack."""

    def on(self, prompt: Prompt) -> Prompt:
        """Return a prompt under the attack; it keeps its behavior, template and task."""
        wrapped = replace(prompt, attack=self.id, posed=prompt.text)
        if self.kind is AttackKind.PREFILL:
            return replace(wrapped, prefill=self.text)
        before, after = self.text.split(PLACEHOLDER)
        return replace(wrapped, text=f"{before}{_WRITTEN[self.kind](prompt.text)}{after}")


ATTACK = TypeAdapter(Attack)
KEYS = tuple(field.name for field in fields(Attack))


@cache
def shipped_attacks() -> tuple[Attack, ...]:
    """Return the attacks of `VERSION`, in their fixed order."""
    text = _SHIPPED.read_text(encoding="utf-8")
    records: list[Record] = yaml.safe_load(text)["attacks"]
    return tuple(_attack(record, f"{VERSION}, {record['id']}") for record in records)


def read_attacks(path: Path) -> list[Attack]:
    """Read a file of wrappers: JSONL (or JSON, CSV) with ``id``, ``kind``, ``text`` and, if any, ``source``.

    Raises:
        DataError: a broken file, an unknown or missing field, a text without its placeholder, no attack at all.
    """
    with closing(read_records(path)) as records:
        attacks = [_attack(record, where) for where, record in records]
    if not attacks:
        raise DataError(f"{path}: holds no attack; give lines with id, kind and text")
    return attacks


def load_attacks(entries: Iterable[str]) -> tuple[Attack, ...]:
    """Return the attacks that a study declares, in its order; ``none`` stands for no attack and adds nothing.

    Args:
        entries: names of shipped attacks, `VERSION` for all of them, and files of wrappers.

    Raises:
        StudyError: no attack has a name, or two have the same id.
        DataError: as `read_attacks`.
    """
    attacks: dict[str, Attack] = {}
    for attack in _declared(entries):
        if attack.id in attacks:
            raise StudyError(
                f"attacks: two have the id {attack.id!r}; leave one out, or give it another id"
            )
        attacks[attack.id] = attack
    return tuple(attacks.values())


def under_attack(prompts: Iterable[Prompt], attacks: Sequence[Attack]) -> Iterator[Prompt]:
    """Yield prompts under attacks, attack by attack, each in the order of the prompts.

    Attacked are harmful prompts and their benign twins; other benign prompts (of a capability, say) are not.
    """
    attackable = [
        prompt for prompt in prompts if prompt.intent is Intent.HARMFUL or prompt.pair is not None
    ]
    return (attack.on(prompt) for attack in attacks for prompt in attackable)


def _declared(entries: Iterable[str]) -> Iterator[Attack]:
    for place, entry in enumerate(entries):
        by_name = {attack.id: attack for attack in shipped_attacks()}
        if is_attack_file(entry):
            yield from read_attacks(Path(entry))
        elif entry == VERSION:
            yield from shipped_attacks()
        elif entry in by_name:
            yield by_name[entry]
        elif (fault := unknown_attack(entry)) is not None:
            raise StudyError(f"attacks[{place}]: {fault}")


def unknown_attack(entry: str) -> str | None:
    """Return what is wrong with the name of an attack that does not ship; None for one that does, and for a file's path."""
    names = [attack.id for attack in shipped_attacks()]
    if is_attack_file(entry) or entry in {VERSION, NO_ATTACK, *names}:
        return None
    return (
        f"no attack is called {entry!r}; {nearest(entry, (*names, VERSION))}known: {', '.join(names)}; {VERSION} for all of them; "
        "or name a file of wrappers, such as ./wrappers.jsonl"
    )


def _attack(record: Record, where: str) -> Attack:
    if unknown := record.keys() - set(KEYS):
        raise DataError(f"{where}: unknown field {min(unknown)!r}; known: {', '.join(KEYS)}")
    for key in ("id", "text"):
        if key not in record:
            raise DataError(f"{where}: no {key!r}; an attack needs id and text")
    attack = typed(ATTACK, record, where)
    if not _ID.fullmatch(attack.id) or attack.id in (NO_ATTACK, VERSION):
        raise DataError(
            f"{where}, 'id': {attack.id!r:.40} is no name for an attack; use letters, digits and _ . + -, and neither "
            f"{NO_ATTACK} nor {VERSION}"
        )
    if attack.kind is AttackKind.PREFILL:
        if not attack.text.strip() or attack.text != attack.text.strip():
            raise DataError(
                f"{where}, 'text': a prefill is the beginning of an answer, without white space around it"
            )
        if PLACEHOLDER in attack.text:
            raise DataError(
                f"{where}, 'text': a prefill takes no {PLACEHOLDER}; leave it out, or use kind wrapper"
            )
    elif attack.text.count(PLACEHOLDER) != 1:
        raise DataError(
            f"{where}, 'text': needs {PLACEHOLDER} once, where the prompt stands; it has it {attack.text.count(PLACEHOLDER)} times"
        )
    return attack
