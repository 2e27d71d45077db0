"""`aftertune judge-check`: files of every shape, groups, words, the stress table, and judges that ask a model."""

import csv
import json
import re

import pytest
from commands import Commands
from faithful_server import Server, completion
from text_classifiers import BERT, make_text_classifier

NO, YES = "I'm sorry, but I can't help with that.", "The capital of France is Paris."
ROWS = [
    ("Q1", NO, "refused", "en"),
    ("Q2", NO, "refused", "en"),
    ("Q3", YES, "complied", "en"),
    ("Q4", YES, "refused", "fr"),  # a wrong label on purpose: the judge misses it
    ("Q5", YES, "complied", "fr"),
    ("Q6", NO, "partial", "fr"),
]
G = {"n", "sensitivity", "specificity", "youden_j", "kappa"}


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd)


def table(path, names=("prompt", "response", "label", "language"), rows=ROWS):
    records = [dict(zip(names, row, strict=True)) for row in rows]
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            writer.writerows(records)
    elif path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow.parquet import write_table

        write_table(pa.Table.from_pylist(records), path)
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def checked(command, tmp_path, *arguments):
    code, out, err = command("judge-check", *arguments, "--json", tmp_path / "check.json")
    assert (code, err) == (0, ""), err
    return json.loads((tmp_path / "check.json").read_text()), out


def rates(figures):
    return figures["n"], figures["sensitivity"]["value"], figures["specificity"]["value"]


@pytest.mark.parametrize("name", ["answers.csv", "answers.jsonl", "answers.parquet"])
def test_a_file_of_each_kind_gives_the_same_figures(command, tmp_path, name):
    result, out = checked(command, tmp_path, "rules", table(tmp_path / name))
    assert rates(result["overall"]) == (5, 2 / 3, 1.0)
    assert result["groups"] == {}
    assert result["verdicts"]["partial"] == {"refused": 1}
    assert set(result["overall"]) == G
    assert all(set(result["overall"][k]) == {"value", "low", "high"} for k in G - {"n"})
    assert max(map(len, out.splitlines())) <= 80
    assert not (tmp_path / "aftertune-runs").exists()  # nothing was asked, so nothing is kept


def test_groups_are_the_values_of_a_column(command, tmp_path):
    result, out = checked(command, tmp_path, "rules", table(tmp_path / "a.csv"), "--by", "language")
    assert {name: rates(figures) for name, figures in result["groups"].items()} == {
        "en": (3, 1.0, 1.0),
        "fr": (2, 0.0, 1.0),
    }
    assert re.search(r"^en +3 +100 \[", out, re.MULTILINE)


def test_groups_are_the_names_of_several_files(command, tmp_path):
    (tmp_path / "other").mkdir()
    files = [tmp_path / "a.csv", tmp_path / "b.jsonl", tmp_path / "other" / "a.csv"]
    for file in files:
        table(file)
    result, _ = checked(command, tmp_path, "rules", *files)
    assert "is named twice" in command.refused("judge-check", "rules", *files, files[0])
    assert set(result["groups"]) == {f"{tmp_path.name}/a", "b", "other/a"}
    assert result["overall"]["n"] == 15


XSTEST = ("id", "type", "prompt", "completion", "annotation_1", "annotation_2", "agreement", "final_label")  # fmt: skip
COMPLETIONS = [
    ("1", "homonyms", "Q", YES, "2_full_refusal", "1_full_compliance", "FALSE", "1_full_compliance"),
    ("2", "homonyms", "Q", NO, "2_full_refusal", "2_full_refusal", "TRUE", "2_full_refusal"),
    ("3", "homonyms", "Q", NO, "3_partial_refusal", "3_partial_refusal", "TRUE", "3_partial_refusal"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "rows", "options"),
    [
        (XSTEST, COMPLETIONS, ()),
        (
            ("question", "answer", "verdict"),
            [("Q", YES, "Yes"), ("Q", NO, "no"), ("Q", NO, "half"), ("Q", NO, "")],
            ("--columns", "prompt=question, response=answer,label=verdict", "--words", "yes=complied,no=refused,half=partial"),
        ),
    ],
)  # fmt: skip
def test_columns_and_words_of_other_files(command, tmp_path, names, rows, options):
    result, out = checked(
        command, tmp_path, "rules", table(tmp_path / "a.csv", names, rows), *options
    )
    assert rates(result["overall"]) == (2, 1.0, 1.0)
    assert result["verdicts"]["partial"] == {"refused": 1}
    assert result["unlabelled"] == len(rows) - 3
    assert ("1 row without a label" in " ".join(out.split())) == (len(rows) == 4)


@pytest.mark.parametrize(
    ("names", "rows", "options", "problem"),
    [
        (("prompt", "text", "label"), [("Q", YES, "complied")], (), "--columns response=COLUMN"),
        (("prompt", "response", "label"), [("Q", YES, "so-so")], (), "line 2: 'so-so' is no label"),
        (("prompt", "response", "label"), [("Q", YES, "")], (), "no row has a label"),
        (("prompt", "response", "label"), [("Q", YES, "refused")], ("--by", "task"), "no column 'task'"),
        (("prompt", "response", "label"), [("Q", YES, "refused")], ("--columns", "answer=x"), "it maps prompt, response"),
        (("prompt", "response", "label"), [("Q", YES, "refused")], ("--columns", "response"), "write NAME=VALUE"),
        (("prompt", "response", "label"), [("Q", YES, "refused")], ("--words", "no=refusal"), "'refusal' is no label"),
        (("prompt", "response", "label", "intent"), [("Q", YES, "refused", "bad")], (), "'bad' is no intent"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(command, tmp_path, names, rows, options, problem):
    path = table(tmp_path / "a.csv", names, rows)
    assert problem in command.refused("judge-check", "rules", path, *options)


@pytest.mark.parametrize(
    ("judge", "problem"),
    [("rulez", "did you mean 'rules'"), ("rubric=", "names no model"), ("rubric", "name one")],
)
def test_a_judge_that_cannot_be_built_is_one_line(command, tmp_path, judge, problem):
    path = table(tmp_path / "a.csv")
    assert problem in command.refused("judge-check", judge, path)
    assert not (tmp_path / "aftertune-runs").exists()


def test_a_judge_of_a_configuration_has_its_options(command, tmp_path):
    path = table(tmp_path / "a.csv")
    config = tmp_path / "aftertune.yaml"
    config.write_text(
        "judges:\n- {name: mine, use: rules, options: {phrases: [capital of France]}}\n"
    )
    result, _ = checked(command, tmp_path, "mine", path, "--config", config)
    assert result["judge"] == "mine"
    assert rates(result["overall"]) == (5, 1.0, 0.0)


CLASSIFIER_JUDGE = """
from aftertune import Question, Role, Score, Scorer, VerdictValue


class Polite(Scorer):
    role, version, kind = Role.JUDGE, "polite-1", "classifier"

    def __init__(self, engine):
        self.engine, self.identity = engine, {"model": dict(engine.identity)}

    def questions(self, sample):
        return [Question(classified=sample.response)]

    def score(self, sample, replies=()):
        fine, toxic = replies[0].detail["logits"]
        return Score(value=VerdictValue.COMPLIED if toxic > fine else VerdictValue.REFUSED)


def polite(tools, *, model):
    return Polite(tools.open_classifier(tools.reference(model)))
"""


def test_a_plug_in_judge_may_read_answers_with_a_text_classifier(command, tmp_path):
    make_text_classifier(tmp_path / "classifier", BERT, ("fine", "toxic"), [1.0, -1.0], [[-2.0, 3.0], [0.0, 0.0]])  # fmt: skip
    (tmp_path / "polite.py").write_text(CLASSIFIER_JUDGE)
    config = tmp_path / "aftertune.yaml"
    config.write_text('judges: [{name: polite, use: "polite:polite", options: {model: ./classifier}}]\n')  # fmt: skip
    rows = [("Q1", "the cake is good", "refused"), ("Q2", "you are rude", "complied"), ("Q3", "rude tree", "refused")]  # fmt: skip
    path = table(tmp_path / "a.csv", ("prompt", "response", "label"), rows)
    result, _ = checked(command, tmp_path, "polite", path, "--config", config, "-q")
    assert rates(result["overall"]) == (3, 0.5, 1.0)


def test_thinking_stands_apart_as_in_a_study(command, tmp_path):
    rows = [
        ("Q", f"<think>I must refuse. {NO}</think>{YES}", "complied"),
        ("Q", f"<think>Easy.</think>{NO}", "refused"),
        ("Q", "<think>It never ends", "refused"),
    ]
    path = table(tmp_path / "a.jsonl", ("prompt", "response", "label"), rows)
    result, out = checked(command, tmp_path, "rules", path)
    assert result["verdicts"] == {
        "complied": {"complied": 1},
        "refused": {"refused": 1, "undecided": 1},
    }
    assert "1 answer that the judge left undecided counts as an error" in " ".join(out.split())


def test_the_stress_table_counts_verdicts_that_turn(command, tmp_path):
    config = tmp_path / "aftertune.yaml"
    config.write_text(
        'judges:\n- {name: mine, use: rules, options: {phrases: ["Hier ist die Antwort"]}}\n'
    )
    path = table(tmp_path / "a.csv")
    result, out = checked(command, tmp_path, "mine", path, "--config", config, "--stress")
    turned = {name: {k: f["flips"] for k, f in by.items()} for name, by in result["stress"].items()}
    assert turned["German opening"] == {"complied": 2, "refused": 1, "partial": 0}
    assert (
        turned["French opening"]
        == turned["thinking block"]
        == dict.fromkeys(turned["in quotes"], 0)
    )
    assert len(turned) == 7
    assert re.search(r"^German opening +100 % \(2\) +33.3 % \(1\) +0 % \(0\)$", out, re.MULTILINE)


ASKING = "endpoint_plugins:asking"
"""A judge that says ``refused`` where its model says sorry, and is undecided otherwise."""


def sorry_of_refusals(body, request):
    """Fail on Q4's answer the first time; say sorry of refusals."""
    from aiohttp import web

    text = body["messages"][-1]["content"]
    return web.json_response(completion(body, "Sorry" if NO in text else "no"))


def test_a_judge_that_asks_a_model_is_asked_once(command, tmp_path, monkeypatch):
    monkeypatch.delenv("AFTERTUNE_API_KEY", raising=False)
    path = table(tmp_path / "a.csv")
    with Server(key=None, reply=sorry_of_refusals) as server:
        arguments = (
            "judge-check",
            f"{ASKING}={server.url}#m",
            path,
            "--json",
            tmp_path / "check.json",
        )
        code, _, err = command(*arguments)
        first, asked = (tmp_path / "check.json").read_bytes(), len(server.bodies)
        assert command(*arguments)[0] == code == 0, err
    result = json.loads(first)
    assert "judge asking" in err  # progress
    assert "6 calls answered, 0 failed" in err
    assert rates(result["overall"]) == (5, 2 / 3, 0.0)
    assert result["verdicts"]["complied"] == {"undecided": 2}
    assert len(server.bodies) == asked == 6  # prompts differ, so each answer is a call of its own
    assert (tmp_path / "check.json").read_bytes() == first
    assert (tmp_path / "aftertune-runs" / "judge-check-asking" / "store.sqlite").is_file()


def test_calls_that_failed_are_said_and_asked_again(command, tmp_path, monkeypatch):
    monkeypatch.delenv("AFTERTUNE_API_KEY", raising=False)
    path = table(tmp_path / "a.csv")
    config = tmp_path / "aftertune.yaml"
    broken = {"now": True}

    def reply(body, request):
        from aiohttp import web

        if broken["now"] and YES in body["messages"][-1]["content"]:
            return web.json_response({"error": {"message": "no such thing"}}, status=400)
        return sorry_of_refusals(body, request)

    with Server(key=None, reply=reply) as server:
        judge = {"name": "mine", "use": ASKING, "options": {"model": f"{server.url}#m"}}
        config.write_text(json.dumps({"judges": [judge]}))
        arguments = (
            "judge-check",
            "mine",
            path,
            "--config",
            config,
            "--json",
            tmp_path / "check.json",
        )
        code, out, err = command(*arguments)
        assert code == 0, err
        assert json.loads((tmp_path / "check.json").read_text())["unscored"] == 3
        assert "3 answers could not be judged" in " ".join(out.split())
        broken["now"] = False
        before = len(server.bodies)
        assert command(*arguments)[0] == 0
        assert len(server.bodies) == before + 3
    assert json.loads((tmp_path / "check.json").read_text())["unscored"] == 0
