from dataclasses import replace
from itertools import product

import pytest
from endpoint_jobs import DECODING, ask, conversation, open_at
from faithful_server import KEY, Server

from aftertune.core.records import Decoding, Price
from aftertune.errors import ModelError
from aftertune.models.endpoint.chat import body, encoded, most_cost, request_seed
from aftertune.models.endpoint.providers import address_of

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"}]
WARM = Decoding(temperature=0.7, top_p=0.9, max_new_tokens=20, seed=4)


def test_a_greedy_request_field_by_field(endpoints):
    with Server() as server:
        ask(open_at(endpoints, server), ["q"], DECODING, 3)
    assert server.bodies == [
        {
            "model": "m",
            "messages": MESSAGES,
            "temperature": 0.0,
            "max_tokens": 20,
            "seed": request_seed(0, 3),
        }
    ]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert server.headers[0]["Content-Type"] == "application/json"


def test_a_drawn_request_field_by_field(endpoints):
    with Server() as server:
        ask(open_at(endpoints, server), ["q"], replace(WARM, top_k=5), 1)
    assert server.bodies[-1] == {
        "model": "m", "messages": MESSAGES, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "max_tokens": 20, "seed": request_seed(4, 1),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reference", "limit", "seeded"),
    [
        ("openai:m", "max_completion_tokens", True),
        ("azure:m", "max_completion_tokens", True),
        ("gemini:m", "max_tokens", False),
        ("together:m", "max_tokens", True),
        ("openrouter:m", "max_tokens", True),
    ],
)
def test_each_provider_is_sent_its_own_fields(monkeypatch, reference, limit, seeded):
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com/")
    fields = body(address_of(reference), conversation("q"), WARM, 0)
    seed = {"seed": request_seed(4, 0)} if seeded else {}
    assert fields == {
        "model": "m",
        "messages": MESSAGES,
        "temperature": 0.7,
        "top_p": 0.9,
        limit: 20,
        **seed,
    }


def test_a_provider_without_top_k_is_not_sent_it_silently_or_otherwise():
    with pytest.raises(ModelError, match=r"top_k; set decoding\.top_k to 0"):
        body(address_of("openai:m"), conversation("q"), replace(WARM, top_k=5), 0)


def test_thinking_is_switched_and_bounded():
    thinking = replace(DECODING, thinking="off", max_reasoning_tokens=100)
    fields = body(address_of("http://127.0.0.1:1/v1#m"), conversation("q"), thinking, 0)
    assert fields["max_tokens"] == 120
    assert fields["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    with pytest.raises(ModelError, match=r"decoding\.thinking at default"):
        body(address_of("openai:m"), conversation("q"), thinking, 0)


def test_azure_gets_its_own_header_and_path(endpoints, monkeypatch):
    with Server() as server:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.root)
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
        ask(endpoints.open(address_of("azure:deployment"), "a"), ["q"])
    assert server.headers[0]["api-key"] == KEY
    assert "Authorization" not in server.headers[0]


def test_keys_differ_in_everything_that_decides_an_answer(endpoints):
    references = ("http://a/v1#m", "http://a/v1#n", "http://b/v1#m", "http://a/v2#m")
    decodings = (DECODING, replace(DECODING, max_new_tokens=21), replace(DECODING, seed=1), WARM,
                 replace(WARM, temperature=0.8), replace(WARM, top_p=0.8), replace(WARM, seed=5))  # fmt: skip
    keys = [
        key
        for reference, decoding, sample in product(references, decodings, range(3))
        for key in endpoints.open(address_of(reference), "x").keys(
            [conversation("q"), conversation("r")], decoding, sample
        )
    ]
    assert len(set(keys)) == len(keys) == 4 * 7 * 3 * 2


def test_keys_are_the_same_for_the_same_request_whatever_it_is_called(endpoints):
    first, second = (endpoints.open(address_of("http://a/v1/#m"), name) for name in ("one", "two"))
    assert first.keys([conversation("q")], WARM, 0) == second.keys(
        [conversation("q")], replace(WARM, top_k=0), 0
    )


def test_samples_of_a_provider_without_seed_have_keys_of_their_own(endpoints):
    model = endpoints.open(address_of("gemini:m"), "g")
    assert len({model.keys([conversation("q")], WARM, sample)[0] for sample in range(5)}) == 5


def test_no_two_pairs_of_seed_and_sample_share_a_request():
    seeds = [request_seed(seed, sample) for seed, sample in product(range(50), range(50))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize("text", ["", "plain", "naïve: 你好 🎉", "\ud800", "a" * 10_000])
def test_the_bound_on_prompt_tokens_holds_for_one_token_a_byte(text):
    address = address_of("http://a/v1#m")
    fields = body(address, conversation(text), DECODING, 0)
    assert most_cost(Price(1.0, 0.0), fields) >= len(text.encode("utf-8", "surrogatepass"))
    assert encoded(fields).isascii()


def test_a_server_that_ignores_the_seed_is_found_out_and_every_answer_says_so(endpoints):
    from itertools import count

    from aiohttp import web
    from faithful_server import completion

    numbers = count()
    with Server(
        reply=lambda body, _: web.json_response(completion(body, f"{next(numbers)}"))
    ) as server:
        answers = ask(open_at(endpoints, server), ["q", "r"], WARM)
    assert [answer.detail["seed"] for answer in answers] == ["ignored", "ignored"]
    assert all("How" not in body["messages"][0]["content"] for body in server.bodies[:2])


def test_a_server_that_obeys_the_seed_gets_no_remark_and_a_greedy_study_asks_nothing_extra(
    endpoints,
):
    with Server() as server:
        model = open_at(endpoints, server)
        assert "seed" not in ask(model, ["q"])[0].detail
        assert len(server.bodies) == 1
        assert "seed" not in ask(model, ["q"], WARM)[0].detail
        ask(model, ["r"], WARM)
    assert len(server.bodies) == 1 + 3 + 1


def test_what_an_endpoint_cannot_do_is_said(endpoints):
    from aftertune.errors import EngineError

    model = endpoints.open(address_of("http://a/v1#m"), "m")
    with pytest.raises(EngineError, match="cannot give likelihoods"):
        model.nll([(conversation("q"), "a")])
    with pytest.raises(EngineError, match="cannot score choices"):
        model.choice_logprobs([conversation("q")], ["a"])
    assert model.unknown_share(["anything"]) == 0.0
