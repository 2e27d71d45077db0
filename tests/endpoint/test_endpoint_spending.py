import asyncio
import json
import shutil
import time
from contextlib import nullcontext

import pytest
from aiohttp import web
from endpoint_jobs import DECODING, ask, jobs_for, open_at
from faithful_server import Server, completion

from aftertune.core.records import Price, Response
from aftertune.errors import AftertuneError, InputError, ModelError, Stopped, StoreError
from aftertune.models.endpoint.budget import Prices, Spending, Usage, read_prices
from aftertune.models.endpoint.http import Timeouts
from aftertune.models.endpoint.model import Endpoints
from aftertune.models.endpoint.providers import address_of
from aftertune.models.open import Engines

DEAR = """\
currency: EUR
models:
  "http://127.0.0.1:*#m": {input: 1000, output: 10000}
"""
"""A thousandth of a euro per token of the prompt, a hundredth per token of the answer."""
CALL = 11 * 0.001 + 7 * 0.01


@pytest.fixture
def dear(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(DEAR)
    return path


def opened(dear, budget, accounts):
    return Endpoints(
        timeouts=Timeouts(call=3.0, retry=20.0, first_wait=0.01),
        budget=budget,
        prices=dear,
        accounts=accounts,
    )


def real_cost(server):
    return CALL * sum(server.answered.values())


@pytest.mark.parametrize("faults", [(), ("500", "429", "broken json", "cut", "hang")])
def test_a_budget_stops_the_run_before_it_is_passed_and_a_larger_one_goes_on(
    dear, tmp_path, faults
):
    texts, done = [f"question {i}" for i in range(120)], {}
    with Server(faults=faults, share=0.1, seed=1) as server:
        for budget, finishes in ((3.0, False), (3.0, False), (6.0, False), (100.0, True)):
            endpoints = opened(dear, budget, tmp_path / "spending.json")
            model = open_at(endpoints, server)
            todo = [job for job in jobs_for(model, texts) if job.key not in done]
            before = len(done)
            with (
                nullcontext() if finishes else pytest.raises(Stopped, match=r"raise engine\.budget")
            ):
                done.update(model.generate(todo))
            endpoints.close()
            kept = Spending(read_prices(dear), None, tmp_path / "spending.json")
            assert real_cost(server) <= kept.spent + 1e-9
            assert kept.spent <= budget
            assert finishes == (len(done) == len(texts))
            if budget == 6.0:
                assert len(done) > before
    assert max(server.answered.values()) == 1
    assert all(isinstance(answer, Response) for answer in done.values())


def test_the_call_that_could_pass_the_budget_is_never_sent(dear, tmp_path):
    endpoints = opened(dear, 0.2, tmp_path / "s.json")
    with Server() as server, pytest.raises(Stopped):
        ask(open_at(endpoints, server), ["q"])
    assert not server.bodies
    endpoints.close()


def test_what_a_provider_does_not_count_is_charged_at_its_most(dear, tmp_path):
    endpoints = opened(dear, None, tmp_path / "s.json")
    with Server(
        reply=lambda body, _: web.json_response(completion(body, "a") | {"usage": None})
    ) as server:
        ask(open_at(endpoints, server), ["q"])
    assert endpoints.spending.spent >= 20 * 0.01
    endpoints.close()


def test_the_file_follows_the_calls_so_that_a_kill_loses_about_a_second_of_them(dear, tmp_path):
    """Every state of the file during a run is one that a kill could leave."""
    file, states = tmp_path / "spending.json", []

    def reply(body, _):
        cost = real_cost(server)
        if file.is_file():
            copy = shutil.copy(file, tmp_path / f"copy{len(states)}.json")
            states.append((time.monotonic(), cost, Spending(read_prices(dear), None, copy).spent))

    endpoints = opened(dear, 50.0, file)
    # Slow calls make the run last several writes of the file, however fast the machine is.
    with Server(reply=reply, seconds=0.3) as server:
        ask(open_at(endpoints, server), [f"q{i}" for i in range(400)])
        endpoints.close()
    assert len({kept for _, _, kept in states}) > 1
    for now, _, kept in states:
        assert all(kept >= cost - 1e-9 for then, cost, _ in states if then < now - 4)
    kept = Spending(read_prices(dear), None, file)
    # A call that a starved machine did not end in time is booked at the most that it may have cost.
    exact = not any(account.failures for account in kept.accounts.values())
    assert (
        kept.spent == pytest.approx(real_cost(server)) if exact else kept.spent > real_cost(server)
    )


def test_the_accounts_count_tokens_calls_and_failures_over_runs(dear, tmp_path):
    with Server(faults=["500"], share=0.2) as server:
        for part in range(2):
            endpoints = opened(dear, None, tmp_path / "s.json")
            ask(open_at(endpoints, server), [f"q{part}-{i}" for i in range(50)])
            endpoints.close()
    (entry,) = json.loads((tmp_path / "s.json").read_text())["models"].values()
    assert (entry["calls"], entry["prompt_tokens"], entry["completion_tokens"]) == (100, 1100, 700)
    assert entry["failures"] == server.injected["500"] > 0
    assert entry["cost"] == pytest.approx(100 * CALL)


def test_a_budget_without_a_price_is_refused_before_anything_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    endpoints = Endpoints(budget=1.0)
    model = endpoints.open(address_of("openai:no-such-model"), "m")
    with pytest.raises(ModelError, match="no price for it; add one"):
        model.check_ready()


def test_a_server_next_door_costs_nothing_unless_a_price_is_given(dear):
    address = address_of("http://127.0.0.1:8000/v1#m")
    assert read_prices().of(address) == Price(0.0, 0.0)
    assert read_prices(dear).of(address) == Price(0.001, 0.01)
    assert read_prices().of(address_of("https://somewhere.example/v1#m")) is None


def test_the_shipped_prices_say_that_they_need_to_be_checked():
    prices = read_prices()
    assert "to be checked" in prices.source
    assert prices.of(address_of("openai:gpt-4o-mini-2024-07-18")) == Price(0.15e-6, 0.60e-6)
    assert prices.of(address_of("openai:ft:gpt-4o-mini-2024-07-18:org::x")) == Price(
        0.30e-6, 1.20e-6
    )


@pytest.mark.parametrize(
    "text", ["[", "models: 3", "{}", "models: {a: 3}", "models: {a: {input: x, output: 1}}", "models: {a: {input: -1, output: 1}}", "\x00"]
)  # fmt: skip
def test_price_files_that_cannot_be_used(tmp_path, text):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"p\.yaml: ") as caught:
        read_prices(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"models": {"m": {"what": 1}}, "currency": "EUR"}',
        '{"models": {}, "currency": "USD"}',
    ],
)
def test_an_account_that_is_none_is_not_overwritten(dear, tmp_path, text):
    file = tmp_path / "spending.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"spending\.json"):
        Spending(read_prices(dear), None, file)
    assert file.read_text() == text


def test_calls_wait_for_open_ones_where_only_those_may_leave_room():
    async def spend():
        spending = Spending(Prices("EUR", "here", {}), budget=1.0)
        await spending.reserve("m", 0.7)
        second = asyncio.create_task(spending.reserve("m", 0.7))
        await asyncio.sleep(0)
        assert not second.done()
        used = Usage(answered=True, completion_tokens=2)
        spending.settle("m", 0.7, Price(0.0, 0.1), used)
        await asyncio.wait_for(second, 1)
        return spending.spent

    assert asyncio.run(spend()) == pytest.approx(0.2)


def test_the_time_of_a_run_is_bounded_too(dear):
    endpoints = Endpoints(timeouts=Timeouts(run=0.3, first_wait=0.01))
    with Server(seconds=0.05) as server, pytest.raises(Stopped, match="run_seconds"):
        ask(open_at(endpoints, server), [f"q{i}" for i in range(5000)], DECODING)
    endpoints.close()


@pytest.fixture
def full_disk(tmp_path):
    """An account whose file takes nothing, as on a full disk."""
    accounts = tmp_path / "spending.json"
    accounts.symlink_to("/dev/full")
    return accounts


def test_an_account_that_cannot_be_kept_ends_the_run_in_one_line(dear, full_disk):
    endpoints = opened(dear, 10.0, full_disk)
    with Server(seconds=0.1) as server:
        ask(open_at(endpoints, server), ["a"])
    with pytest.raises(AftertuneError, match=r"spending.json was not written: the disk is full"):
        endpoints.close()
    full_disk.unlink()
    endpoints.close()


def test_an_account_that_cannot_be_kept_for_long_ends_the_run_in_its_midst(
    dear, full_disk, monkeypatch
):
    monkeypatch.setattr("aftertune.models.endpoint.budget._PATIENCE_SECONDS", 0.0)
    endpoints = opened(dear, 10.0, full_disk)
    with (
        Server(seconds=0.1) as server,
        pytest.raises(AftertuneError, match=r"spending.json was not written"),
    ):
        ask(open_at(endpoints, server), ["a"])
    full_disk.unlink()
    endpoints.close()


def test_a_full_disk_is_told_by_the_store_and_not_by_the_account(dear, full_disk):
    with (
        pytest.raises(StoreError, match=r"store\.sqlite"),
        Server(seconds=0.1) as server,
        Engines(endpoints=opened(dear, 10.0, full_disk)) as engines,
    ):
        store_answers_on_a_full_disk(ask(engines.open(f"{server.url}#m"), ["a"]))


def store_answers_on_a_full_disk(answers):
    raise StoreError(f"store.sqlite: the disk is full, {len(answers)} answers wait")


ACCOUNT = {"calls": 1, "failures": 0, "prompt_tokens": 5, "completion_tokens": 5, "cost": 0.1}


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"m": ACCOUNT | {"cost": "a lot"}}, "is no account of a run"),
        ({"m": ACCOUNT | {"calls": None}}, "is no account of a run"),
        ({"m": [1, 2]}, "is no account of a run"),
        ([], "is no account of a run"),
        ({"m": ACCOUNT | {"cost": -3.0}}, "below 0"),
        ({"m": ACCOUNT | {"cost": float("nan")}}, "without end"),
    ],
)
def test_a_damaged_account_is_refused_and_left_as_it_is(tmp_path, models, message):
    file = tmp_path / "spending.json"
    file.write_text(json.dumps({"currency": "USD", "models": models}))
    before = file.read_bytes()
    with pytest.raises(InputError, match=message):
        Spending(read_prices(None), None, file)
    assert file.read_bytes() == before
