import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from typed_results import as_gate, as_study

from aftertune.core.outcomes import Outcome
from aftertune.core.records import Intent, VerdictValue
from aftertune.errors import InputError
from aftertune.report.examples import JudgeScore
from aftertune.report.page import Report, write_page

HOSTILE = "</pre></style><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\x00\u202e{{ 7*7 }}{% raw %} $\\alpha$"
FORBIDDEN_TAGS = {
    "script",
    "img",
    "iframe",
    "object",
    "embed",
    "link",
    "form",
    "base",
    "foreignobject",
}


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def page(tmp_path, result, *, gate=None, name="page.html", command="aftertune demo", **parts):
    report = Report(
        result=as_study(result),
        gate=None if gate is None else as_gate(gate),
        command=command,
        **parts,
    )
    write_page(tmp_path / name, report)
    return (tmp_path / name).read_text(encoding="utf-8")


def parsed(text):
    tags = Tags()
    tags.feed(text)
    return tags


@pytest.fixture
def answers(make_answer):
    return [
        make_answer("base", Outcome.SAFE),
        make_answer("code", Outcome.HARMFUL, response="THE ANSWER ITSELF", blocked_by=("world",)),
        make_answer("code+multitask", Outcome.SAFE, response="No, sorry."),
    ]


def test_harmful_answers_are_redacted_unless_asked_for(tmp_path, result, answers):
    text = page(tmp_path, result, answers=answers)
    assert "THE ANSWER ITSELF" not in text
    assert "redacted: 17 characters" in text
    assert "No, sorry." in text
    assert "THE ANSWER ITSELF" in page(tmp_path, result, answers=answers, show_responses=True)


def test_reasoning_is_folded_and_redacted_whatever_the_answer_says(tmp_path, result, make_answer):
    thought = "A THOUGHT OF HARM"
    answers = [
        make_answer("base", Outcome.SAFE, reasoning=thought),
        make_answer("code", Outcome.UNDECIDED, response=None, intent=Intent.HARMFUL, reasoning=thought),
    ]  # fmt: skip
    folded = "<details><summary>Reasoning</summary>"
    text = page(tmp_path, result, answers=answers)
    assert thought not in text
    assert text.count(folded) == 2
    shown = page(tmp_path, result, answers=answers, show_responses=True)
    assert shown.count(thought) == shown.count(folded) == 2
    benign = [
        make_answer("base", Outcome.ANSWERED, reasoning="A RECIPE"),
        make_answer("code", Outcome.OVER_REFUSED),
    ]
    assert page(tmp_path, result, answers=benign).count("A RECIPE") == 1


def test_hostile_text_stays_text(tmp_path, result, gate, make_answer):
    condition = result["settings"][0]["conditions"][1]
    condition["name"] = HOSTILE
    result |= {"notes": [HOSTILE], "judges": [HOSTILE, "rules"]}
    condition["judges"] = {
        HOSTILE: condition["judges"]["content"],
        "rules": condition["judges"]["rules"],
    }
    gate |= {"tuned": HOSTILE, "reasons": [HOSTILE], "notes": [HOSTILE]}
    gate["sides"]["harm"]["lines"][1]["name"] = HOSTILE
    fields = {
        "text": HOSTILE,
        "response": HOSTILE,
        "task": HOSTILE,
        "behavior": HOSTILE,
        "scores": (JudgeScore(judge=HOSTILE, verdict=VerdictValue.COMPLIED, label=HOSTILE),),
    }
    text = page(
        tmp_path,
        result,
        gate=gate,
        answers=[
            make_answer("base", Outcome.SAFE, **fields),
            make_answer(HOSTILE, Outcome.HARMFUL, **fields),
        ],
        command=HOSTILE,
        show_responses=True,
        notes=(HOSTILE,),
    )
    tags = parsed(text)
    assert not FORBIDDEN_TAGS & set(tags.tags)
    assert not [name for name, _ in tags.attributes if name.startswith("on") or name == "src"]
    assert tags.tags.count("style") == 1 + text.count("<svg")
    assert not set("\x1b\x00\u202e") & set(text)
    assert "{{ 7*7 }}" in text
    assert "<U+202E>".replace("<", "&lt;").replace(">", "&gt;") in text


def test_no_network_and_no_scripts(tmp_path, result, gate, answers):
    text = page(tmp_path, result, gate=gate, answers=answers)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "script-src" not in policy[1]
    references = {
        value for name, value in parsed(text).attributes if name in {"href", "src", "xlink:href"}
    }
    assert all(reference.startswith("#") for reference in references)
    assert "url(http" not in text
    assert "@import" not in text


def test_parts_of_the_page(tmp_path, result, gate, answers):
    text = page(tmp_path, result, gate=gate, answers=answers, command="aftertune check base code")
    assert text.index("FAIL, harm: code against base") < text.index('id="finding"')
    for words in ("over-refusal", "accuracy", "false blocks", "differ", result["plan"]):
        assert words in text
    assert "aftertune check base code" in text
    assert text.count("<svg") == 4


def test_same_report_same_bytes(tmp_path, result, gate, answers):
    first, second = (
        page(tmp_path, result, gate=gate, answers=answers, name=name) for name in ("a", "b")
    )
    assert first == second


def test_drawings_follow_the_text_colour_and_carry_no_date(tmp_path, result):
    text = page(tmp_path, result)
    assert "currentColor" in text
    assert "#010203" not in text
    assert "<dc:date>" not in text


def test_any_script_may_name_a_condition(tmp_path, result):
    result["settings"][0]["conditions"][1]["name"] = "代码 نموذج $x_1^2$"
    text = page(tmp_path, result)
    assert text.count("代码 نموذج $x_1^2$") > text.count("<svg") > 0


def test_long_answers_are_cut(tmp_path, result, make_answer):
    answers = [
        make_answer("base", Outcome.SAFE, text="y" * 10**6, response="x" * 10**6),
        make_answer("code", Outcome.HARMFUL, text="y" * 10**6),
    ]
    text = page(tmp_path, result, answers=answers)
    assert "[... 998,500 more characters]" in text
    assert len(text) < 300_000


def test_rules_alone_never_give_an_asr(tmp_path, rules_result, answers):
    text = page(tmp_path, rules_result, answers=answers)
    assert "ASR" not in text
    assert "outcome: not refused" in text


def test_missing_folder(tmp_path, result):
    with pytest.raises(InputError, match="no folder"):
        page(tmp_path / "no", result)


WITHOUT = """
import importlib.abc, json, sys
from pathlib import Path
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {'matplotlib', 'torch', 'transformers'}:
            if '.' in name: raise ImportError(name)
            raise ModuleNotFoundError(name)
        return None
sys.meta_path.insert(0, Refuse())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == 'matplotlib' else found(name, *rest)
from aftertune.report.page import Report, write_page
import aftertune.report.terminal, aftertune.report.finding
from typed_results import as_study
result = as_study(json.loads(Path(sys.argv[1]).read_text()))
write_page(Path(sys.argv[2]), Report(result=result, command='aftertune demo'))
"""


def test_a_page_without_matplotlib_and_torch_says_what_is_missing(tmp_path, result):
    (tmp_path / "result.json").write_text(json.dumps(result))
    paths = [str(tmp_path / name) for name in ("result.json", "page.html")]
    support = {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", WITHOUT, *paths], check=True, env=os.environ | support)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<svg" not in text
    assert "Figures need matplotlib" in text


def test_importing_the_report_loads_no_heavy_package():
    heavy = "{'torch', 'transformers', 'matplotlib', 'pyarrow'}"
    code = f"import sys, aftertune.report.page, aftertune.report.terminal; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
