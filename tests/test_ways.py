"""The way of one prompt through the files, as `docs/architecture.md` lists it."""

import json
import re

import pytest
from aiohttp import web
from doc_pages import page, section
from faithful_server import KEY, Server, completion
from text_followed import text_followed

from aftertune import Purpose, Quiet, load_study, run_study

MARK = "quokka-17"


def refusal(body, _):
    return web.json_response(completion(body, f"Sorry, I cannot help with {MARK}."))


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("AFTERTUNE_API_KEY", KEY)
    prompt = {
        "behavior": "h0", "pair": "h0", "template": "t", "task": "text", "intent": "harmful", "text": f"a question, {MARK}",
    }  # fmt: skip
    (tmp_path / "prompts.jsonl").write_text(json.dumps(prompt) + "\n")
    with Server(reply=refusal) as server:
        (tmp_path / "study.yaml").write_text(
            "name: one\n"
            "models:\n"
            f"  - {{name: base, reference: '{server.url}#base'}}\n"
            f"  - {{name: tuned, reference: '{server.url}#tuned', base: base}}\n"
            "prompts: [./prompts.jsonl]\n"
        )
        yield load_study(tmp_path / "study.yaml")


def test_one_prompt_goes_through_the_files_that_the_page_names(study, tmp_path):
    with text_followed(MARK) as modules:
        run_study(study, tmp_path / "run", Quiet(), Purpose(command="test"))
    # The store's responses are read again for the page and for the drift of style alone.
    report = ("report/", "result", "store/responses", "score/style")
    way = {name for name in modules if not name.startswith(report)}
    steps = section(page("docs/architecture.md"), "## The way of one prompt").partition(
        "\nFrom here on"
    )[0]
    listed = re.findall(r"^\d+\. `(\S+)\.py`", steps, re.MULTILINE)
    assert way == set(listed)
    assert len(listed) <= 15
