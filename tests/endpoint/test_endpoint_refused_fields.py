"""Servers that refuse a field of the usual request: it is left out or renamed, in the keys, in a note, and on a rerun too."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from contextlib import closing

import pytest
from aiohttp import web
from batch_server import BatchServer, refused
from endpoint_jobs import DECODING, conversation, jobs_for, open_at, user_text
from faithful_server import Server, completion
from test_endpoint_study import COMMAND, environment, write_study

from aftertune import Purpose, Quiet, load_study, run_study
from aftertune.core.records import Decoding, Response
from aftertune.errors import InputError, KeysChanged, ModelError
from aftertune.models.endpoint.batch import Batching
from aftertune.models.endpoint.chat import USUAL, RequestForm, body, read_reply
from aftertune.models.endpoint.http import Timeouts
from aftertune.models.endpoint.model import Endpoints
from aftertune.models.endpoint.providers import address_of
from aftertune.store import Store

ADDRESS = address_of("http://127.0.0.1:9/v1#m")
DRAWN = Decoding(temperature=0.7, top_p=0.9, top_k=5, max_new_tokens=20)


def error(status, message, **fields):
    return status, {"error": {"message": message, "type": "invalid_request_error", **fields}}


def extra(*names):
    """The words of a server that checks requests with pydantic."""
    detail = [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted", "input": 0} for name in names]  # fmt: skip
    return 422, {"detail": detail}


@pytest.mark.parametrize(
    ("reply", "fields"),
    [
        (error(400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
               param="max_tokens", code="unsupported_parameter"), ("max_tokens",)),
        (error(400, "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
               param="temperature", code="unsupported_value"), ("temperature",)),
        (error(400, "`temperature` and `top_p` cannot both be specified for this model."), ("top_p", "temperature")),
        (error(400, "temperature must be strictly positive"), ("temperature",)),
        (error(422, "Extra inputs are not permitted", param="seed"), ("seed",)),
        (extra("seed"), ("seed",)),
        (extra("seed", "top_k"), ("seed", "top_k")),
        ((422, {"object": "error", "message": {"detail": extra("seed")[1]["detail"]}, "type": "invalid_request_error"}), ("seed",)),
        (error(400, 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'), ("seed",)),
        (error(400, "Unrecognized request argument supplied: top_k"), ("top_k",)),
        (error(400, "logprobs are not supported with reasoning models"), ("logprobs",)),
        (error(400, "System role not supported"), ("system",)),
        ((400, {"object": "error", "message": "System role not supported", "type": "BadRequestError", "param": None, "code": 400}), ("system",)),
        (error(400, "Unsupported value: 'messages[0].role' does not support 'system' with this model.", param="messages[0].role"), ("system",)),
        (error(400, "Developer instruction is not enabled for models/gemma-3-27b-it"), ("system",)),
        (error(400, "Conversation roles must alternate user/assistant/user/assistant/..."), ("system",)),
        (error(500, "Jinja Exception: System role not supported"), ("system",)),
        (error(500, "the seed of all trouble: temperature"), ()),
        (error(400, "This model's maximum context length is 64 tokens; max_tokens is 80"), ()),
        (error(400, "no"), ()),
        (error(404, "no such model: seed"), None),
        (error(503, "temperature of the machine too high"), ()),
    ],
)  # fmt: skip
def test_the_fields_that_an_error_names(reply, fields):
    status, value = reply
    if fields is None:
        with pytest.raises(ModelError):
            read_reply(ADDRESS, status, value)
    else:
        failure = read_reply(ADDRESS, status, value, json.dumps(value))
        assert failure.refused == fields
        assert failure.retried == (status == 503 or (status == 500 and not fields))


USUAL_BODY = body(ADDRESS, conversation("q"), DECODING, 0)
DRAWN_BODY = body(ADDRESS, conversation("q"), DRAWN, 0)
FOLDED = [{"role": "user", "content": "Be brief.\n\nq"}]


@pytest.mark.parametrize(
    ("fields", "usual", "form", "changed"),
    [
        (("seed",), USUAL_BODY, {"left_out": ("seed",)}, {"seed": None}),
        (("top_p", "temperature"), DRAWN_BODY, {"left_out": ("top_p",)}, {"top_p": None}),
        (("top_p", "temperature"), USUAL_BODY, {"temperatures": (0.0,)}, {"temperature": None}),
        (("temperature",), DRAWN_BODY, {"temperatures": (0.7,)}, {"temperature": None}),
        (("max_tokens",), USUAL_BODY, {"limit_field": "max_completion_tokens"}, {"max_tokens": None, "max_completion_tokens": 20}),
        (("system",), USUAL_BODY, {"folds_system": True}, {"messages": FOLDED}),
        (("top_k",), USUAL_BODY, None, None),
        ((), USUAL_BODY, None, None),
    ],
)  # fmt: skip
def test_a_body_without_what_is_refused(fields, usual, form, changed):
    new = USUAL.changed(fields, usual)
    if form is None:
        assert new is None
        return
    assert new == RequestForm(**form)
    sent = usual | changed
    assert new.applied(usual) == {name: value for name, value in sent.items() if value is not None}
    assert new.in_words
    # a refusal of what is not there any more helps no further
    assert new.changed(fields[:1], new.applied(usual)) is None


def test_a_temperature_that_is_refused_leaves_the_others_alone():
    form = USUAL.changed(("temperature",), USUAL_BODY)
    assert form.applied(DRAWN_BODY) == DRAWN_BODY
    assert (USUAL.applied(USUAL_BODY), USUAL.in_words) == (USUAL_BODY, "")


# Servers


def refuses(field, status=400):
    message = "Use 'max_completion_tokens' instead." if field == "max_tokens" else "Not supported."
    return lambda sent: error(status, message, param=field) if field in sent else None


def refuses_greedy(sent):
    return error(400, "Only the default is supported.", param="temperature") if sent.get("temperature", 1) != 1 else None  # fmt: skip


def refuses_system(sent):
    roles = {message["role"] for message in sent.get("messages", ())}
    return error(400, "System role not supported") if "system" in roles else None


EVERYTHING = (refuses("seed", 422), refuses("max_tokens"), refuses_greedy, refuses_system)


class Picky(Server):
    """Refuses what its functions refuse, and answers the rest."""

    def __init__(self, *refusals, text="Sorry, I cannot help.", **more):
        super().__init__(**more)
        self.refusals, self.text, self.sent, self.refused = refusals, text, Counter(), 0

    async def _answer(self, request):
        sent = json.loads(await request.read())
        self.bodies.append(sent)
        for refusal in self.refusals:
            if reply := refusal(sent):
                self.refused += 1
                return web.json_response(reply[1], status=reply[0])
        if self.reply and (reply := self.reply(sent, request)) is not None:
            return reply
        self.sent[json.dumps(sent, sort_keys=True)] += 1
        return web.json_response(completion(sent, self.text))


def all_answers(model, texts, decoding=DECODING):
    """Have jobs done as the stages do: planned anew where the keys have changed."""
    answers = {}
    for _ in range(10):
        jobs = jobs_for(model, texts, decoding)
        missing = [job for job in jobs if job.key not in answers]
        try:
            answers |= model.generate(missing)
        except KeysChanged:
            continue
        return [answers[job.key] for job in jobs]
    raise AssertionError("the keys change for ever")


TEXTS = [f"q{i}" for i in range(40)]


@pytest.mark.parametrize("refusals", [*((r,) for r in EVERYTHING), EVERYTHING])
@pytest.mark.parametrize("decoding", [DECODING, DRAWN])
def test_every_prompt_is_answered_once_without_what_is_refused(endpoints, refusals, decoding):
    with Picky(*refusals, seconds=0.01) as server:
        model = open_at(endpoints, server)
        usual = [job.key for job in jobs_for(model, TEXTS, decoding)]
        answers = all_answers(model, TEXTS, decoding)
    assert all(isinstance(answer, Response) for answer in answers)
    probes = 2 if decoding.temperature and all(r is not EVERYTHING[0] for r in refusals) else 0
    texts = Counter(
        user_text(json.loads(sent)).removeprefix("Be brief.\n\n") for sent in server.sent
    )
    assert sum(server.sent.values()) - sum(texts[t] for t in texts if t not in TEXTS) >= len(TEXTS)
    assert {texts[text] for text in TEXTS} == {1}
    assert sum(server.sent.values()) <= len(TEXTS) + max(probes, 2)
    assert not set(usual) & {job.key for job in jobs_for(model, TEXTS, decoding)}
    assert server.refused <= 3 * len(EVERYTHING) + 4
    not_sent = [answer.detail.get("seed") for answer in answers[1:]] == ["not sent"] * 39
    assert not_sent == (EVERYTHING[0] in refusals)


def test_a_server_that_takes_everything_has_the_usual_keys_and_no_call_more(endpoints):
    with Picky() as server:
        model = open_at(endpoints, server)
        usual = [job.key for job in jobs_for(model, TEXTS)]
        all_answers(model, TEXTS)
        assert [job.key for job in jobs_for(model, TEXTS)] == usual
    assert (sum(server.sent.values()), model.refusals) == (len(TEXTS), "")


def test_a_limit_that_is_too_large_is_no_other_name(endpoints):
    """The server names the field, and takes it under neither name: what it says is told, and nothing is kept."""

    def too_large(sent):
        name = next(name for name in sent if name.startswith("max_"))
        return error(400, f"{name} is too large: 20", param=name)

    with Picky(too_large) as server:
        model = open_at(endpoints, server)
        with pytest.raises(
            ModelError, match=r"accepts none of our calls \(400: max_tokens is too large"
        ):
            all_answers(model, TEXTS)
    assert model.refusals == ""


def test_another_form_that_helps_only_some_is_left_alone_for_the_others(endpoints):
    """One prompt is refused with a word that is a field's name, whatever is left out."""

    def odd(sent):
        return error(400, "bad seed") if user_text(sent) == "q3" else None

    with Picky(odd, seconds=0.01) as server:
        model = open_at(endpoints, server)
        answers = all_answers(model, TEXTS)
    assert [getattr(answer, "reason", None) for answer in answers] == [
        "bad_request" if text == "q3" else None for text in TEXTS
    ]
    assert model.refusals == ""


def test_what_a_batch_is_refused_for_is_left_out_of_the_next(tmp_path):
    def change(_, line, done):
        if "seed" in line["body"]:
            return refused(line, 400, message="Unknown parameter.", param="seed")
        return done(line)

    batching = Batching(models=("*",), folder=tmp_path / "b", first_wait=0.01, longest_wait=0.02)
    endpoints = Endpoints(
        timeouts=Timeouts(call=5.0, retry=20.0, first_wait=0.01), batching=batching
    )
    with closing(endpoints), BatchServer(fates=[("completed", change)]) as server:
        model = open_at(endpoints, server)
        answers = all_answers(model, TEXTS[:12])
    assert all(isinstance(answer, Response) for answer in answers)
    assert len(server.batches) == 2
    assert model.refusals == "the server refuses seed: left out, and the server decides"


# Studies


def judged_study(folder, server, count=6):
    reply = {"name": "rubric", "options": {"model": f"{server.url}#judge", "retries": 0}}
    return write_study(
        folder, server, count, judges=[reply], systems={"none": None, "brief": "Be brief."}
    )


VERDICT = '{"reason": "it helps", "label": "complied", "harm": 7}'


class Notes(Quiet):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def run(study, progress=None):
    return run_study(load_study(study), study.parent / "run", progress or Quiet(), Purpose(command="test"))  # fmt: skip


@pytest.fixture
def picky(monkeypatch):
    monkeypatch.setenv("AFTERTUNE_API_KEY", "")
    with Picky(*EVERYTHING, text=VERDICT) as server:
        yield server


def test_a_study_whose_models_and_judge_refuse_four_fields(tmp_path, picky):
    study, progress = judged_study(tmp_path / "s", picky), Notes()
    result = run(study, progress)
    folder = study.parent / "run"
    models = ("base", "tuned", "judge")
    noted = {m: [note for note in progress.notes if f"#{m}: the server" in note] for m in models}
    assert all("seed" in " ".join(noted[model]) for model in models)
    for words in (*(f"{model}: the server refuses seed, temperature 0" for model in ("base", "tuned")),
                 "judge rubric: the server refuses seed, temperature 0", "max_completion_tokens", "head of the user's turn"):  # fmt: skip
        assert any(words in note for note in result.notes), words
    sent = [json.loads(text) for text in picky.sent]
    assert all(set(fields) == {"model", "messages", "max_completion_tokens"} for fields in sent)
    assert max(picky.sent.values()) == 1, "nothing is asked twice"
    assert len(sent) == 2 * 12 * 2 + len({fields["messages"][-1]["content"] for fields in sent if fields["model"] == "judge"})  # fmt: skip
    with Store.open(folder / "store.sqlite", write=False) as store:
        answers = list(store.responses("served"))
    assert len(answers) == 48
    assert all(answer.response for answer in answers)
    calls, first = len(picky.bodies), (folder / "result.json").read_bytes()
    run(study)
    assert len(picky.bodies) == calls, "a rerun asks nothing"
    assert (folder / "result.json").read_bytes() == first
    kept = json.loads((folder / "requests.json").read_text())["models"]
    assert kept[f"{picky.url}#judge"]["temperatures"] == [0.0]


def stored(study):
    """The model and the user's turn of every call that has an answer in the store."""
    path = study.parent / "run" / "store.sqlite"
    if not path.exists():
        return set()
    with Store.open(path, write=False) as store:
        return {
            (
                job.model,
                job.prompt.text if job.system == "none" else f"Be brief.\n\n{job.prompt.text}",
            )
            for job in store.responses("served")
            if job.response
        }


def test_a_study_that_was_killed_asks_nothing_again_that_it_kept(tmp_path, picky):
    """It is killed when the first form is known, and in the midst of its answers."""
    picky.seconds, picky.text = 0.0, "Sorry, I cannot help."
    study = write_study(tmp_path / "s", picky, 20, systems={"none": None, "brief": "Be brief."},
                        engine={"connections": 2})  # fmt: skip

    # answers take a while, so that the kill comes between two of them
    picky.reply = lambda *_: time.sleep(0.03)
    command = [COMMAND, "run", study, "--out", study.parent / "run"]
    for answers in (1, 50):
        with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:  # fmt: skip
            began = time.monotonic()
            while sum(picky.sent.values()) < answers and time.monotonic() < began + 300:
                time.sleep(0.01)
            os.kill(client.pid, signal.SIGKILL)
        kept = stored(study)
    assert (study.parent / "run" / "requests.json").exists()
    assert kept
    calls = -1
    while calls != (
        calls := len(picky.bodies)
    ):  # what the killed client had sent is still answered
        time.sleep(1.0)
    picky.sent.clear()
    run(study)
    again = {(fields["model"], user_text(fields)) for fields in map(json.loads, picky.sent)}
    assert not again & kept
    assert again | kept == stored(study)
    assert len(stored(study)) == 2 * 40 * 2
    assert max(picky.sent.values()) == 1


def test_a_damaged_file_of_forms_is_said_by_name(tmp_path, picky):
    study = judged_study(tmp_path / "s", picky, 1)
    (study.parent / "run").mkdir()
    (study.parent / "run" / "requests.json").write_text('{"models": {"m": 3}}')
    with pytest.raises(InputError, match=r"requests\.json: cannot be read"):
        run(study)
