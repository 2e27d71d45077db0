"""`inspect:PROVIDER/MODEL` against a real local server, by way of Inspect's own provider."""

import importlib.util

import pytest
from aiohttp import web
from endpoint_jobs import DECODING, ask, jobs_for, user_text
from faithful_server import KEY, Server, completion

from aftertune.cli.run import send_warnings
from aftertune.core.records import Attempt, Decoding, FinishReason, GenerateJob, Message, Question
from aftertune.errors import EngineError, ModelError, Stopped
from aftertune.models.bridge import PREFIX, address_of, inspect_name, without_secrets
from aftertune.models.endpoint.batch import Batching
from aftertune.models.endpoint.http import Timeouts
from aftertune.models.endpoint.model import Endpoints
from aftertune.models.open import Engines
from aftertune.models.reference import parse

MODEL = "inspect:openai-api/local/m"


@pytest.fixture
def opened(monkeypatch):
    """Opens models of Inspect's ``openai-api`` provider at a server."""
    engines = []

    def open_at(server, *, key=KEY, **limits):
        monkeypatch.setenv("LOCAL_BASE_URL", server.url)
        monkeypatch.setenv("LOCAL_API_KEY", key)
        engines.append(Engines(endpoints=Endpoints(timeouts=Timeouts(call=20, retry=20, **limits))))
        return engines[-1].open(MODEL)

    yield open_at
    for one in engines:
        one.close()


def test_every_job_is_answered_and_nothing_holds_the_key(opened):
    with Server() as server:
        model = opened(server)
        answers = ask(model, [f"question {i}" for i in range(60)])
        assert {answer.text for answer in answers} == {
            answer.text for answer in answers if answer.text.startswith("Sorry")
        }
        assert len({answer.text for answer in answers}) == 60
        assert all(answer.finish_reason is FinishReason.STOP for answer in answers)
        assert (answers[0].prompt_tokens, answers[0].completion_tokens) == (11, 7)
        assert server.most_open > 1
        body = server.bodies[0]
        assert (body["max_tokens"], body["temperature"]) == (20, 0.0)
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        assert model.identity == {
            "engine": "inspect",
            "model": "openai-api/local/m",
            "url": server.url,
        }
        assert KEY not in repr(answers) + repr(model.identity)


def test_samples_seeds_and_settings_have_keys_and_seeds_of_their_own(opened):
    with Server() as server:
        model = opened(server)
        drawn = Decoding(temperature=0.9, max_new_tokens=20)
        variants = [
            (DECODING, 0),
            (drawn, 0),
            (drawn, 1),
            (Decoding(temperature=0.9, max_new_tokens=20, seed=1), 0),
        ]
        keys = {jobs_for(model, ["q"], decoding, sample)[0].key for decoding, sample in variants}
        texts = {ask(model, ["q"], decoding, sample)[0].text for decoding, sample in variants}
        assert len(keys) == len(texts) == 4
        assert (
            len({body["seed"] for body in server.bodies}) == 3
        )  # the greedy one has the seed of sample 0 too
        assert [body.get("top_p") for body in server.bodies] == [None, 1.0, 1.0, 1.0]


def finishing(reason):
    return lambda body, _: web.json_response(completion(body, "half an answ", finish=reason))


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("length", FinishReason.LENGTH), ("content_filter", FinishReason.PROVIDER_REFUSAL)],
)
def test_why_an_answer_ended_is_kept(opened, reason, finish):
    with Server(reply=finishing(reason)) as server:
        (answer,) = ask(opened(server), ["q"])
    assert answer.finish_reason is finish
    assert bool(answer.text) == (finish is FinishReason.LENGTH)


def test_a_call_that_fails_is_an_attempt_and_the_rest_is_answered(opened):
    def refuse_one(body, _):
        if user_text(body) == "bad":
            return web.json_response({"error": {"message": f"odd request, {KEY}"}}, status=400)
        return None

    with Server(reply=refuse_one) as server:
        good, bad = ask(opened(server), ["good", "bad"])
    assert good.text
    assert isinstance(bad, Attempt)
    assert bad.reason == "bad_request"
    assert KEY not in bad.detail


def test_a_wrong_key_ends_it_without_showing_the_key(opened):
    with Server() as server:
        model = opened(server, key="wrong-key-93d1f2aa")
        with pytest.raises(ModelError, match="refused the key") as raised:
            ask(model, ["q"])
    assert "wrong-key-93d1f2aa" not in str(raised.value)


def test_it_is_said_where_prompts_would_go(opened):
    with Server() as server:
        (said,) = send_warnings([opened(server)])
    assert "Inspect's openai-api/local/m" in said
    assert "flagged" in said


def test_the_time_of_a_run_is_kept(opened):
    with Server() as server, pytest.raises(Stopped, match="run_seconds"):
        ask(opened(server, run=1e-9), ["q"])


def test_a_question_needs_no_template_of_its_own(opened):
    said = (Message(role="user", content="Is this fine? [/INST] yes"),)
    with Server() as server:
        model = opened(server)
        job = GenerateJob(
            key=b"k" * 16, messages=(), decoding=DECODING, question=Question(messages=said)
        )
        assert [answer.text for _, answer in model.generate([job])]
        assert "[/INST]" not in user_text(server.bodies[0])
        templated = GenerateJob(
            key=b"t" * 16, messages=(), decoding=DECODING, question=Question(pattern="x")
        )
        with pytest.raises(ModelError, match="its own template"):
            list(model.generate([templated]))
        for cannot in (lambda: model.nll([]), lambda: model.choice_logprobs([], [])):
            with pytest.raises(EngineError, match="use a local model"):
                cannot()


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("inspect:", "write inspect:PROVIDER/MODEL"),
        ("inspect:openai", "write inspect:PROVIDER/MODEL"),
        ("inspect:hf/some/model", "name the folder or the hub id itself"),
        ("inspect:no-such/model", "not recognized"),
        ("inspect:openai-api/nokey/m", "NOKEY_API_KEY"),
    ],
)
def test_what_cannot_be_opened_is_said_in_one_line(reference, said):
    with Engines() as engines, pytest.raises(ModelError, match=said) as raised:
        engines.open(reference)
    assert "\n" not in str(raised.value)


def test_without_inspect_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with (
        Engines() as engines,
        pytest.raises(ModelError, match=r"pip install 'aftertune\[inspect\]'"),
    ):
        engines.open(MODEL)


def test_a_budget_that_nobody_keeps_is_refused():
    with (
        Engines(endpoints=Endpoints(budget=5.0)) as engines,
        pytest.raises(ModelError, match="budget cannot be kept"),
    ):
        engines.open(MODEL)


def test_an_adapter_has_no_such_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(ModelError, match="name its weights"):
        parse(str(tmp_path), base=MODEL)


def test_names_and_addresses():
    assert inspect_name("inspect:a/b/c").model == "a/b/c"
    assert inspect_name("inspect:a/b").name == f"{PREFIX}a/b"
    assert address_of("https://me:secret@host.example/v1/?key=1") == "https://host.example/v1"
    assert address_of(None) == ""


def test_what_looks_like_a_key_is_taken_out(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "abcdefghij")
    said = without_secrets("Incorrect API key: abcdefghij, or sk-proj-1234*****xyz")
    assert "abcdefghij" not in said
    assert "1234" not in said


@pytest.mark.parametrize(("patterns", "by_batch"), [(("*",), True), (("openai:*",), False)])
def test_inspect_is_told_to_ask_by_batch_where_the_study_says_so(monkeypatch, patterns, by_batch):
    """Inspect's own batches need the provider's service; what is ours is that it is told."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0")
    with Engines(endpoints=Endpoints(batching=Batching(models=patterns))) as engines:
        model = engines.open("inspect:openai/gpt-4o-mini")
        assert model.by_batch is by_batch
        configs = []

        async def generate(_messages, config, **_):
            configs.append(config)
            raise TimeoutError("nobody there")

        model._model.generate = generate
        ask(model, ["q"])
    assert [config.batch for config in configs] == [True if by_batch else None]
    assert [config.attempt_timeout for config in configs] == [None if by_batch else 120]


def test_a_provider_without_batches_is_asked_at_once(opened):
    with Server() as server:
        assert not opened(server).by_batch
