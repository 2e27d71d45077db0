"""Batches against a server that checks every line: what comes back, what is asked again, what it costs."""

import json
import re
from contextlib import nullcontext
from dataclasses import replace

import pytest
from aiohttp import web
from batch_server import BatchServer, answered, refused, undone
from endpoint_jobs import DECODING, ask, jobs_for, open_at, user_text
from faithful_server import KEY, Server, completion
from scoring import answers, score_of, scores

from aftertune.core.protocols import Tools
from aftertune.core.records import (
    Attempt,
    DecisionValue,
    FinishReason,
    GenerateJob,
    Intent,
    Question,
    Response,
    Sample,
    VerdictValue,
)
from aftertune.core.registry import find
from aftertune.errors import EngineError, InputError, ModelError, Stopped
from aftertune.models.asking import Asking, Call
from aftertune.models.asking import ask as ask_until_read
from aftertune.models.counting import most_cost
from aftertune.models.endpoint.batch import TRIES, Batching
from aftertune.models.endpoint.budget import Spending, read_prices
from aftertune.models.endpoint.http import Timeouts
from aftertune.models.endpoint.model import Endpoints
from aftertune.models.endpoint.providers import address_of
from aftertune.models.open import Engines
from aftertune.models.remote import side_by_side
from aftertune.score.run import call_key

TEXTS = [f"question {number} é\U0001f600" for number in range(12)]
DEAR = 'currency: EUR\nmodels:\n  "http://127.0.0.1:*#m": {input: 1000, output: 10000}\n'
CALL = (11 * 0.001 + 7 * 0.01) / 2


@pytest.fixture
def opened(tmp_path):
    made = []

    def make(limits=None, **more):
        said = []
        batching = Batching(
            models=("*",),
            folder=tmp_path / "batches",
            note=said.append,
            first_wait=0.01,
            longest_wait=0.02,
            **(limits or {}),
        )
        endpoints = Endpoints(
            timeouts=Timeouts(call=2.0, retry=20.0, first_wait=0.01), batching=batching, **more
        )
        endpoints.said = said
        made.append(endpoints)
        return endpoints

    yield make
    for endpoints in made:
        endpoints.close()


def kept(tmp_path):
    return [json.loads(path.read_text()) for path in sorted((tmp_path / "batches").glob("*.json"))]


def test_a_batch_answers_what_is_asked_at_once_with_the_same_keys(opened, endpoints, tmp_path):
    with BatchServer(looks=2) as server:
        by_batch = open_at(opened(), server)
        jobs = jobs_for(by_batch, TEXTS)
        late = dict(by_batch.generate(jobs))
        assert not server.bodies
        assert (len(server.batches), set(server.done.values())) == (1, {1})
        at_once = open_at(endpoints, server)
        assert [job.key for job in jobs_for(at_once, TEXTS)] == [job.key for job in jobs]
        assert dict(at_once.generate(jobs)) == late
    (batch,) = kept(tmp_path)
    assert batch["step"] == "ended"
    assert sorted(batch["ids"]) == sorted(job.key.hex() for job in jobs)
    assert KEY not in json.dumps(batch)


def test_who_asks_again_is_given_what_the_batch_said_and_pays_nothing(opened, tmp_path):
    with BatchServer() as server:
        first = ask(open_at(opened(), server), TEXTS)
        second = ask(open_at(opened(), server), [*TEXTS, "one more"])
        assert second[:-1] == first
        assert len(server.batches) == 2
        assert set(server.done.values()) == {1}


def test_equal_requests_are_asked_once_and_answer_all_their_jobs(opened):
    with BatchServer() as server:
        model = open_at(opened(), server)
        (job,) = jobs_for(model, ["q"])
        twin = replace(job, key=b"1234567890123456")
        found = dict(model.generate([job, twin]))
        assert found[job.key] == found[twin.key]
        assert sum(server.done.values()) == 1


def test_files_keep_within_the_limits(opened):
    with BatchServer() as server:
        model = open_at(opened({"most_bytes": 2000}), server)
        assert all(isinstance(answer, Response) for answer in ask(model, TEXTS))
        sizes = [file["bytes"] for file in server.files.values() if file["purpose"] == "batch"]
        assert len(sizes) > 1
        assert max(sizes) <= 2000
    with BatchServer() as server:
        model = open_at(opened({"most_requests": 5}), server)
        assert all(isinstance(answer, Response) for answer in ask(model, TEXTS))
        assert len(server.batches) == 3


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_what_a_batch_left_undone_goes_into_the_next_and_nothing_is_asked_twice(opened, status):
    def half(place, line, answer):
        return undone(line, f"batch_{status}") if place % 2 else answer(line)

    with BatchServer(fates=[(status, half), "completed"]) as server:
        assert all(isinstance(answer, Response) for answer in ask(open_at(opened(), server), TEXTS))
        assert len(server.batches) == 2
        assert set(server.done.values()) == {1}


SAID = {
    "0": lambda line, _: refused(line, 400, code="content_filter", message="no"),
    "1": lambda line, _: refused(line, 400, code="context_length_exceeded", message="too long"),
    "2": lambda line, _: refused(line, 400, code=None, message="odd"),
    "3": lambda line, _: answered(line, completion(line["body"], "cut sho", finish="length")),
    "4": lambda line, _: answered(line, completion(line["body"], "x") | {"choices": []}),
    "5": lambda line, _: refused(line, 429, code="rate_limit", message="slow down"),
    "6": lambda _line, _: "{broken",
    "7": lambda _line, _: None,
    "8": lambda line, answer: "\n".join(
        json.dumps(one)
        for one in (answer(line), refused(line, 500), answer(line) | {"custom_id": "x"})
    ),
    "9": lambda line, _: answered(line, None) | {"response": None, "error": None},
    "10": lambda line, _: refused(line, 503, message="busy"),
    "11": lambda line, answer: answer(line),
}
"""What the lines of a batch say, by the number of the question."""


def number_of(line):
    return re.search(r"question (\d+)", user_text(line["body"]))[1]


def test_every_line_has_its_reason(opened):
    def lines(_place, line, answer):
        return SAID[number_of(line)](line, answer)

    with BatchServer(fates=[("completed", lines), "completed"]) as server:
        endpoints = opened()
        found = ask(open_at(endpoints, server), TEXTS)
        assert len(server.batches) == 2
        second = [
            json.loads(line)
            for line in server.contents[server.batches["batch_1"]["input_file_id"]].splitlines()
        ]
    assert found[0].finish_reason is FinishReason.PROVIDER_REFUSAL
    assert [found[1].reason, found[2].reason] == ["too_long", "bad_request"]
    assert (found[3].finish_reason, found[3].text) == (FinishReason.LENGTH, "cut sho")
    assert all(isinstance(answer, Response) for answer in found[3:])
    asked = sorted(int(number_of(line)) for line in second)
    assert asked == [4, 5, 6, 7, 9, 10]


def test_requests_that_always_fail_are_given_up_with_their_reason(opened):
    def one(place, line, answer):
        return (
            refused(line, 500, message="broken")
            if "question 3" in user_text(line["body"])
            else answer(line)
        )

    with BatchServer(fates=[("completed", one)]) as server:
        found = ask(open_at(opened(), server), TEXTS)
        assert isinstance(found[3], Attempt)
        assert found[3].reason == "server_error"
        assert sum(isinstance(answer, Response) for answer in found) == len(TEXTS) - 1
        assert len(server.batches) == TRIES
        with pytest.raises(
            EngineError, match=r"4 batches in a row without an answer \(server_error: 500: broken"
        ):
            ask(open_at(opened(), server), TEXTS)
        assert len(server.batches) == 2 * TRIES, "a rerun asks again"


def test_batches_that_never_answer_end_the_run(opened):
    with BatchServer(fates=[("expired", lambda _place, line, _answer: undone(line))]) as server:
        with pytest.raises(EngineError, match=r"4 batches in a row without an answer \(expired"):
            ask(open_at(opened(), server), TEXTS)
        assert len(server.batches) == TRIES


def test_a_fatal_line_ends_the_run_after_the_others_are_kept_and_a_rerun_asks_it_again(opened):
    def one(place, line, answer):
        return refused(line, 401, message="Incorrect API key") if place == 3 else answer(line)

    with BatchServer(fates=[("completed", one), "completed"]) as server:
        model, done = open_at(opened(), server), {}
        with pytest.raises(ModelError, match="refused the key"):
            done.update(model.generate(jobs_for(model, TEXTS)))
        model = open_at(opened(), server)
        jobs, done = jobs_for(model, TEXTS), {}
        for key, answer in model.generate(jobs):
            done[key] = answer
        assert len(done) == len(TEXTS)
        assert (len(server.batches), set(server.done.values())) == (2, {1})


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_refused_file_is_one_line_and_a_rerun_sends_it_again(opened, tmp_path, elsewhere):
    wrong = {
        "object": "list",
        "data": [{"code": "model_not_found", "message": "no model m", "line": 3, "param": "model"}],
    }
    with BatchServer(fates=[("failed", wrong), "completed"]) as server:
        with pytest.raises(ModelError, match=r"batch batch_0 was refused \(line 3: no model m\)"):
            ask(open_at(opened(), server), TEXTS)
        if elsewhere:
            (tmp_path / "batches").rename(tmp_path / "away")
        assert all(isinstance(answer, Response) for answer in ask(open_at(opened(), server), TEXTS))
        assert len(server.batches) == 2


def test_a_request_that_nobody_takes_is_found_out(opened):
    fate = "completed", lambda _place, line, _answer: refused(line, 400, message="unknown field")
    with (
        BatchServer(fates=[fate]) as server,
        pytest.raises(ModelError, match=r"accepts none of our calls \(400: unknown field"),
    ):
        ask(open_at(opened(), server), TEXTS)


def test_a_full_queue_takes_smaller_batches_one_after_the_other(opened):
    with BatchServer(most_lines=4, looks=1) as server:
        endpoints = opened()
        assert all(
            isinstance(answer, Response) for answer in ask(open_at(endpoints, server), TEXTS)
        )
        assert set(server.done.values()) == {1}
        assert [batch["status"] for batch in server.batches.values()] == [
            "failed",
            "failed",
            *["completed"] * 4,
        ]
        assert "queue is full; going on with batches of 3" in "".join(endpoints.said)


@pytest.mark.parametrize(
    "step", ["list files", "upload", "list batches", "create", "look", "download"]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_reply_that_is_lost_is_looked_up(opened, step, when):
    with BatchServer(fail_at=(step, when)) as server:
        model = open_at(opened(), server)
        try:
            found = ask(model, TEXTS)
        except EngineError as error:
            assert "run again to go on" in str(error)  # noqa: PT017 - either is right, and the end is the same
            found = ask(open_at(opened(), server), TEXTS)
        assert all(isinstance(answer, Response) for answer in found)
        uploads = [file for file in server.files.values() if file["purpose"] == "batch"]
        assert (len(uploads), len(server.batches), set(server.done.values())) == (1, 1, {1})


class Redirecting(BatchServer):
    """Redirects where its parent gives a 503."""

    def _lost(self, name, when):
        lost = super()._lost(name, when)
        return lost and web.Response(status=302, headers={"Location": "/elsewhere"})


@pytest.mark.parametrize("step", ["look", "download"])
def test_a_redirect_of_a_batch_api_that_has_answered_is_tried_again(opened, step):
    with Redirecting(fail_at=(step, "before")) as server:
        answers = ask(open_at(opened(), server), TEXTS)
        assert all(isinstance(answer, Response) for answer in answers)
        assert server.fail_at is None
        assert set(server.done.values()) == {1}


def test_a_batch_api_that_redirects_at_once_is_at_a_wrong_address(opened):
    with (
        Redirecting(fail_at=("list files", "before")) as server,
        pytest.raises(ModelError, match=r"302: redirects to http://127\.0\.0\.1"),
    ):
        ask(open_at(opened(), server), TEXTS)
    assert server.seen == ["list files"]


def test_a_lost_folder_finds_its_batch_again(opened, tmp_path):
    with BatchServer() as server:
        first = ask(open_at(opened(), server), TEXTS)
        (tmp_path / "batches").rename(tmp_path / "away")
        assert ask(open_at(opened(), server), TEXTS) == first
        assert len(server.batches) == 1


def sent(endpoints, model):
    """Send the batches of a model and stop waiting at once."""
    timeouts = endpoints.timeouts
    endpoints.timeouts = replace(timeouts, run=1e-9)
    with pytest.raises(Stopped, match="run_seconds are used up; batches go on"):
        ask(model, TEXTS)
    endpoints.timeouts = timeouts


def test_answers_that_are_gone_are_said_to_be_gone(opened):
    with BatchServer(looks=2) as server:
        endpoints = opened()
        sent(endpoints, open_at(endpoints, server))
        server._end(server.batches["batch_0"])
        server.contents.pop(server.batches["batch_0"]["output_file_id"])
        for _ in range(2):
            with pytest.raises(EngineError, match=r"leave the model out of engine\.batch"):
                ask(open_at(opened(), server), TEXTS)
        assert len(server.batches) == 1


def test_a_batch_is_found_by_its_file_where_the_server_drops_metadata(opened, tmp_path):
    class Forgetful(BatchServer):
        async def create(self, request, body):
            reply = await super().create(request, body)
            for batch in self.batches.values():
                batch["metadata"] = None
            return reply

    with Forgetful(fail_at=("create", "after")) as server:
        first = ask(open_at(opened(), server), TEXTS)
        (tmp_path / "batches").rename(tmp_path / "away")
        assert ask(open_at(opened(), server), TEXTS) == first
        assert (len(server.batches), set(server.done.values())) == (1, {1})


STRANGE = [
    {"id": "file-0", "filename": ["x"], "bytes": {}, "metadata": [1]},
    {"filename": "x"},
    3,
    {"id": 5},
]


@pytest.mark.parametrize(
    "listed",
    [
        {"data": STRANGE},
        {"data": STRANGE, "has_more": True},
        {"data": None},
        {"data": 7, "has_more": True},
    ],
)
def test_lists_may_hold_anything(opened, listed):
    """A server that knows one page only and always has more would be read for ever."""

    class Strange(BatchServer):
        async def list_files(self, *_):
            return web.json_response(listed)

        list_batches = list_files

    with Strange() as server:
        assert all(isinstance(answer, Response) for answer in ask(open_at(opened(), server), TEXTS))
        assert server.seen.count("list batches") <= 3


@pytest.mark.parametrize("step", ["upload", "create", "look"])
@pytest.mark.parametrize("reply", [{"data": []}, [], "gone", {"error": "no"}])
def test_what_is_no_answer_of_a_batch_api_is_one_line(opened, monkeypatch, step, reply):
    class Strange(BatchServer):
        pass

    async def strange(*_):
        return web.json_response(reply)

    monkeypatch.setattr(Strange, step, strange)
    endpoints = opened()
    endpoints.timeouts = replace(endpoints.timeouts, retry=0.1)
    with Strange() as server, pytest.raises(EngineError, match="run again to go on"):
        ask(open_at(endpoints, server), TEXTS)


def test_the_batches_of_several_models_are_under_way_together(opened):
    with BatchServer(looks=3) as server:
        endpoints = opened()
        models, answers = [open_at(endpoints, server, name) for name in ("a", "b")], []
        side_by_side(
            [
                (model, lambda m=model: answers.extend(m.generate(jobs_for(m, TEXTS))))
                for model in models
            ]
        )
        assert server.seen[: server.seen.index("download")].count("create") == 2
        assert len(dict(answers)) == 2 * len(TEXTS)
        assert (len(server.batches), set(server.done.values())) == (2, {1})


def test_unreadable_replies_are_asked_again_in_a_second_batch(opened):
    def reply(body, _):
        return (
            completion(body, "fine" if body["temperature"] else "what?")
            if "question 1 " in user_text(body)
            else None
        )

    with BatchServer(reply=reply) as server:
        model = open_at(opened(), server)
        model._seed_honoured = True
        questions = [(job.key, Question(messages=job.messages)) for job in jobs_for(model, TEXTS)]
        calls = [Call(key=key, questions=(question,)) for key, question in questions]
        how = Asking(
            max_new_tokens=DECODING.max_new_tokens,
            retries=1,
            readable=lambda _, answer: answer.text != "what?",
        )
        found = dict(ask_until_read(model, calls, how))
        assert [
            len(server.contents[batch["input_file_id"]].splitlines())
            for batch in server.batches.values()
        ] == [
            12,
            1,
        ]
        assert found[questions[1][0]].text == "fine"
        later = dict(ask_until_read(open_at(opened(), server), calls[:1], how))
        assert later[questions[0][0]] == found[questions[0][0]]
        assert len(server.batches) == 2


def test_guards_and_judges_ask_by_batch_and_what_cannot_be_read_again_in_a_second_one(
    opened, tmp_path
):
    def reply(body, _):
        if "prompt" in body:
            return {
                **completion(body, ""),
                "choices": [{"index": 0, "text": "yes", "finish_reason": "stop"}],
            }
        if "logprobs" in body:
            return completion(body, "unsafe\nS1" if "bomb" in json.dumps(body) else "safe")
        said = {"reason": "it says how", "label": "complied", "harm": 0.9}
        return completion(
            body,
            json.dumps(said) if body["temperature"] or "cake" in user_text(body) else "well ...",
        )

    (tmp_path / "own.txt").write_text("[INST] {behavior} / {generation} [/INST]")
    with BatchServer(reply=reply) as server, Engines(endpoints=opened()) as engines:
        tools = Tools(open_model=engines.open, folder=tmp_path)
        guard = find("guard", "llama-guard")(tools, model=f"{server.url}#guard")
        screened = [Sample(side="prompt", prompt=text) for text in ("bomb", "cake")]
        assert [score.value for score in scores(guard, screened)] == [
            DecisionValue.BLOCK,
            DecisionValue.ALLOW,
        ]
        judged = [
            Sample(behavior="b", task="text", intent=Intent.HARMFUL, prompt=text, response="r")
            for text in ("bomb", "cake")
        ]
        judge = find("judge", "rubric")(tools, model=f"{server.url}#judge")
        judge.engine._seed_honoured = True
        given = answers(judge, judged)
        assert [score_of(judge, sample, given).value for sample in judged] == [
            VerdictValue.COMPLIED
        ] * 2
        assert [given[call_key(judge, sample)].detail["tries"] for sample in judged] == [2, 1]
        own = find("judge", "harmbench")(tools, model=f"{server.url}#own", prompt="own.txt")
        assert [scores(own, [sample])[0].value for sample in judged] == [VerdictValue.COMPLIED] * 2
        sizes = [
            len(server.contents[batch["input_file_id"]].splitlines())
            for batch in server.batches.values()
        ]
        assert sizes == [2, 2, 1, 1, 1]
        assert [batch["endpoint"] for batch in server.batches.values()][-1] == "/v1/completions"
        assert not server.bodies


def test_moderation_is_asked_for_at_once(opened):
    def reply(_body, _request):
        one = {
            "flagged": False,
            "categories": {"violence": False},
            "category_scores": {"violence": 0.1},
        }
        return web.json_response({"id": "m", "model": "m", "results": [one]})

    with BatchServer(reply=reply) as server:
        model = open_at(opened(), server)
        job = GenerateJob(
            key=b"1" * 16, messages=(), decoding=DECODING, question=Question(moderated="a text")
        )
        assert isinstance(dict(model.generate([job]))[b"1" * 16], Response)
        assert not server.batches


def test_the_seed_is_looked_at_as_it_is_at_once(opened):
    with BatchServer() as server:
        found = ask(open_at(opened(), server), TEXTS, replace(DECODING, temperature=1.0))
        assert "seed" not in found[0].detail
        assert len(server.bodies) == 2


# Money


@pytest.fixture
def dear(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(DEAR)
    return path


def test_a_batch_costs_half(opened, dear, tmp_path):
    with BatchServer() as server:
        endpoints = opened(prices=dear, accounts=tmp_path / "spending.json", budget=100.0)
        model = open_at(endpoints, server)
        most = most_cost(model, jobs_for(model, TEXTS))
        ask(model, TEXTS)
        at_once = Endpoints(prices=dear)
        same = open_at(at_once, server)
        assert most == pytest.approx(most_cost(same, jobs_for(model, TEXTS)) / 2)
        at_once.close()
    told = json.loads((tmp_path / "spending.json").read_text())
    (entry,) = told["models"].values()
    assert (entry["calls"], entry["prompt_tokens"], entry["completion_tokens"]) == (12, 132, 84)
    assert entry["cost"] == pytest.approx(12 * CALL)
    assert endpoints.spending.room == pytest.approx(100.0 - 12 * CALL)


def test_the_budget_holds_over_batches_and_runs(opened, dear, tmp_path):
    accounts, done = tmp_path / "spending.json", {}
    with BatchServer() as server:
        for budget, finishes in ((0.5, False), (0.5, False), (100.0, True)):
            model = open_at(opened(prices=dear, accounts=accounts, budget=budget), server)
            todo = [job for job in jobs_for(model, TEXTS) if job.key not in done]
            with (
                nullcontext()
                if finishes
                else pytest.raises(Stopped, match=r"raise engine\.budget and run again")
            ):
                done.update(model.generate(todo))
            assert finishes == (len(done) == len(TEXTS))
            assert (
                sum(server.done.values()) * CALL
                <= Spending(read_prices(dear), None, accounts).spent + 1e-9
            )
            assert Spending(read_prices(dear), None, accounts).spent <= budget
            assert len(done) > 0
        assert set(server.done.values()) == {1}


def test_a_batch_under_way_is_held_back_in_later_runs_until_it_has_ended(opened, dear, tmp_path):
    with BatchServer(looks=1) as server:
        endpoints = opened(prices=dear, accounts=tmp_path / "s.json", budget=3.0)
        sent(endpoints, open_at(endpoints, server))
        held = 3.0 - endpoints.spending.room
        assert held > 12 * 20 * 0.005
        later = opened(prices=dear, accounts=tmp_path / "s.json", budget=3.0)
        assert later.spending.room == pytest.approx(3.0 - held)
        ask(open_at(later, server), TEXTS)
        assert later.spending.room == pytest.approx(3.0 - 12 * CALL)
        assert len(server.batches) == 1


def test_a_batch_is_charged_once_though_a_kill_came_between_the_account_and_the_ledger(
    opened, dear, tmp_path
):
    with BatchServer() as server:
        first = ask(open_at(opened(prices=dear, accounts=tmp_path / "s.json"), server), TEXTS)
        (path,) = (tmp_path / "batches").glob("*.json")
        path.write_text(path.read_text().replace('"ended"', '"waiting"'))
        later = opened(prices=dear, accounts=tmp_path / "s.json", budget=3.0)
        assert later.spending.room == pytest.approx(3.0 - 12 * CALL)
        assert ask(open_at(later, server), TEXTS) == first
        assert later.spending.room == pytest.approx(3.0 - 12 * CALL)
        assert len(server.batches) == 1


def test_a_budget_that_one_request_could_pass_sends_nothing(opened, dear):
    with BatchServer() as server:
        with pytest.raises(Stopped, match=r"raise engine\.budget"):
            ask(open_at(opened(prices=dear, budget=0.05), server), TEXTS)
        assert not server.seen


# What cannot be asked


def test_a_server_without_batches_is_one_line(opened):
    with (
        Server() as server,
        pytest.raises(ModelError, match=r"has no batch API \(404 for /files\); leave it out"),
    ):
        ask(open_at(opened(), server), TEXTS)


def test_a_wrong_key_names_the_variable_and_not_the_key(opened, monkeypatch):
    monkeypatch.setenv("AFTERTUNE_API_KEY", "wrong-key-000")
    with (
        BatchServer() as server,
        pytest.raises(ModelError, match="set AFTERTUNE_API_KEY") as caught,
    ):
        ask(open_at(opened(), server), TEXTS)
    assert "wrong-key" not in str(caught.value)


def test_providers_without_such_an_api_are_refused_when_they_are_opened(opened, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://x.openai.azure.com")
    for reference in ("azure:gpt", "gemini:pro", "together:m", "openrouter:m"):
        with pytest.raises(
            ModelError,
            match=r"no batch API of OpenAI's kind; name those that have in engine\.batch",
        ):
            opened().open(address_of(reference), "m")
    assert opened().open(address_of("openai:gpt-4o"), "m").by_batch
    assert not opened().open(address_of("http://127.0.0.1:1/v1#m"), "m", own=True).by_batch


def test_a_broken_ledger_is_said_to_be_broken(opened, tmp_path):
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches" / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json: cannot be read .* mend it"):
        opened().ledger  # noqa: B018 - it is read when it is looked at


def test_the_time_of_a_run_ends_the_watching_and_not_the_batch(opened):
    with BatchServer(looks=10**6) as server:
        endpoints = opened()
        endpoints.timeouts = Timeouts(call=2.0, retry=1.0, run=0.1, first_wait=0.01)
        with pytest.raises(Stopped, match=r"run_seconds are used up; batches go on"):
            ask(open_at(endpoints, server), TEXTS)
        server.looks = 0
        ask(open_at(opened(), server), TEXTS)
        assert len(server.batches) == 1
