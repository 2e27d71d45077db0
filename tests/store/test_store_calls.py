import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_study import job, key, prompt, response

from aftertune.core.records import Attempt, FinishReason, Response
from aftertune.errors import StoreError
from aftertune.store import Counts, Store

TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)


def test_an_answer_comes_back_as_it_was_given(store):
    given_response = Response(
        text="nul \0, half a pair \ud83d, and \U0001f642",
        finish_reason=FinishReason.LENGTH,
        prompt_tokens=5,
        completion_tokens=7,
        detail={"logprobs": {"yes": -0.25}, "served": "half \ude00"},
    )
    store.append("generate", [(key(1), given_response)])
    assert store.call(key(1)) == given_response
    assert store.call(key(2)) is None


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(TEXTS, max_size=5))
def test_any_text_survives(store, texts):
    answers = {key(text): response(text) for text in texts}
    store.append("judge", answers.items())
    assert store.calls(list(answers)) == answers


def test_the_first_answer_under_a_key_stays(store):
    store.append("generate", [(key(1), response("first"))])
    store.append("generate", [(key(1), response("second"))])
    assert store.call(key(1)).text == "first"


def test_an_attempt_is_no_answer_and_a_rerun_tries_again(store):
    counts = store.append(
        "guard",
        [(key(1), Attempt(reason="timeout", detail="half \ud83d")), (key(2), response("x"))],
    )
    assert counts == Counts(done=1, failed=1)
    assert store.missing([key(2), key(1)]) == [key(1)]
    assert store.attempts() == {"timeout": 1}
    store.append("guard", [(key(1), response("now"))])
    assert store.missing([key(1)]) == []
    assert store.attempts() == {}


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(there=st.sets(st.integers(0, 30)), asked=st.lists(st.integers(0, 30)))
def test_missing_is_what_is_asked_less_what_is_there_in_order(tmp_path_factory, there, asked):
    with Store.open(tmp_path_factory.mktemp("store") / "s.db") as store:
        store.append("generate", [(key(number), response(str(number))) for number in there])
        expected = [key(number) for number in dict.fromkeys(asked) if number not in there]
        assert store.missing(map(key, asked)) == expected


def test_complete_does_what_is_missing_and_each_call_once(store):
    jobs = [job("base", prompt(number)) for number in (0, 1, 1, 2)]
    store.append("generate", [(jobs[0].key, response("there"))])
    asked = []

    def work(todo):
        for each in todo:
            asked.append(each)
            yield each.key, response(each.prompt.text)

    steps = []
    assert store.complete("generate", jobs, work, steps.append) == Counts(
        done=2, failed=0, skipped=2
    )
    assert asked == [jobs[1], jobs[3]]
    assert steps == [1, 1]
    assert store.complete("generate", jobs, work) == Counts(done=0, failed=0, skipped=4)
    assert len(asked) == 2


def test_what_came_before_a_failing_stream_is_kept(store):
    def stream():
        yield key(1), response("one")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.append("generate", stream())
    assert store.call(key(1)).text == "one"


def test_a_slow_stream_is_committed_while_it_goes_on(store):
    release = threading.Event()

    def slow():
        yield key(1), response("one")
        release.wait(20)

    thread = threading.Thread(target=store.append, args=("generate", slow()))
    thread.start()
    try:
        start = time.monotonic()
        with Store.open(store.path, write=False) as other:
            while other.call(key(1)) is None and time.monotonic() < start + 10:
                time.sleep(0.02)
        assert time.monotonic() - start < 10
    finally:
        release.set()
        thread.join()


def test_a_key_of_another_length_is_refused(store):
    with pytest.raises(ValueError, match="16 bytes"):
        store.append("generate", [(b"short", response("x"))])


def test_a_reader_cannot_write(store):
    with (
        Store.open(store.path, write=False) as reader,
        pytest.raises(StoreError, match="reading only"),
    ):
        reader.append("generate", [])


def test_a_row_that_sqlite_cannot_hold_is_an_error_and_not_a_hang(store):
    monster = Response(
        text="", finish_reason=FinishReason.STOP, prompt_tokens=2**70, completion_tokens=0
    )
    with pytest.raises(StoreError, match="too large"):
        store.append("generate", [(key(1), monster)])
