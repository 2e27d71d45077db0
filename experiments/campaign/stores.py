"""Damaged stores: recovered, they hold no answer that was not given, the damage is said, and what is lost is asked again."""

import random
from collections.abc import Iterable
from pathlib import Path

from run import Outcome
from synthetic_study import job, prompt, response

from aftertune.core.records import LabelValue, Score, VerdictValue
from aftertune.errors import AftertuneError
from aftertune.store import Scored, Store
from aftertune.store.recover import recover

PAGE = 4096
COUNT = 500
DAMAGES = ("flips", "flips", "cut", "zero page", "noise page", "swapped pages", "header")


def text_of(number: int) -> str:
    """Return an answer; now and then one that does not fit on a page."""
    return f"answer {number} " + "xyz " * (3000 if number % 97 == 0 else number % 40)


def filled(path: Path, numbers: Iterable[int] = range(COUNT)) -> Path:
    """Write a store with answers, a judge's scores and labels."""
    asked = [prompt(number) for number in numbers]
    jobs = [job("base", each) for each in asked]
    texts = [text_of(int(each.text.split()[-1])) for each in asked]
    with Store.open(path) as store:
        store.plan("s", jobs)
        store.append(
            "generate",
            [(each.key, response(text)) for each, text in zip(jobs, texts, strict=True)],
        )
        for kind, value in (("judge", VerdictValue.REFUSED), ("person", LabelValue.REFUSED)):
            scores = [
                Scored(prompt=each.prompt, key=each.key, score=Score(value=value)) for each in jobs
            ]
            store.add_scores(store.add_scorer(kind, "one", "1"), scores)
    return path


def damaged(data: bytes, draw: random.Random, kind: str) -> bytes:
    """Return a store's bytes with damage of a kind."""
    broken = bytearray(data)
    page = draw.randrange(1, len(data) // PAGE) * PAGE
    if kind == "flips":
        for _ in range(draw.choice((1, 1, 1, 4, 30))):
            broken[draw.randrange(len(data))] ^= draw.randint(1, 255)
    elif kind == "cut":
        broken = broken[: draw.randrange(len(data) // 4, len(data))]
    elif kind == "zero page":
        broken[page : page + PAGE] = bytes(PAGE)
    elif kind == "noise page":
        broken[page : page + PAGE] = draw.randbytes(PAGE)
    elif kind == "swapped pages":
        other = draw.randrange(1, len(data) // PAGE) * PAGE
        broken[page : page + PAGE], broken[other : other + PAGE] = (
            data[other : other + PAGE], data[page : page + PAGE],
        )  # fmt: skip
    else:
        broken[:100] = draw.randbytes(100)
    return bytes(broken)


def trial(number: int, folder: Path, shared: Path) -> Outcome:
    """Damage a store, recover it, ask again what is lost; silent changes and silent losses count as wrong."""
    draw = random.Random(f"store {number}")  # noqa: S311 - reproducible, not a secret
    whole = shared / "whole.sqlite"
    if not whole.is_file():
        filled(folder / "whole.sqlite").rename(whole)
    kind = draw.choice(DAMAGES)
    data = damaged(whole.read_bytes(), draw, kind)
    source, target = folder / "damaged.sqlite", folder / "new.sqlite"
    source.write_bytes(data)
    jobs = [job("base", prompt(number)) for number in range(COUNT)]
    texts = {each.key: text_of(place) for place, each in enumerate(jobs)}
    try:
        recovery = recover(source, target)
    except AftertuneError as error:
        return Outcome(tries=1, wrong=1, note=f"{kind}: {error}")
    with Store.open(target) as store:
        answers = store.calls(list(texts))
        silent = sum(answer.text != texts[call] for call, answer in answers.items())
        missing = store.missing(texts)
        store.plan("s", jobs)
        store.complete(
            "generate", jobs, lambda todo: ((e.key, response(texts[e.key])) for e in todo)
        )
        left = store.missing(texts)
    unsaid = bool(missing) and not recovery.damaged
    written_to = source.read_bytes() != data
    return Outcome(
        tries=1,
        lost=len(left),
        wrong=silent + unsaid + written_to,
        note=f"{kind}: silent {silent}, unsaid {unsaid}" if silent + unsaid + written_to else "",
    )
