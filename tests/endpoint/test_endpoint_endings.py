"""A run ends whatever a server says: foreign values are no texts, and closing waits for nothing for ever."""

import asyncio
import json
import threading

import pytest
from aiohttp import web
from endpoint_jobs import jobs_for
from faithful_server import KEY, Server, completion
from test_endpoint_study import aftertune, write_study

from aftertune.models.open import Engines
from aftertune.store import Store


@pytest.mark.parametrize("value", [None, 17, ["a"], {"b": 1}, ""])
def test_a_foreign_text_beside_a_message_ends_no_run(tmp_path, value):
    """Every fifth reply has it, while other calls are open; the message's content is the answer."""
    count = 0

    def reply(body, _):
        nonlocal count
        count += 1
        whole = completion(body, "Sorry, I cannot help with that.")
        if count % 5 == 0:
            whole["choices"][0]["text"] = value
        return web.json_response(whole)

    with Server(reply=reply, seconds=0.1) as server:
        study = write_study(tmp_path / "s", server, 15)
        ended = aftertune(study, seconds=300)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    with Store.open(study.parent / "run" / "store.sqlite", write=False) as store:
        texts = {answer.response and answer.response.text for answer in store.responses("served")}
    assert texts == {"Sorry, I cannot help with that."}


@pytest.mark.parametrize("content", [17, {"b": 1}, [{"type": "text", "text": 3}], [7], True])
def test_content_that_is_no_text_is_an_attempt_and_ends_no_run(tmp_path, content):
    def reply(body, _):
        odd = "number 3" in body["messages"][-1]["content"]
        return web.json_response(completion(body, content if odd else "Sorry."))

    with Server(reply=reply, seconds=0.1) as server:
        engine = {"call_seconds": 2.0, "retry_seconds": 0.5}
        study = write_study(tmp_path / "s", server, 5, engine=engine)
        ended = aftertune(study, seconds=300)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    notes = json.loads((study.parent / "told.json").read_text())["notes"]
    assert any("have no answer (broken_reply)" in note for note in notes)


# The clients of Inspect's providers are left to the garbage collector, which may find their sockets open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("reference", ["{url}#m", "inspect:openai-api/local/m"])
def test_answers_that_outlive_their_engine_let_go(monkeypatch, reference):
    """What raises in the midst of an answer holds the iterator until the engines are closed."""
    monkeypatch.setenv("LOCAL_API_KEY", KEY)

    class Slow(Server):
        async def _answer(self, request):
            if "question 0" not in await request.text():
                await asyncio.sleep(30)
            return await super()._answer(request)

    def ask():
        with Slow() as server:
            monkeypatch.setenv("LOCAL_BASE_URL", server.url)
            with Engines() as engines:
                model = engines.open(reference.format(url=server.url))
                answers = model.generate(jobs_for(model, [f"question {i}" for i in range(8)]))
                next(answers)
            answers.close()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(25)
    assert not thread.is_alive()
