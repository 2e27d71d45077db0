"""The drawn sample and the imported labels of a run, as the store keeps them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aftertune.core.ids import Key, content_key
from aftertune.core.records import LabelValue, Prompt
from aftertune.core.table import Table
from aftertune.errors import InputError
from aftertune.measure.label_draw import Draw
from aftertune.store import Store, StoredJob

SAMPLE, LABELS = "label-sample", "labels"
IDENTITY = ("model", "prompt", "system", "decoding", "sample")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A drawn response: its opaque id, what it stands for, and how likely it was drawn."""

    id: str
    key: str
    """The key of its call, in hexadecimal digits."""
    prompt: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was drawn last."""

    seed: int
    n: int
    population: str
    """Hash of the responses that were drawn from; others need another draw."""
    items: tuple[Item, ...]
    benign: int = 0
    """How many responses to benign prompts were asked for beside them."""


def population(table: Table) -> str:
    """Return the hash of what can be drawn: the jobs of a study, and which of them have an answer."""
    digest = hashlib.blake2b(digest_size=16)
    for name in (*IDENTITY, "finish"):
        digest.update(repr(table.names.get(name, ())).encode(errors="surrogatepass"))
        digest.update(
            (table.columns[name] >= 0 if name == "finish" else table.columns[name]).tobytes()
        )
    return digest.hexdigest()


def drawn_answers(
    store: Store, study: str, table: Table, draw: Draw, prompts: Sequence[Prompt]
) -> Iterator[tuple[StoredJob, float]]:
    """Yield the drawn answers with their probability; an answer that two jobs share comes once."""
    columns = [table.columns[name][draw.rows].tolist() for name in IDENTITY]
    named = [
        [table.names[name][code] for code in codes] if name != "sample" else codes
        for name, codes in zip(IDENTITY, columns, strict=True)
    ]
    wanted = dict(zip(zip(*named, strict=True), draw.probability.tolist(), strict=True))
    asked = {prompt for _, prompt, *_ in wanted}
    seen: set[tuple[Key | None, str]] = set()
    for answer in store.responses(study, (), [prompt for prompt in prompts if prompt.id in asked]):
        probability = wanted.get(
            (answer.model, answer.prompt.id, answer.system, answer.decoding, answer.sample)
        )
        if probability is not None and (answer.key, answer.prompt.id) not in seen:
            seen.add((answer.key, answer.prompt.id))
            yield answer, probability


def item_of(answer: StoredJob, probability: float, seed: int) -> Item:
    """Return an answer's place in a sample; its id says nothing about the model, and sorting by it shuffles."""
    assert answer.key is not None
    key = answer.key.hex()
    number = content_key("label", seed, key, answer.prompt.id).hex()[:12]
    return Item(id=f"r-{number}", key=key, prompt=answer.prompt.id, probability=probability)


def keep_sample(store: Store, study: str, sample: Sample) -> None:
    """Keep a sample in the place of the one before."""
    store.set_meta(study, SAMPLE, asdict(sample))


def read_sample(store: Store, study: str) -> Sample:
    """Return the sample that was drawn last.

    Raises:
        InputError: none was.
    """
    kept = store.get_meta(study, SAMPLE)
    if kept is None:
        raise InputError(
            f"{store.path.parent}: no sample was drawn here; run aftertune label export first"
        )
    return Sample(**{**kept, "items": tuple(Item(**item) for item in kept["items"])})


def kept_labels(store: Store, study: str, sample: Sample) -> dict[str, dict[str, LabelValue]]:
    """Return the labels that were imported before, by person and id."""
    note = store.get_meta(study, LABELS)
    if note is None:
        return {}
    ids = {(item.key, item.prompt): item.id for item in sample.items}
    asked = {item.prompt for item in sample.items}
    prompts = [prompt for prompt in store.prompts(study) if prompt.id in asked]
    found: dict[str, dict[str, LabelValue]] = {}
    for answer in store.responses(study, note["readers"], prompts):
        number = ids.get((answer.key.hex() if answer.key else "", answer.prompt.id))
        for column, score in answer.scores.items():
            if number is not None and isinstance(score.value, LabelValue):
                found.setdefault(column.partition(":")[2], {})[number] = score.value
    return found


def labelled_table(
    store: Store, study: str, readers: Sequence[int]
) -> tuple[Table, Mapping[str, Any] | None, list[str]]:
    """Return the table of a study with its labels, what is known of them, and what a reader must know."""
    table = store.table(study, readers)
    note = store.get_meta(study, LABELS)
    if note is None:
        return table, None, []
    if note["population"] != population(table):
        return (
            table,
            None,
            [
                "the responses are not those that were drawn from for labels, so nothing is corrected; draw again"
            ],
        )
    told = {name: note[name] for name in ("drawn", "labelled", "people", "seed", "version")}
    return store.table(study, [*readers, *note["readers"]]), told, []
