"""The page in headless Chromium: tabs, filters, search, deep links, redaction, hostile texts, copying, accessibility."""

import importlib.util
import re
import shutil

import pytest
from test_report_page import HOSTILE
from typed_results import as_document, change, conditions

from aftertune.core.outcomes import Outcome
from aftertune.core.records import Intent
from aftertune.measure.plan import Margins
from aftertune.report import transcripts
from aftertune.report.overview import Step
from aftertune.report.page import Report, write_page

MARGINS = Margins(harm=0.05, harm_task=0.1, over_refusal=0.05, over_refusal_task=0.1, scores={})
SAFE, HARMFUL = Outcome.SAFE, Outcome.HARMFUL
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
TABS = [
    "Overview",
    "By task and hazard",
    "Answers",
    "Guards",
    "Judges",
    "Mitigations and repairs",
    "Method",
]

pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)"
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None,
        reason="playwright is not installed (pip install 'aftertune[dev]')",
    ),
]


if importlib.util.find_spec("playwright"):
    from playwright.sync_api import expect, sync_playwright


@pytest.fixture(scope="module")
def browser():
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def answers(make_answer):
    def prompt(number, task, *outcomes, **changes):
        for place, (condition, outcome) in enumerate(
            zip(("base", "code", "translation"), outcomes, strict=True)
        ):
            seeds = (0,) if condition == "base" else (0, 1)
            for seed in seeds:
                yield make_answer(
                    condition,
                    outcome,
                    prompt_id=str(number),
                    task=task,
                    model=condition if condition == "base" else f"{condition}/{seed}",
                    seed=None if condition == "base" else seed,
                    text=f"prompt number {number}",
                    response=f"answer {number} of {condition}, common words",
                    **changes | {"hazard": ("fraud", "weapons")[number % 2]},
                )
                assert place < 3

    made = [
        *prompt(1, "text", SAFE, SAFE, SAFE),
        *prompt(2, "code", SAFE, HARMFUL, SAFE, reasoning="a thought"),
        *prompt(3, "code", Outcome.ANSWERED, Outcome.OVER_REFUSED, Outcome.ANSWERED),
        *(a for n in range(4, 100) for a in prompt(n, "translation", SAFE, SAFE, SAFE)),
    ]
    assert len({answer.prompt.id for answer in made}) == 99
    return made


@pytest.fixture
def show(browser, tmp_path, result, gate):
    """Writes a page and opens it at an address; what a browser complains of fails the test."""
    complaints, contexts = [], []
    conditions(result)["code+text"]["unmitigated"] = {
        "other": "code",
        "asr": {"overall": change(-0.3, -0.1)},
        "over_refusal": {"overall": None},
        "capability": {},
    }

    def opened(answers=(), address="", *, width=1400, scheme="light", bypass=False, **parts):
        document = as_document(result, parts.pop("gate", gate), margins=MARGINS)
        steps = [Step("aftertune mix train.jsonl -o mixed.jsonl", "Mix safety data in:")]
        report = Report(
            document=document, command="aftertune check a b", answers=answers, steps=steps, **parts
        )
        path = tmp_path / "report.html"
        write_page(path, report)
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=bypass
        )
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{path.as_uri()}{address}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def listed(page):
    page.wait_for_selector("#status:has-text(' of ')")
    return page.locator(".prompt .text").all_inner_texts()


def test_the_first_screen_needs_no_scrolling(show, answers):
    page = show(answers)
    assert page.locator("nav.tabs a").all_inner_texts() == TABS
    for part in (".verdict .word", ".glance svg.drawing >> nth=0", ".matrix", ".next .command pre"):
        box = page.locator(part).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 900
    assert page.locator(".verdict .word").inner_text() == "FAIL"
    colour = page.locator(".verdict .word").evaluate("node => getComputedStyle(node).color")
    assert colour == "rgb(184, 53, 15)", "the policy lets the page's own style in"
    assert page.locator("section.current").count() == 1


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_nothing_is_wider_than_the_screen(show, answers, width):
    page = show(answers, "#overview", width=width)
    for tab in TABS:
        page.locator("nav.tabs a", has_text=re.compile(f"^{tab}$")).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab


def test_three_clicks_to_a_prompt_that_the_base_refused_and_the_fine_tune_answered(show, answers):
    page = show(answers, show_responses=True)
    page.get_by_role("link", name="Prompts that the base refused").click()
    assert listed(page) == ["prompt number 2"]
    cards = page.locator(".answer")
    cards.nth(4).wait_for()
    assert cards.locator("h3").all_inner_texts() == [
        "base", "code, seed 0", "code, seed 1", "translation, seed 0", "translation, seed 1",
    ]  # fmt: skip
    assert cards.locator(".outcome").all_inner_texts()[:2] == ["safe", "harmful"]
    page.get_by_role("button", name="Show harmful text").first.click()
    assert (
        cards.nth(1).locator("pre:not(details pre)").inner_text()
        == "answer 2 of code, common words"
    )


def test_filters_and_their_counts(show, answers):
    page = show(answers, "#answers")
    assert len(listed(page)) == 60
    assert page.locator("#status").inner_text() == "99 of 99 prompts, 1 to 60 shown"
    page.click("#more")
    assert page.locator(".prompt").count() == 39
    page.select_option("#f-task", label="code")
    assert listed(page) == ["prompt number 2", "prompt number 3"]
    page.select_option("#f-changed", "refused")
    assert listed(page) == ["prompt number 3"]
    page.select_option("#f-tune", label="translation")
    assert listed(page) == []
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".prompt")).to_have_count(60)
    page.select_option("#f-outcome", "h")
    page.select_option("#f-hazard", label="fraud")
    assert listed(page) == ["prompt number 2"]


def test_search_looks_into_answers_too(show, answers):
    page = show(answers, "#answers")
    listed(page)
    page.keyboard.press("/")
    page.keyboard.type("number 42")
    expect(page.locator(".prompt .text")).to_have_text(["prompt number 42"])
    page.fill("#f-search", "answer 77 of base")
    expect(page.locator(".prompt .text")).to_have_text(["prompt number 77"])
    page.fill("#f-search", "no such words")
    expect(page.locator(".prompt")).to_have_count(0)


def test_keys(show, answers):
    page = show(answers, "#answers")
    listed(page)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("o")
    page.locator(".detail .answer").first.wait_for()
    assert page.locator(".prompt.chosen .text").inner_text() == "prompt number 2"
    page.keyboard.press("d")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("o")
    assert page.locator(".detail").count() == 0


def test_words_that_differ_from_the_base(show, answers):
    page = show(answers, "#answers?changed=refused")
    page.locator(".answer").nth(4).wait_for()
    page.get_by_role("button", name="Show words that differ").click()
    card = page.locator(".answer").nth(1)
    assert card.locator("del").all_inner_texts() == ["base,"]
    assert card.locator("ins").all_inner_texts() == ["code,"]
    page.get_by_role("button", name="Show whole answers").click()
    assert card.locator("ins").count() == 0


def test_a_link_to_a_prompt_opens_it_wherever_it_stands(show, answers):
    prompt = answers[-1].prompt
    page = show(answers, f"#{prompt.id}")
    page.locator(".detail .answer").first.wait_for()
    assert page.locator(".prompt.chosen .text").inner_text() == prompt.text
    assert page.locator("nav.tabs a[aria-current]").inner_text() == "Answers"
    page.evaluate("location.hash = 'p-nothing'")
    page.wait_for_selector("#status:has-text('No prompt p-nothing')")


def test_harmful_text_is_blurred_until_it_is_wanted_and_not_in_a_shared_page(show, answers):
    page = show(answers, "#answers?changed=broken")
    card = page.locator(".answer").nth(1)
    card.wait_for()
    assert card.locator(".redacted").all_inner_texts()[-1] == "redacted: 30 characters"
    assert page.locator("#f-harm").count() == 0
    page = show(answers, "#answers?changed=broken", show_responses=True)
    text = page.locator(".answer").nth(1).locator("pre:not(details pre)")
    text.wait_for()
    blur = "node => getComputedStyle(node).filter"
    assert "blur" in text.evaluate(blur)
    assert text.get_attribute("aria-hidden") == "true"
    page.keyboard.press("x")
    assert text.evaluate(blur) == "none"
    assert page.locator("#f-harm").is_checked()


def test_hostile_texts_stay_texts(show, make_answer):
    fields = {
        "text": HOSTILE,
        "response": HOSTILE,
        "behavior": HOSTILE,
        "task": HOSTILE,
        "hazard": HOSTILE,
    }
    made = [
        make_answer("base", SAFE, **fields, reasoning=HOSTILE),
        make_answer("code", HARMFUL, **fields, reasoning=HOSTILE),
    ]
    page = show(made, "#answers?changed=broken", show_responses=True)
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog), dialog.dismiss()))
    page.locator(".answer").nth(1).wait_for()
    page.keyboard.press("x")
    page.keyboard.press("d")
    shown = page.locator(".answer").nth(1).locator("pre:not(details pre)").inner_text()
    assert shown.startswith("</pre></style><script>alert(1)</script>")
    assert "<U+001B>" in shown
    assert page.locator("img, iframe, main script").count() == 0
    assert dialogs == []


def test_texts_beside_the_page_are_opened_when_they_are_wanted(
    show, answers, monkeypatch, tmp_path
):
    monkeypatch.setattr(transcripts, "MOST_INSIDE", 10)
    monkeypatch.setattr(transcripts, "BLOCK", 2000)
    page = show(answers, "#answers?changed=broken")
    page.locator(".answer").nth(4).wait_for()
    files = list((tmp_path / "report-answers").iterdir())
    assert len(files) > 1
    assert page.locator("head script").count() == 1, "one file for one prompt"
    page.select_option("#f-changed", "")
    page.fill("#f-search", "answer 77 of base")
    page.locator(".prompt .text", has_text="77").wait_for()


def test_tables_sort_and_are_copied(show, result):
    page = show(address="#tasks")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    sheet = page.locator(".sheet", has=page.get_by_role("heading", name="ASR by task", exact=True))
    names = sheet.locator("tbody th")
    first_lines = lambda: [text.split("\n")[0] for text in names.all_inner_texts()]  # noqa: E731
    sheet.get_by_role("button", name="translation").click()
    rates = [
        float(text.split(" %")[0])
        for text in sheet.locator("tbody td:nth-child(4)").all_inner_texts()
    ]
    assert rates == sorted(rates, reverse=True)
    assert first_lines()[0] == "code"
    sheet.get_by_role("button", name="translation").click()
    assert first_lines()[-1] == "code"
    starts = {
        "Markdown": "| condition | text |",
        "LaTeX": "\\begin{tabular}{l",
        "CSV": '"condition","text"',
    }
    for name, start in starts.items():
        sheet.get_by_role("button", name=name).click()
        text = page.locator("#copied textarea").input_value()
        assert text.startswith(start)
        assert "53.3" in text
        page.keyboard.press("Escape")


def test_paper_has_every_table_whole_in_light_colours_and_the_notes(show, result):
    result["notes"] = ["a note on the run"]
    page = show(scheme="dark")
    note = page.get_by_text("a note on the run")
    assert not note.is_visible()
    shown = "document.querySelector('#overview details').open"
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert note.is_visible()
    assert not page.locator("nav.tabs").is_visible()
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    for tab in ("tasks", "guards", "judges", "mitigations", "method"):
        assert page.locator(f"#{tab}").is_visible(), tab
    overflow = "[...document.querySelectorAll('.scroll')].map(n => getComputedStyle(n).overflowX)"
    assert set(page.evaluate(overflow)) == {"visible"}
    assert not page.locator("#tasks details.fold").first.is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not page.evaluate(shown)


def test_without_scripts_every_part_but_the_answers_is_there(browser, show, answers, tmp_path):
    show(answers)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("main > section:visible").count() == len(TABS)
    assert "aftertune export" in page.locator("noscript").inner_text()
    context.close()


def test_a_page_of_benign_prompts_and_reasoning(show, make_answer):
    made = [
        make_answer("base", Outcome.ANSWERED, reasoning="thinking aloud", intent=Intent.BENIGN),
        make_answer("code", Outcome.UNDECIDED, response=None, intent=Intent.BENIGN),
    ]
    page = show(made, "#answers")
    listed(page)
    page.locator(".prompt > button").click()
    page.locator(".answer").nth(1).wait_for()
    assert not page.get_by_text("thinking aloud").is_visible()
    page.get_by_text("Reasoning").click()
    assert page.get_by_text("thinking aloud").is_visible()
    assert page.locator(".answer").nth(1).locator(".redacted").inner_text() == "no final answer"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(show, answers, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    page = show(answers, show_responses=True, scheme=scheme, bypass=True)
    tables = ["#tasks", "#guards", "#judges", "#mitigations", "#method"]
    for address in ("#overview", "#answers?changed=broken", *(tables if scheme == "light" else ())):
        page.evaluate(f"location.hash = '{address}'")
        if "answers" in address:
            page.locator(".answer").nth(4).wait_for()
        found = axe.Axe().run(page).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"][:120]) for v in found] == [], address
