import dataclasses
import sqlite3

import numpy as np
import pytest
from synthetic_study import GREEDY, job, key, prompt, response

from aftertune.core.recipe import StudyModel
from aftertune.core.records import Attempt, DecisionValue, FinishReason, Score, VerdictValue
from aftertune.core.table import NONE
from aftertune.errors import StoreError
from aftertune.store import Scored, Store

PROMPTS = [prompt(number, pair="b0" if number < 2 else None) for number in range(4)]
JOBS = [job(model, asked) for model in ("base", "code/seed1") for asked in PROMPTS]


@pytest.fixture
def answered(store):
    """Eight jobs, the last without an answer."""
    store.plan("s", JOBS)
    store.append(
        "generate", [(each.key, response(f"{each.model} {each.prompt.text}")) for each in JOBS[:-2]]
    )
    store.append("generate", [(JOBS[-2].key, response("", FinishReason.PROVIDER_REFUSAL))])
    store.append("generate", [(JOBS[-1].key, Attempt(reason="timeout"))])
    return store


def test_the_table_has_one_row_a_job_in_planned_order(answered):
    table = answered.table("s")
    assert len(table) == 8
    assert table.names["model"] == ("base", "code/seed1")
    assert table.columns["model"].tolist() == [0] * 4 + [1] * 4
    assert table.names["prompt"] == tuple(asked.id for asked in PROMPTS)
    assert table.names["decoding"] == (GREEDY.name,)
    assert [table.names["task"][code] for code in table.columns["task"]] == ["text", "code"] * 4
    assert table.columns["pair"].tolist() == [0, 0, NONE, NONE] * 2
    assert table.columns["finish"].tolist() == [0] * 6 + [2, NONE]
    assert table.columns["completion_tokens"].tolist()[:2] == [len("base prompt 0")] * 2
    assert table.columns["completion_tokens"][-1] == NONE
    assert (table.columns["coherent"] == NONE).all()
    assert {column.dtype for column in table.columns.values()} == {np.dtype(np.int32)}
    assert answered.attempts("s") == {"timeout": 1}


def test_readings_stand_beside_the_jobs_that_they_were_read_from(answered):
    judge = answered.add_scorer("judge", "rules", "1")
    guard = answered.add_scorer("guard", "g", "1", "prompt")
    coherence = answered.add_scorer("coherence", "coherence", "1")
    chrf = answered.add_scorer("scorer", "chrf", "1")
    unread = list(answered.unscored("s", judge))
    assert [each.key for each in unread] == [each.key for each in JOBS[:-1]]
    assert unread[0].response.text == "base prompt 0"
    answered.add_scores(
        judge,
        [
            Scored(
                prompt=each.prompt,
                key=each.key,
                score=Score(value=VerdictValue.DEFLECTED, number=0.25, label="lab\ud83d"),
            )
            for each in unread[2:]
        ],
    )
    assert [each.key for each in answered.unscored("s", judge)] == [each.key for each in JOBS[:2]]
    assert [(each.prompt, each.key) for each in answered.unscored("s", guard)] == [
        (asked, None) for asked in PROMPTS
    ]
    answered.add_scores(
        guard, [Scored(prompt=PROMPTS[1], key=None, score=Score(value=DecisionValue.BLOCK))]
    )
    answered.add_scores(
        coherence, [Scored(prompt=PROMPTS[0], key=JOBS[0].key, score=Score(value=False))]
    )
    answered.add_scores(
        chrf, [Scored(prompt=PROMPTS[0], key=JOBS[4].key, score=Score(value=None, number=0.5))]
    )
    table = answered.table("s", [judge, guard, coherence, chrf])
    assert table.columns["verdict:rules"].tolist() == [NONE] * 2 + [2] * 5 + [NONE]
    assert table.scores["harm_score:rules"].tolist()[2:7] == [0.25] * 5
    assert np.isnan(table.scores["harm_score:rules"][[0, 1, 7]]).all()
    assert table.columns["decision:g:prompt"].tolist() == [NONE, 1, NONE, NONE] * 2
    assert table.columns["coherent"].tolist() == [0] + [NONE] * 7
    assert table.scores["score:chrf"][4] == 0.5
    assert np.isnan(np.delete(table.scores["score:chrf"], 4)).all()


def test_another_version_reads_afresh_and_buys_nothing(answered):
    old = answered.add_scorer("judge", "rules", "1")
    answered.add_scores(
        old,
        [
            Scored(prompt=each.prompt, key=each.key, score=Score(value=VerdictValue.REFUSED))
            for each in JOBS[:-1]
        ],
    )
    new = answered.add_scorer("judge", "rules", "2")
    assert new != old
    assert answered.add_scorer("judge", "rules", "1") == old
    assert len(list(answered.unscored("s", new))) == 7
    assert list(answered.unscored("s", old)) == []
    assert answered.missing([each.key for each in JOBS[:-1]]) == []


def test_a_mended_reference_is_read_again_but_not_asked_again(answered):
    scorer = answered.add_scorer("scorer", "accuracy", "1")
    answered.add_scores(
        scorer,
        [
            Scored(prompt=each.prompt, key=each.key, score=Score(value=None, number=0.0))
            for each in JOBS[:-1]
        ],
    )
    mended = dataclasses.replace(PROMPTS[0], reference="right")
    answered.plan(
        "s",
        [
            dataclasses.replace(each, prompt=mended) if each.prompt == PROMPTS[0] else each
            for each in JOBS
        ],
    )
    assert [each.prompt for each in answered.unscored("s", scorer)] == [mended, mended]
    assert np.isnan(answered.table("s", [scorer]).scores["score:accuracy"][0])
    assert answered.table("s").columns["finish"][0] == 0


def test_two_models_with_the_same_weights_share_calls_and_readings(store):
    base = [job("base", asked) for asked in PROMPTS]
    store.plan("s", base + [dataclasses.replace(each, model="copy") for each in base])
    store.append("generate", [(each.key, response("x")) for each in base])
    judge = store.add_scorer("judge", "rules", "1")
    unread = list(store.unscored("s", judge))
    assert len(unread) == 4
    store.add_scores(
        judge,
        [
            Scored(prompt=each.prompt, key=each.key, score=Score(value=VerdictValue.REFUSED))
            for each in unread
        ],
    )
    assert store.table("s", [judge]).columns["verdict:rules"].tolist() == [1] * 8


def test_responses_join_texts_and_readings(answered):
    judge = answered.add_scorer("judge", "rules", "1")
    guard = answered.add_scorer("guard", "g", "1", "prompt")
    answered.add_scores(
        judge,
        [
            Scored(
                prompt=PROMPTS[1],
                key=JOBS[1].key,
                score=Score(value=VerdictValue.COMPLIED, label="why"),
            )
        ],
    )
    answered.add_scores(
        guard, [Scored(prompt=PROMPTS[1], key=None, score=Score(value=DecisionValue.ALLOW))]
    )
    found = list(answered.responses("s", [judge, guard], [PROMPTS[1], PROMPTS[3]]))
    assert [(each.model, each.prompt) for each in found] == [
        (model, asked) for model in ("base", "code/seed1") for asked in (PROMPTS[1], PROMPTS[3])
    ]
    first, *_, last = found
    assert first.scores["verdict:rules"].value is VerdictValue.COMPLIED
    assert first.scores["verdict:rules"].label == "why"
    assert first.scores["decision:g:prompt"].value is DecisionValue.ALLOW
    assert last.response is None
    assert last.scores == {}
    assert len(list(answered.responses("s"))) == 8


def test_responses_may_be_read_while_others_are_asked_for(answered):
    for each in answered.responses("s"):
        if each.key:
            assert answered.call(each.key) == each.response


def test_a_new_plan_replaces_the_old_one_and_a_broken_one_does_not(answered):
    def broken():
        yield JOBS[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        answered.plan("s", broken())
    assert len(answered.table("s")) == 8
    answered.plan("s", reversed(JOBS[:3]))
    assert answered.table("s").columns["completion_tokens"].tolist() == [13] * 3
    assert answered.table("s").names["prompt"][0] == PROMPTS[2].id


def test_the_table_does_not_depend_on_the_past_of_the_store(answered, tmp_path):
    judge = answered.add_scorer("judge", "rules", "1")
    with Store.open(tmp_path / "fresh.db") as fresh:
        fresh.plan("other", [job("z", prompt(9))])
        fresh.append(
            "generate", [(each.key, answered.call(each.key)) for each in reversed(JOBS[:-1])]
        )
        fresh.plan("s", JOBS)
        assert_equal_tables(fresh.table("s"), answered.table("s"))
        assert fresh.studies() == ["other", "s"]
    assert judge


def assert_equal_tables(one, other):
    assert one.names == other.names
    assert one.columns.keys() == other.columns.keys()
    assert one.scores.keys() == other.scores.keys()
    for column, values in one.columns.items():
        assert values.tolist() == other.columns[column].tolist(), column
    for column, values in one.scores.items():
        np.testing.assert_array_equal(values, other.scores[column])


def test_merging_gives_everything_and_twice_is_once(answered, tmp_path):
    judge = answered.add_scorer("judge", "rules", "1")
    answered.add_scores(
        judge,
        [
            Scored(
                prompt=e.prompt,
                key=e.key,
                source=key("judge", e.key.hex()),
                score=Score(value=VerdictValue.REFUSED),
            )
            for e in JOBS[:3]
        ],
    )
    answered.add_scores(
        answered.add_scorer("guard", "g", "1", "prompt"),
        [Scored(prompt=PROMPTS[0], key=None, score=Score(value=DecisionValue.BLOCK))],
    )
    answered.set_meta("s", "probe", {"max": 0.5})
    answered.add_models(
        "s", [StudyModel(name="base", condition="base", reference="r")], {"base": {"weights": "w"}}
    )
    with Store.open(tmp_path / "whole.db") as whole:
        whole.plan("mine", [job("z", prompt(9))])
        whole.append("generate", [(JOBS[0].key, response("mine came first"))])
        for _ in range(2):
            whole.merge(answered.path)
        assert whole.studies() == ["mine", "s"]
        assert whole.call(JOBS[0].key).text == "mine came first"
        assert whole.call(JOBS[1].key) == answered.call(JOBS[1].key)
        assert whole.get_meta("s", "probe") == {"max": 0.5}
        assert whole.models("s") == answered.models("s")
        assert whole.models("s")[0]["identity"] == {"weights": "w"}
        assert whole.attempts() == {"timeout": 1}
        readers = [
            whole.add_scorer("judge", "rules", "1"),
            whole.add_scorer("guard", "g", "1", "prompt"),
        ]
        theirs = [judge, answered.add_scorer("guard", "g", "1", "prompt")]
        merged, origin = whole.table("s", readers), answered.table("s", theirs)
        merged.columns["completion_tokens"][0] = origin.columns["completion_tokens"][0]
        assert_equal_tables(merged, origin)


def test_a_study_that_is_not_there_is_named(store):
    store.plan("there", [])
    with pytest.raises(StoreError, match="no study called 'gone'; it holds: there"):
        store.table("gone")
    assert store.get_meta("gone", "x") is None
    assert len(store.table("there")) == 0


def test_a_backlog_knows_its_length_and_may_be_read_twice(answered):
    unread = answered.unscored("s", answered.add_scorer("judge", "rules", "1"))
    assert len(unread) == 7
    assert list(unread) == list(unread)


def test_models_are_kept_in_their_order(store):
    models = [StudyModel(name=name, condition=name, reference=f"r/{name}") for name in ("z", "a")]
    for kept in (models, models[:1]):
        store.add_models("s", kept, {"z": {"weights": "w"}})
        assert [record["name"] for record in store.models("s")] == [model.name for model in kept]
    assert store.models("s")[0]["identity"] == {"weights": "w"}


def test_a_scorer_that_was_never_added_is_refused(answered):
    with pytest.raises(StoreError, match="no scorer 99"):
        answered.table("s", [99])


@pytest.mark.parametrize(
    ("spoil", "read", "what"),
    [
        ("UPDATE prompt SET record = '5'", lambda store: store.prompts("s"), "holds a prompt that cannot be read"),
        ("UPDATE prompt SET record = '{broken'", lambda store: store.table("s"), "record in row 1 of table prompt is no JSON"),
        ("UPDATE prompt SET record = CAST(x'7bff' AS TEXT)", lambda store: store.table("s"), "record in row 1 of table prompt is no UTF-8"),
        ("UPDATE prompt SET record = replace(record, 'hazard', 'hazbrd')", lambda store: store.table("s"), "has the field 'hazbrd'"),
        ("UPDATE note SET value = '{broken'", lambda store: store.get_meta("s", "n"), "value in row n of table note is no JSON"),
        ("UPDATE model SET record = ''", lambda store: store.models("s"), "record in row 0 of table model is no JSON"),
        ("UPDATE model SET record = replace(record, '\"reference\": \"r\"', '\"reference\": 5')", lambda store: store.study_models("s"), "holds a model"),
        ("DELETE FROM word WHERE id = (SELECT model FROM job)", lambda store: store.table("s"), "names a row of word that is not there"),
        ("DELETE FROM prompt", lambda store: store.table("s"), "names a row of prompt that is not there"),
        ("UPDATE job SET model = -107", lambda store: store.table("s"), "names a row of word that is not there"),
        ("UPDATE job SET sample = 'x'", lambda store: store.table("s"), "sample b'x' in table job"),
        ("UPDATE job SET sample = -1", lambda store: store.table("s"), "sample -1 in table job"),
        ("UPDATE job SET sample = 4294967296", lambda store: store.table("s"), "sample 4294967296 in table job"),
        ("UPDATE answer SET finish = 77", lambda store: store.table("s"), "finish 77 in table answer"),
        ("UPDATE answer SET finish = -2", lambda store: list(store.responses("s")), "finish -2 in table answer"),
        ("UPDATE answer SET prompt_tokens = 1.5", lambda store: store.table("s"), "prompt_tokens 1.5 in table answer"),
        ("UPDATE text SET text = x'ff'", lambda store: list(store.responses("s")), "text in row 1 of table text is no UTF-8"),
        ("UPDATE text SET detail = '{'", lambda store: list(store.responses("s")), "detail in row 1 of table text is no JSON"),
        ("UPDATE text SET detail = '[1]'", lambda store: list(store.responses("s")), "no JSON object"),
        ("UPDATE word SET text = x'ff' WHERE id = 1", lambda store: store.table("s"), "table word is no UTF-8"),
        ("UPDATE call SET id = 1 << 60 WHERE id = 1", lambda store: store.table("s", (1,)), None),
        ("UPDATE reading SET value = 7", lambda store: store.table("s", (1,)), "value 7 in table reading"),
        ("UPDATE reading SET value = -3", lambda store: list(store.responses("s", (1,))), "value -3 in table reading"),
        ("UPDATE reading SET label = 999", lambda store: store.table("s", (1,)), "names a row of word that is not there"),
        ("UPDATE reader SET kind = 'judgf'", lambda store: store.table("s", (1,)), "row 1 of table reader has kind 'judgf'"),
    ],
)  # fmt: skip
def test_a_record_that_this_version_would_not_write_is_one_line(tmp_path, spoil, read, what):
    path = tmp_path / "spoilt.db"
    with Store.open(path) as store:
        store.plan("s", JOBS)
        store.add_models(
            "s",
            [StudyModel(name="base", condition="base", reference="r")],
            {"base": {"weights": "w"}},
        )
        store.set_meta("s", "n", 1)
        store.append("generate", [(JOBS[0].key, response("text"))])
        judge = store.add_scorer("judge", "rules", "1")
        score = Score(value=VerdictValue.REFUSED)
        store.add_scores(judge, [Scored(prompt=JOBS[0].prompt, key=JOBS[0].key, score=score)])
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(spoil)
    connection.close()
    with Store.open(path, write=False) as store:
        if what is None:  # a row that nothing names any more is read past
            read(store)
            return
        with pytest.raises(StoreError, match=what) as caught:
            read(store)
    assert "\n" not in str(caught.value)
