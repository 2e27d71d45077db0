import gc
import gzip
import json
import time
from contextlib import closing
from email.utils import formatdate

import pytest
from aiohttp import web
from endpoint_jobs import ask, jobs_for, open_at, user_text
from faithful_server import FAULTS, KEY, Server, answer_of, completion

from aftertune.core.records import Attempt, FinishReason, Response
from aftertune.errors import EngineError, ModelError, Stopped
from aftertune.models.endpoint.http import ConnectionLimit, Timeouts
from aftertune.models.endpoint.model import Endpoints


def on(text, reply):
    """Let a server reply so to one question, and well to all others."""
    return lambda body, request: reply(body, request) if user_text(body) == text else None


def error(status, headers=None, **fields):
    return lambda *_: web.json_response(
        {"error": {"message": "no", **fields}}, status=status, headers=headers
    )


def said(body, text, finish="stop", **more):
    return web.json_response(completion(body, text, finish, **more))


def events(body, text, finish="stop", **more):
    """Write an answer as a server does that knows streams only."""
    deltas = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in text), more]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    chunks = [{"model": body["model"], "choices": [choice]} for choice in choices]
    chunks.append({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}})
    written = [*map(json.dumps, chunks), "[DONE]"]
    return "".join(f"data: {chunk}\n\n" for chunk in written)


def packed(body):
    return web.Response(body=gzip.compress(body, 1), headers={"Content-Encoding": "gzip"})


def test_a_server_that_knows_streams_only_is_read(endpoints):
    text = f"Ask for {KEY}."

    def reply(body, _):
        written = events(body, text, "length", reasoning_content="Hm.")
        return web.Response(text=written, content_type="text/event-stream")

    with Server(reply=reply) as server:
        (answer,) = ask(open_at(endpoints, server), ["q"])
    assert (answer.text, answer.reasoning) == ("Ask for [key removed].", "Hm.")
    assert answer.finish_reason is FinishReason.LENGTH
    assert (answer.prompt_tokens, answer.completion_tokens) == (5, 3)


@pytest.mark.parametrize("count", [10**40, 2**63, -5, 1.5, "five", True])
def test_a_token_count_that_is_none_is_told_as_missing(endpoints, count):
    usage = {"prompt_tokens": count, "completion_tokens": 3}
    with Server(
        reply=on(
            "bad", lambda body, _: web.json_response(completion(body, "yes") | {"usage": usage})
        )
    ) as server:
        bad, good = ask(open_at(endpoints, server), ["bad", "good"])
    assert (bad.text, bad.prompt_tokens, bad.detail["usage"]) == ("yes", 0, "missing")
    assert "usage" not in good.detail


def test_a_packed_answer_is_unpacked(endpoints):
    with Server(
        reply=on("bad", lambda body, _: packed(json.dumps(completion(body, "yes")).encode()))
    ) as server:
        bad, _ = ask(open_at(endpoints, server), ["bad", "good"])
    assert bad.text == "yes"


def test_five_hundred_prompts_are_all_answered_while_a_fifth_of_the_calls_fails():
    endpoints = Endpoints(timeouts=Timeouts(call=2.0, retry=60.0, first_wait=0.01))
    with Server(faults=FAULTS, share=0.2, seed=3) as server:
        model = open_at(endpoints, server)
        jobs = jobs_for(model, [f"question {i}" for i in range(500)])
        answers = dict(model.generate(jobs))
        endpoints.close()
    assert set(answers) == {job.key for job in jobs}
    assert all(isinstance(answer, Response) for answer in answers.values())
    for job in jobs:
        messages = [{"role": message.role, "content": message.content} for message in job.messages]
        assert answers[job.key].text == answer_of({"messages": messages, "temperature": 0.0})
    assert set(server.injected) == set(FAULTS)
    assert max(server.answered.values()) == 1, "a call was made again after its answer was there"
    assert KEY not in repr(answers)


@pytest.mark.parametrize(
    "reply",
    [
        error(400, code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
        error(400, code=None, innererror={"code": "ResponsibleAIPolicyViolation"}),
        error(400, code="content_policy_violation"),
        error(400, code="invalid_prompt", message="Your prompt was flagged as violating our usage policy."),
        error(403, code=403, metadata={"reasons": ["violence"], "flagged_input": "…"}),
        lambda body, _: said(body, "", "content_filter"),
        lambda body, _: web.json_response(completion(body, "") | {"choices": [], "promptFeedback": {"blockReason": "SAFETY"}}),
        lambda body, _: web.json_response({"error": {"code": 400, "message": "no", "type": "content_filter"}}),
    ],
)  # fmt: skip
def test_a_refusal_by_the_providers_filter_is_a_final_answer_of_its_own_kind(endpoints, reply):
    with Server(reply=on("bad", reply)) as server:
        bad, good = ask(open_at(endpoints, server), ["bad", "good"])
        assert sum(server.asked.values()) == 2
    assert bad.finish_reason is FinishReason.PROVIDER_REFUSAL
    assert good.finish_reason is FinishReason.STOP


@pytest.mark.parametrize("words", ["our policy on tokens", "content"])
def test_a_mere_word_in_an_error_is_no_refusal(endpoints, words):
    with Server(reply=on("bad", error(400, message=words, code="invalid_prompt"))) as server:
        bad, _ = ask(open_at(endpoints, server), ["bad", "good"])
    assert (bad.reason, KEY in bad.detail) == ("bad_request", False)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_at_once_and_names_the_variable(endpoints, monkeypatch, status):
    monkeypatch.setenv("AFTERTUNE_API_KEY", "another-key-0000")
    began = time.monotonic()
    with (
        Server(reply=error(status)) as server,
        pytest.raises(ModelError, match="AFTERTUNE_API_KEY") as caught,
    ):
        ask(open_at(endpoints, server), [f"q{i}" for i in range(200)])
    assert "another-key-0000" not in str(caught.value)
    assert sum(server.asked.values()) == 1
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("reply", "kind", "match"),
    [
        (error(404, code="model_not_found"), ModelError, "no such model or path"),
        (error(405), ModelError, "no chat-completions address"),
        (error(402), EngineError, "no credit"),
        (error(429, code="insufficient_quota"), EngineError, "no credit"),
        (error(400), ModelError, "accepts none of our calls"),
        (error(429, headers={"Retry-After": "3600"}), Stopped, "asks to wait 3,600 s"),
        (
            error(429, headers={"Retry-After": formatdate(time.time() + 86_400, usegmt=True)}),
            Stopped,
            "asks to wait",
        ),
    ],
)
def test_what_no_further_call_can_mend_ends_the_run(endpoints, reply, kind, match):
    with Server(reply=reply) as server, pytest.raises(kind, match=match) as caught:
        ask(open_at(endpoints, server), [f"q{i}" for i in range(100)])
    assert "\n" not in str(caught.value)
    assert sum(server.asked.values()) <= 32


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://127.0.0.1:9/steal", "307: redirects to http://127.0.0.1:9, which"),
        (
            "https://me:pass-word@Proxy.example/sign-in?token=t0ken#frag",
            "redirects to https://proxy.example,",
        ),
        ("/elsewhere", "redirects to ROOT,"),
        ("//[::1]:8000/", "redirects to http://[::1]:8000,"),
        (f"https://{KEY}.example/", "307: redirects, which"),
        (f"https://%41{KEY[1:]}.example/", "307: redirects, which"),
        ("http://[broken", "307: redirects, which"),
        ("http://h:70000/", "307: redirects, which"),
        ("", "307: redirects, which"),
    ],
)
def test_an_address_that_redirects_before_it_has_answered_is_wrong_and_nothing_secret_is_repeated(
    endpoints, location, words
):
    with (
        Server(reply=error(307, headers={"Location": location})) as server,
        pytest.raises(ModelError, match="no chat-completions address") as caught,
    ):
        ask(open_at(endpoints, server), [f"q{i}" for i in range(100)])
    message = str(caught.value)
    assert words.replace("ROOT", server.root) in message
    assert not any(secret in message for secret in (KEY[1:], "pass-word", "t0ken", "\n"))
    assert sum(server.asked.values()) == 1, "followed, or asked again"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_an_address_that_has_answered_is_tried_again_like_an_overload(status):
    """Every prompt behind the first is redirected once; the wait that the redirect asks for is kept."""
    redirected = set()

    def reply(body, request):
        text = user_text(body)
        if text == "q0" or text in redirected:
            return None
        redirected.add(text)
        headers = {"Location": request.path, "Retry-After": "0.05"}
        return web.Response(status=status, headers=headers)

    endpoints = Endpoints(timeouts=Timeouts(call=8.0, retry=60.0, first_wait=0.01))
    with closing(endpoints), Server(reply=reply) as server:
        answers = ask(open_at(endpoints, server), texts := [f"q{i}" for i in range(30)])
    assert all(isinstance(answer, Response) for answer in answers)
    assert redirected == set(texts[1:])
    assert max(server.answered.values()) == 1
    assert sum(server.asked.values()) == len(texts) + len(redirected)


def test_a_prompt_that_is_always_redirected_is_a_failure_of_the_server_as_with_a_503():
    always = error(302, headers={"Location": "https://me:pass-word@proxy.example/sign-in"})
    endpoints = Endpoints(timeouts=Timeouts(call=8.0, retry=2.0, first_wait=0.01))
    with closing(endpoints), Server(reply=on("bad", always), seconds=0.02) as server:
        first, bad, *good = ask(
            open_at(endpoints, server), ["q", "bad", *(f"q{i}" for i in range(60))]
        )
    assert bad == Attempt(reason="server_error", detail="302: redirects to https://proxy.example")
    assert all(isinstance(answer, Response) for answer in (first, *good))


def test_another_model_at_an_address_that_has_answered_is_not_at_a_wrong_one(endpoints):
    names = []

    def reply(body, _):
        names.append(body["model"])
        first = body["model"] == "judge" and names.count("judge") == 1
        return error(302, headers={"Location": "/"})(body) if first else None

    with Server(reply=reply) as server:
        for name in ("model", "judge"):
            assert isinstance(ask(open_at(endpoints, server, name), ["q"])[0], Response)
    assert names == ["model", "judge", "judge"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (error(500), "server_error"),
        (error(429), "rate_limit"),
        (error(408), "timeout"),
        (lambda body, _: said(body, "half", "error"), "broken_reply"),
        (lambda body, _: said(body, "", "no such reason"), "broken_reply"),
        (lambda body, _: web.Response(text=events(body, "half")[:-50]), "broken_reply"),
        (lambda *_: web.json_response([]), "broken_reply"),
        (lambda *_: web.Response(text="[" * 100_000), "broken_reply"),
        (lambda body, _: web.json_response(completion(body, 7)), "broken_reply"),
        (lambda body, _: said(body, "word " * 4_000_000), "broken_reply"),
        (lambda *_: packed(b" " * (20 << 20)), "broken_reply"),
        (error(413), "too_long"),
        (error(400, code="context_length_exceeded"), "too_long"),
        (
            lambda *_: web.json_response(
                {
                    "object": "error",
                    "message": "This model's maximum context length is 64 tokens.",
                    "code": 400,
                },
                status=400,
            ),
            "too_long",
        ),
    ],
)
def test_one_hopeless_prompt_is_an_attempt_with_its_reason_and_the_others_are_answered(
    reply, reason
):
    endpoints = Endpoints(timeouts=Timeouts(call=8.0, retry=5.0, first_wait=0.01))
    with closing(endpoints), Server(reply=on("bad", reply), seconds=0.02) as server:
        bad, *good = ask(open_at(endpoints, server), ["bad", *(f"q{i}" for i in range(60))])
    assert isinstance(bad, Attempt)
    assert bad.reason == reason
    assert all(isinstance(answer, Response) for answer in good)


def test_a_server_that_answers_nothing_any_more_ends_the_run_instead_of_every_call_alone():
    endpoints = Endpoints(timeouts=Timeouts(call=0.3, retry=1.0, first_wait=0.01))
    began = time.monotonic()
    with (
        Server(faults=["hang", "500"], share=1.0) as server,
        pytest.raises(EngineError, match="no answer for"),
    ):
        ask(open_at(endpoints, server), [f"q{i}" for i in range(5000)])
    endpoints.close()
    assert time.monotonic() - began < 10


def test_nobody_at_the_address_is_said_within_seconds(endpoints):
    with Server() as server:
        pass
    with pytest.raises(ModelError, match="nobody answers at http://127"):
        ask(open_at(endpoints, server), ["q"])


@pytest.mark.parametrize(
    ("reply", "text", "finish"),
    [
        (lambda body, _: said(body, "cut o", "length"), "cut o", FinishReason.LENGTH),
        (lambda body, _: said(body, ""), "", FinishReason.STOP),
        (lambda body, _: said(body, None), "", FinishReason.STOP),
        (lambda body, _: said(body, [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", FinishReason.STOP),
        (lambda body, _: said(body, "x\x00\ud800 \u202e[/INST]"), "x\x00\ud800 \u202e[/INST]", FinishReason.STOP),
        (
            lambda body, _: web.json_response(
                {"choices": [{"message": {"content": None, "refusal": "I refuse."}, "finish_reason": "stop"}]}
            ),
            "I refuse.",
            FinishReason.STOP,
        ),
    ],
)  # fmt: skip
def test_odd_but_final_answers_are_taken_as_they_are(endpoints, reply, text, finish):
    with Server(reply=reply) as server:
        (answer,) = ask(open_at(endpoints, server), ["q"])
    assert (answer.text, answer.finish_reason) == (text, finish)


def test_the_answer_says_who_gave_it_and_what_it_took(endpoints):
    with Server() as server:
        (answer,) = ask(open_at(endpoints, server), ["q"])
    assert (answer.prompt_tokens, answer.completion_tokens) == (11, 7)
    assert answer.detail == {"served_model": "m-2026-01-01", "system_fingerprint": "fp_1"}


def test_missing_token_counts_are_no_zero_that_looks_measured(endpoints):
    with Server(
        reply=lambda body, _: web.json_response(completion(body, "a") | {"usage": None})
    ) as server:
        (answer,) = ask(open_at(endpoints, server), ["q"])
    assert answer.detail["usage"] == "missing"


def escaped(text):
    """Write every character of a text as a JSON escape."""
    return "".join(f"\\u{ord(character):04x}" for character in text)


@pytest.mark.parametrize("written", [str, escaped])
def test_a_key_that_a_server_repeats_is_removed_however_it_is_written(endpoints, written):
    def reply(body, request):
        mark = "MARK"
        fields = completion(body, f"Bearer {mark}") | {"system_fingerprint": mark}
        return web.Response(
            body=json.dumps(fields).replace(mark, written(KEY)), content_type="application/json"
        )

    with Server(reply=reply) as server:
        (answer,) = ask(open_at(endpoints, server), ["q"])
    assert answer.text == "Bearer [key removed]"
    assert KEY not in repr(answer)


@pytest.mark.parametrize("text", [None, 17, ["a"], "other"])
def test_the_content_of_a_message_counts_whatever_text_stands_beside_it(endpoints, text):
    def reply(body, _):
        fields = completion(body, "the message")
        fields["choices"][0]["text"] = text
        return web.json_response(fields)

    with Server(reply=reply) as server:
        (answer,) = ask(open_at(endpoints, server), ["q"])
    assert answer.text == "the message"


@pytest.mark.parametrize("text", [None, 17, ["a"]])
def test_a_completion_whose_text_is_none_is_a_broken_reply(text):
    endpoints = Endpoints(timeouts=Timeouts(call=2.0, retry=0.1, first_wait=0.01))
    whole = {"choices": [{"text": text, "finish_reason": "stop"}]}
    with Server(reply=on("bad", lambda *_: web.json_response(whole))) as server:
        bad, good = ask(open_at(endpoints, server), ["bad", "good"])
        endpoints.close()
    assert (bad.reason, good.text != "") == ("broken_reply", True)


def test_closing_ends_what_is_open_and_a_generator_that_is_left(endpoints):
    """A traceback may hold the generator of a run's answers until after everything was closed."""
    with Server(reply=lambda body, _: None, seconds=0.02) as server:
        model = open_at(endpoints, server)
        answers = model.generate(jobs_for(model, [f"q{i}" for i in range(500)]))
        next(answers)
        began = time.monotonic()
        endpoints.close()
        with pytest.raises(KeyboardInterrupt):
            list(answers)
        left = model.generate(jobs_for(model, ["a", "b"]))
        next(left)
        endpoints.close()
        del left
        gc.collect()
    assert time.monotonic() - began < 5


def test_whatever_breaks_in_a_call_ends_the_run_though_its_place_is_lost(endpoints, monkeypatch):
    def leave(*_, **__):
        raise RuntimeError("a place is lost")

    monkeypatch.setattr(ConnectionLimit, "leave", leave)
    with Server() as server, pytest.raises(RuntimeError, match="a place is lost"):
        ask(open_at(endpoints, server), [f"question {number}" for number in range(50)])
