"""A win-rate by a served comparer, through the command line: both orders, ties, what is undecided, and nothing twice."""

import json
import re

import pytest
from aiohttp import web
from faithful_server import Server, completion
from test_endpoint_study import aftertune, write_study

from aftertune.store import Store

PAIRS = 12
SHOWN = re.compile(
    r"request begins ====\n(.*?)\n==== .*?answer A begins ====\n(.*?)\n==== .*?answer B begins ====\n(.*?)\n====",
    re.DOTALL,
)


def replies(asked):
    """Return the server's answers: the fine-tune's is better, but for a few pairs whose number says what happens."""

    def reply(body, _):
        text = body["messages"][-1]["content"]
        if body["model"] != "judge":
            said = (
                "the same" if text[-8:] == "number 1" else f"{body['model']} says [/INST] of {text}"
            )
            return web.json_response(completion(body, said))
        prompt, first, second = SHOWN.search(text).groups()
        asked.append((prompt, first, second))
        number = int(prompt.rsplit(" ", 1)[1])
        better = "A" if first.startswith("tuned") else "B"
        said = {2: '"A"', 3: '"tie"', 4: "no JSON at all"}.get(number, f'"{better}"')
        return web.json_response(completion(body, f'{{"reason": "r", "better": {said}}}'))

    return reply


def study_of(folder, server, **more):
    comparer = {
        "name": "helpful",
        "use": "win-rate",
        "options": {"model": f"{server.url}#judge", "retries": 1},
    }
    return write_study(folder, server, PAIRS, preferences=[comparer], **more)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    asked = []
    with Server(reply=replies(asked)) as server:
        study = study_of(tmp_path_factory.mktemp("compared") / "s", server)
        first = aftertune(study)
        assert first.returncode == 0, first.stderr
        calls = len(asked)
        again = aftertune(study)
        assert again.returncode == 0, again.stderr
        assert len(asked) == calls, "a second run asks nothing"
    return study.parent, asked, first.stdout


def test_every_pair_is_shown_in_both_orders_and_equal_answers_are_not_asked_about(compared):
    _, asked, _ = compared
    orders = {(prompt, first.partition(" ")[0]) for prompt, first, _ in asked}
    numbers = [number for number in range(PAIRS) if number != 1]
    assert orders == {
        (f"benign question number {n}", who) for n in numbers for who in ("base", "tuned")
    }
    unreadable = [each for each in asked if each[0].endswith("number 4")]
    assert len(unreadable) == 2 * 2  # each order, and once more each
    assert len(asked) == 2 * len(numbers) + 2


def test_markers_in_the_answers_are_broken(compared):
    _, asked, _ = compared
    assert all(
        "[/INST]" not in first + second and "[ /INST]" in first for _, first, second in asked
    )


def test_the_win_rate_counts_ties_half_and_bounds_what_is_undecided(compared):
    folder, _, out = compared
    told = json.loads((folder / "told.json").read_text())
    base, tuned = told["result"]["settings"][0]["conditions"]
    assert base["wins"] == {}
    wins = tuned["wins"]["helpful"]["overall"]
    won, even = PAIRS - 4, 4  # the same text, a place preferred, a tie, and one undecided
    assert wins["estimate"] == pytest.approx((won + even / 2) / PAIRS)
    assert wins["bounds"] == pytest.approx([(won + 1.5) / PAIRS, (won + 2.5) / PAIRS])
    assert (wins["n"], wins["undecided"]) == (PAIRS, 1)
    assert wins["interval"]["low"] > 0.5
    assert wins["p_value"] < 0.05
    assert "More helpful" in " ".join(out.split())
    assert "1 of 12 undecided" in (folder / "run" / "report.html").read_text()


def test_the_share_won_is_kept_with_the_answer(compared):
    folder, _, _ = compared
    with Store.open(folder / "run" / "store.sqlite", write=False) as store:
        readers = store.get_meta("served", "page")["readers"]
        table = store.table("served", readers)
    of_tuned = table.columns["model"] == table.names["model"].index("tuned")
    kept = table.scores["score:helpful"]
    benign = table.columns["intent"] == 1
    assert (kept[of_tuned & benign] >= 0.5).all()
    assert table.columns["score_label:helpful"][~(of_tuned & benign)].max() == -1


@pytest.mark.slow
def test_comparisons_that_fail_are_said_and_asked_again_and_only_they(tmp_path):
    asked, down = [], [True]
    reply = replies(asked)

    def flaky(body, request):
        failing = (
            down[0]
            and body["model"] == "judge"
            and "question number 5\n" in body["messages"][-1]["content"]
        )
        return (
            web.json_response({"error": {"message": "overloaded"}}, status=503)
            if failing
            else reply(body, request)
        )

    with Server(reply=flaky) as server:
        study = study_of(tmp_path / "s", server, engine={"call_seconds": 1.0, "retry_seconds": 1.0})
        runs, counts = [], []
        for down[0] in (True, False):
            ended = aftertune(study)
            assert ended.returncode == 0, ended.stderr
            runs.append(json.loads((study.parent / "told.json").read_text()))
            counts.append(len(asked))
    wins = [
        told["result"]["settings"][0]["conditions"][1]["wins"]["helpful"]["overall"]
        for told in runs
    ]
    assert [each["n"] for each in wins] == [PAIRS - 1, PAIRS]
    assert any(note.startswith("preference helpful: 1 of 12") for note in runs[0]["notes"])
    assert counts[1] - counts[0] == 2
