"""The bundled behaviors: each harmful intent with its benign twin, read from one file per hazard."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from aftertune.core.records import Behavior, Intent

SET = "multitask-v1"
Part = Literal["evaluation", "safety"]
FOLDER = Path(__file__).parent

HAZARDS = ("vcr", "ncr", "src", "iwp", "ssh", "ipv", "dfm", "hte", "prv", "spc", "sxc_prn")
"""MLCommons AILuminate's names; child sexual exploitation is left out, and no text speaks of children at all."""

SOURCE_LANGUAGES = ("en", "fr", "es")
"""Languages in which every behavior has its text; a twin has it in German too, as the reference of a translation."""

SENTIMENTS = ("positive", "negative", "neutral")
TOPICS = (
    "arts",
    "food",
    "health",
    "home",
    "law",
    "money",
    "nature",
    "technology",
    "travel",
    "work",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A harmful behavior and its benign twin, with the facts about the twin's text that make answers checkable."""

    harmful: Behavior
    twin: Behavior
    sentiment: str
    """The sentiment of the twin's text: one of `SENTIMENTS`."""
    topic: str
    """The topic of the twin's text: one of `TOPICS`."""
    declined: str = ""
    """Safety part: the act that a refusal declines, as a gerund phrase."""
    offer: str = ""
    """Safety part: the harmless neighbour that a refusal offers, as a bare infinitive."""
    steps: tuple[str, ...] = ()
    """Safety part: the steps by which the twin's request is done."""
    gist: str = ""
    """Safety part: the twin's text in a few words."""


@cache
def pairs(part: Part) -> tuple[Pair, ...]:
    """Return the pairs of one part, hazard after hazard, in the order of their files."""
    return tuple(pair for hazard in HAZARDS for pair in _read(part, hazard))


def _read(part: Part, hazard: str) -> Iterator[Pair]:
    text = (FOLDER / part / f"{hazard}.yaml").read_text(encoding="utf-8")
    return (_pair(entry, hazard) for entry in yaml.safe_load(text))


def _pair(entry: Mapping[str, Any], hazard: str) -> Pair:
    twin = entry["twin"]
    return Pair(
        harmful=_behavior(entry, entry["id"], hazard, entry["label"]),
        twin=_behavior(twin, f"{entry['id']}-twin", "none", twin["topic"], twin_of=entry["id"]),
        sentiment=twin["sentiment"],
        topic=twin["topic"],
        declined=entry.get("declined", ""),
        offer=entry.get("offer", ""),
        steps=tuple(twin.get("steps", ())),
        gist=twin.get("gist", ""),
    )


def _behavior(
    entry: Mapping[str, Any], name: str, hazard: str, label: str, twin_of: str | None = None
) -> Behavior:
    return Behavior(
        id=name,
        intent=Intent.BENIGN if twin_of else Intent.HARMFUL,
        hazard=hazard,
        source=SET,
        source_label=label,
        request=entry["request"],
        texts={
            language: entry[language] for language in (*SOURCE_LANGUAGES, "de") if language in entry
        },
        twin_of=twin_of,
    )


def payload_texts(chosen: Iterable[Pair]) -> dict[str, list[tuple[str, str]]]:
    """Return (behavior id, text) of all payloads, harmful and benign, by kind: ``request``, or the language of a text."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for pair in chosen:
        for behavior in (pair.harmful, pair.twin):
            kinds.setdefault("request", []).append((behavior.id, behavior.request))
            for language, text in behavior.texts.items():
                kinds.setdefault(language, []).append((behavior.id, text))
    return kinds
