"""The page as text: policy, escaping, parts, files beside it. What a browser makes of it: test_report_browser.py."""

import os
import re
import subprocess
import sys
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from typed_results import as_document

from aftertune.core.outcomes import Outcome
from aftertune.core.records import VerdictValue
from aftertune.errors import InputError
from aftertune.report import transcripts
from aftertune.report.overview import Step
from aftertune.report.page import Report, write_page
from aftertune.report.transcripts import JudgeScore

HOSTILE = "</pre></style><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\x00\u202e{{ 7*7 }}{% raw %} $\\alpha$"
FORBIDDEN_TAGS = {"img", "iframe", "object", "embed", "link", "base", "foreignobject"}


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def page(tmp_path, result, *, gate=None, name="page.html", command="aftertune demo", **parts):
    report = Report(document=as_document(result, gate), command=command, **parts)
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
        make_answer("code", Outcome.HARMFUL, response="THE ANSWER ITSELF"),
        make_answer("code+multitask", Outcome.SAFE, response="No, sorry."),
    ]


def test_hostile_text_stays_text(tmp_path, result, gate, make_answer):
    condition = result["settings"][0]["conditions"][1]
    condition["name"] = HOSTILE
    result |= {"notes": [HOSTILE], "judges": [HOSTILE, "rules"]}
    condition["judges"] = {
        HOSTILE: condition["judges"]["content"],
        "rules": condition["judges"]["rules"],
    }
    gate |= {"tuned": HOSTILE, "reasons": [HOSTILE, HOSTILE], "notes": [HOSTILE]}
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
        steps=[Step(HOSTILE, HOSTILE)],
        show_responses=True,
        assumptions=(HOSTILE,),
    )
    tags = parsed(text)
    assert not FORBIDDEN_TAGS & set(tags.tags)
    assert tags.tags.count("script") == 3, "the page's own, the index and one block"
    bad = {"style", "src"}
    assert not [name for name, _ in tags.attributes if name.startswith("on") or name in bad]
    assert tags.tags.count("style") == 1
    assert not set("\x1b\x00\u202e") & set(text)
    assert "{{ 7*7 }}" in text


def policy_of(text):
    return re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1].replace("&#39;", "'")


def test_nothing_but_its_own_style_and_script_by_their_hashes(tmp_path, result, gate, answers):
    text = page(tmp_path, result, gate=gate, answers=answers)
    policy = policy_of(text)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'" in policy
    references = {
        value for name, value in parsed(text).attributes if name in {"href", "src", "xlink:href"}
    }
    assert all(reference.startswith("#") for reference in references)
    assert "url(http" not in text
    assert "@import" not in text
    assert "https://" not in text


def test_parts_of_the_page(tmp_path, result, gate, answers):
    step = Step("aftertune mix train.jsonl", "Mix:")
    text = page(
        tmp_path,
        result,
        gate=gate,
        answers=answers,
        command="aftertune check base code",
        steps=[step],
    )
    assert text.index('class="word">FAIL') < text.index('class="subject">, harm: code against base')
    assert text.index('class="word"') < text.index("<svg") < text.index("aftertune mix train.jsonl")
    tabs = re.findall(r'<li><a href="#([a-z]+)">', text)
    assert tabs == ["overview", "tasks", "answers", "guards", "judges", "mitigations", "method"]
    assert set(tabs) <= set(re.findall(r'<section id="([a-z]+)"', text))
    for words in ("over-refusal", "accuracy", "false blocks", "differ", result["plan"]):
        assert words in text
    assert "aftertune check base code" in text
    assert "matrix" in text


def test_a_tab_without_content_is_left_out(tmp_path, result):
    for condition in result["settings"][0]["conditions"]:
        condition["guards"] = {}
    text = page(tmp_path, result)
    assert 'href="#guards"' not in text
    assert 'href="#answers"' not in text
    assert 'href="#tasks"' in text


def test_same_report_same_bytes(tmp_path, result, gate, answers):
    first, second = (
        page(tmp_path, result, gate=gate, answers=answers, name=name) for name in ("a", "b")
    )
    assert first == second


def test_rules_alone_never_give_an_asr(tmp_path, rules_result, answers):
    text = page(tmp_path, rules_result, answers=answers)
    visible = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert "ASR" not in visible
    assert "not refused" in visible


def test_transcripts_that_are_too_large_lie_beside_the_page(tmp_path, result, answers, monkeypatch):
    beside = tmp_path / "page-answers"
    text = page(tmp_path, result, answers=answers)
    assert not beside.exists()
    assert "strict-dynamic" not in policy_of(text)
    with monkeypatch.context() as small:
        small.setattr(transcripts, "MOST_INSIDE", 10)
        text = page(tmp_path, result, answers=answers)
        assert 'data-beside="page-answers/*-' in text
        assert "strict-dynamic" in policy_of(text)
        (first,) = beside.iterdir()
        assert first.read_text(encoding="utf-8").startswith('aftertuneBlock(0,"')
        page(tmp_path, result, answers=answers[:2])
        (second,) = beside.iterdir()
        assert first != second, (
            "files go by their content, so that an old page never opens new texts"
        )
    page(tmp_path, result, answers=answers)
    assert not beside.exists(), "what an earlier page left is deleted"


def test_a_foreign_folder_beside_the_page_is_left_alone(tmp_path, result, answers):
    (tmp_path / "page-answers").mkdir()
    (tmp_path / "page-answers" / "mine.txt").write_text("x", encoding="utf-8")
    page(tmp_path, result, answers=answers)
    assert (tmp_path / "page-answers" / "mine.txt").is_file()


def test_missing_folder(tmp_path, result):
    with pytest.raises(InputError, match="no folder"):
        page(tmp_path / "no", result)


def test_importing_the_report_loads_no_heavy_package():
    heavy = "{'torch', 'transformers', 'matplotlib', 'pyarrow'}"
    code = f"import sys, aftertune.report.page, aftertune.report.terminal; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
