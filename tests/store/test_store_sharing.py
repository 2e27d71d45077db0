"""Rows travel from a worker's store to the driver's and back: each once, and texts only where they are still to be read."""

import sqlite3

import pytest

from aftertune.core.keys import content_key
from aftertune.core.records import (
    Decoding,
    FinishReason,
    Intent,
    Prompt,
    Response,
    Score,
    VerdictValue,
)
from aftertune.store import PlannedJob, Scored, Store
from aftertune.store.sharing import (
    Outbox,
    add_calls,
    copy_known,
    packed_without_texts,
    unpacked,
)

PROMPTS = [
    Prompt(behavior=f"b{n}", template="t", task="text", intent=Intent.HARMFUL, text=f"say {n}", set="s")
    for n in range(6)
]  # fmt: skip
KEYS = [content_key("call", n) for n in range(6)]


def answer(text):
    return Response(
        text=text, finish_reason=FinishReason.STOP, prompt_tokens=3, completion_tokens=2
    )


def jobs(decoding, numbers=range(6)):
    return [
        PlannedJob(model="m", prompt=PROMPTS[n], system="none", decoding=decoding, sample=0, key=KEYS[n])
        for n in numbers
    ]  # fmt: skip


@pytest.fixture
def decoding():
    return Decoding(max_new_tokens=4)


@pytest.fixture
def worker(tmp_path, decoding):
    """A worker's store with six planned calls, four of them answered, two of these judged."""
    with Store.open(tmp_path / "worker" / "store.sqlite") as store:
        store.plan("s", jobs(decoding))
        store.append("generate", [(KEYS[n], answer(f"text {n}")) for n in range(4)])
        judge = store.add_scorer("judge", "rules", "1")
        store.add_scores(judge, [verdict(n) for n in range(2)])
        store.set_meta("s", "probe:1", {"change": 0.5})
        yield store


def verdict(number):
    score = Score(value=VerdictValue.REFUSED, label="sorry")
    return Scored(prompt=PROMPTS[number], key=KEYS[number], score=score)


def sent(packed, folder):
    """Return what a packed store holds: texts and the number of scores."""
    with unpacked(packed, folder / "sent.sqlite") as file:
        connection = sqlite3.connect(file)
        texts = {text.decode() for (text,) in connection.execute("SELECT text FROM text")}
        (scores,) = connection.execute("SELECT count(*) FROM reading").fetchone()
        connection.close()
    return texts, scores


def test_every_row_is_given_once_and_the_driver_has_all_of_them(worker, tmp_path, decoding):
    outbox = Outbox(worker.path)
    assert outbox.waiting() == 4
    packed = [outbox.take(tmp_path / "out.sqlite")]
    assert outbox.take(tmp_path / "out.sqlite") is None
    worker.append("generate", [(KEYS[4], answer("text 4"))])
    assert outbox.waiting() == 1
    worker.add_scores(worker.add_scorer("judge", "rules", "1"), [verdict(2)])
    packed.append(outbox.take(tmp_path / "out.sqlite"))
    outbox.close()
    assert [sent(part, tmp_path) for part in packed] == [
        ({f"text {n}" for n in range(4)}, 2),
        ({"text 4"}, 1),
    ]
    with Store.open(tmp_path / "driver.sqlite") as driver:
        for part in [*packed, packed[0]]:  # one that comes twice does no harm
            with unpacked(part, tmp_path / "in.sqlite") as file:
                driver.merge(file)
        driver.plan("s", jobs(decoding))
        worker_rows, driver_rows = (
            list(store.responses("s", [store.add_scorer("judge", "rules", "1")]))
            for store in (worker, driver)
        )
        assert driver_rows == worker_rows
        assert driver.get_meta("s", "probe:1") == {"change": 0.5}
    assert not list(tmp_path.glob("out.sqlite*"))


def test_a_seed_says_which_calls_are_done_and_holds_texts_only_where_they_are_wanted(
    worker, tmp_path, decoding
):
    file = tmp_path / "seed.sqlite"
    with Store.open(file) as seed:
        seed.plan("s", jobs(decoding, range(3)))
    copy_known(file, worker.path)
    add_calls(file, "generate", [KEYS[3], KEYS[5]])
    copy_known(file, worker.path)
    with Store.open(file) as seed:
        assert seed.missing(KEYS) == KEYS[4:]
        judge = seed.add_scorer("judge", "rules", "1")
        unscored = [place.key for place in seed.unscored("s", judge)]
        assert unscored == [KEYS[2]]
        assert seed.get_meta("s", "probe:1") == {"change": 0.5}
    packed = packed_without_texts(file, unscored)
    assert sent(packed, tmp_path) == ({"text 2"}, 2)
    with Store.open(tmp_path / "next" / "store.sqlite") as store:
        with unpacked(packed, tmp_path / "in.sqlite") as incoming:
            store.merge(incoming)
            outbox = Outbox(store.path)
            outbox.leave_out(incoming)
        assert outbox.waiting() == 0
        assert store.missing(KEYS) == KEYS[4:]
        store.append("generate", [(KEYS[4], answer("text 4"))])
        assert sent(outbox.take(tmp_path / "out.sqlite"), tmp_path)[0] == {"text 4"}
        outbox.close()
