"""Markdown, LaTeX and model cards of a result: what they hold, and that names of others stay text in them."""

import re
from html.parser import HTMLParser

import pytest
import yaml
from markdown_it import MarkdownIt
from typed_results import as_document, conditions

from aftertune.report.latex import latex_tables, latex_text
from aftertune.report.markdown import COLUMNS, escaped, fenced, inline, markdown_summary
from aftertune.report.model_card import model_card
from aftertune.report.overview import Step

HOSTILE = (
    "<script>alert(1)</script>",
    "![x](https://evil.example/p.png)",
    "[a](javascript:alert(1))",
    "@everyone and #12 and GH-13",
    "https://evil.example www.evil.example",
    "a | b || c",
    "`code` ``` ~~~ **bold** _it_ ~gone~",
    "# heading",
    "- item",
    "1. item",
    "> quoted",
    "=== under",
    "&lt;b&gt; &amp;",
    "line\n\n# two\r\n<b>",
    "back\\slash \\[x\\]",
    "]]> --> <!-- x",
    "$x$ and $$y$$ and $`z`$",
    "0123456789abcdef0123456789abcdef01234567 of DEADBEEF, 00123456789abcdef",
)
GITHUB = MarkdownIt("gfm-like", {"html": True})


class Seen(HTMLParser):
    """Collects the elements, links and text of rendered Markdown."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(GITHUB.render(text))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_a_hostile_name_as_it_is(text):
    for whole, tags in (
        (escaped(text), ["p"]),
        (f"- {escaped(text)}", ["ul", "li"]),
        (f"## {inline(text)}", ["h2"]),
        (f"| {inline(text)} |\n| --- |\n| {inline(text)} |", ["table", "thead", "tr", "th", "tbody", "tr", "td"]),
    ):  # fmt: skip
        seen = Seen(whole)
        made = [tag for tag in seen.tags if tag != "span"]
        assert (made, seen.links) == (tags, [])
        shown = seen.text.replace("\u2060", "").split()
        assert shown == text.split() * (1 + (tags[0] == "table"))
        # GitHub looks for these in what it has rendered
        assert not re.search(r"@\w|#\d|www\.|\w://|GH-\d|[0-9a-f]{7}", seen.text, re.IGNORECASE)
        assert "$" not in whole, "GitHub takes what stands between two for a formula"
        assert seen.tags.count("span") == seen.text.count("$")


@pytest.mark.parametrize("text", ["```\n<b>", "a `````` b", "plain"])
def test_a_block_of_code_ends_where_it_shall(text):
    seen = Seen(fenced(text, "sh"))
    assert seen.tags == ["pre", "code"]
    assert seen.text.rstrip("\n") == text


@pytest.fixture
def hostile(result, gate):
    """A result whose fine-tune, tasks and reasons have the worst of names."""
    names = {"code": HOSTILE[0], "translation": HOSTILE[1]}
    for condition in result["settings"][0]["conditions"]:
        condition["name"] = names.get(condition["name"], condition["name"])
        for breakdown in (
            condition["asr"],
            condition["over_refusal"],
            condition["asr_change"] or {},
        ):
            tasks = breakdown.get("by_task", {})
            for old, new in (("text", HOSTILE[4]), ("code", HOSTILE[5])):
                if old in tasks:
                    tasks[new] = tasks.pop(old)
    gate["tuned"] = HOSTILE[0]
    gate["reasons"] = list(HOSTILE)
    return result, gate


def test_a_hostile_result_makes_no_link_and_no_element_of_its_own(hostile):
    step = Step("aftertune report '```<b>'", HOSTILE[3])
    seen = Seen(markdown_summary(as_document(*hostile), [step]))
    assert seen.links == []
    assert {"script", "img", "a", "b"}.isdisjoint(seen.tags)
    assert seen.tags.count("h2") == 1
    assert seen.tags.count("details") == 1


def test_the_summary_has_verdict_figures_chart_worst_task_and_next_command(result, gate):
    steps = [Step("aftertune repair base code", "Mend the weights:"), Step("second", "")]
    text = markdown_summary(as_document(result, gate), steps)
    assert text.splitlines()[0] == "## Aftertune: ❌ FAIL, harm: code against base"
    table = [line for line in text.splitlines() if line.startswith("| ASR |")]
    assert len(table) == 1
    assert re.search(r"\+\d+\.\d \\\[\+\d", table[0])
    assert "Worst task: " in text
    assert "```sh\naftertune repair base code\n```" in text
    assert "second" not in text


def bars(text):
    block = text.partition("```text\n")[2].partition("```")[0]
    return [line for line in block.splitlines() if "●" in line and "─" in line and "[" in line]


def test_the_chart_has_every_change_at_its_place(result, gate):
    text = markdown_summary(as_document(result, gate))
    lines = bars(text)
    tasks = [line["name"] for line in gate["sides"]["harm"]["lines"] if line["task"]]
    assert [line.split("  ")[0] for line in lines[-len(tasks) :]] == [f"harm, {t}" for t in tasks]
    zero = {line.index("│") for line in lines if "│" in line}
    assert len(zero) == 1
    for line, of_gate in zip(lines[-len(tasks) :], gate["sides"]["harm"]["lines"][1:], strict=True):
        change = of_gate["change"]["estimate"]
        assert (line.index("●") > zero.copy().pop()) == (change > 0.01) or abs(change) < 0.02
    assert max(map(len, lines)) < COLUMNS + 70


def test_a_study_has_a_summary_too(result):
    text = markdown_summary(as_document(result))
    assert text.startswith("## Aftertune: LESS SAFE: ")
    assert len(bars(text)) == sum(
        c["base"] is not None for c in result["settings"][0]["conditions"]
    )


# LaTeX


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        (r"a\b{c}$d&e#f%g_h~i^j", r"a\textbackslash{}b\{c\}\$d\&e\#f\%g\_h\textasciitilde{}i\textasciicircum{}j"),
        ("-12.3 [-15.0, <0.1]", r"$-$12.3 [$-$15.0, $<$0.1]"),
        ("non-refusal r-1", "non-refusal r-1"),
        ("\\input{/etc/passwd}\n\\end{table}", r"\textbackslash{}input\{/etc/passwd\} \textbackslash{}end\{table\}"),
    ],
)  # fmt: skip
def test_latex_prints_text_as_it_is(text, latex):
    assert latex_text(text) == latex


def test_tables_are_whole_and_hold_the_changes(hostile):
    text = latex_tables(as_document(*hostile))
    parts = re.findall(
        r"\\begin\{tabular\}\{l(r*)\}\n\\toprule\n(.*?)\\bottomrule\n\\end", text, re.DOTALL
    )
    assert len(parts) == text.count(r"\begin{table}") == text.count(r"\end{table}") >= 3
    for columns, body in parts:
        rows = [line for line in body.splitlines() if line != r"\midrule"]
        assert all(row.endswith(r" \\") for row in rows)
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns)}
    assert not re.search(
        r"(?<!\\)[%#_](?!.*usepackage)", re.sub(r"^%.*$", "", text, flags=re.MULTILINE)
    )


def test_a_change_stands_in_its_table(result, gate):
    change = conditions(result)["code"]["asr_change"]["overall"]["estimate"]
    assert f"+{100 * change:.1f}" in latex_tables(as_document(result, gate))


# Model cards


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_the_hubs_own_library_reads_the_results_of_a_card(result, gate):
    from huggingface_hub import ModelCard

    text = model_card(as_document(result, gate), "aftertune check base code", "my-tune")
    results = ModelCard(text).data.eval_results
    code = conditions(result)["code"]
    by_metric = {(r.metric_type, r.metric_name.partition(" (")[0]): r for r in results}
    overall = by_metric["attack_success_rate", "ASR"]
    assert overall.metric_value == code["asr"]["overall"]["estimate"]
    assert (overall.task_type, overall.dataset_name) == ("text-generation", "prompts")
    tasks = {name for kind, name in by_metric if kind == "attack_success_rate"}
    shown = {t for t, rate in code["asr"]["by_task"].items() if not rate["hidden"]}
    assert tasks == {"ASR", *(f"ASR, {task}" for task in shown)}
    assert by_metric["over_refusal_rate", "Over-refusal"].metric_value == pytest.approx(
        code["over_refusal"]["overall"]["estimate"]
    )
    assert front_matter(text)["model-index"][0]["name"] == "my-tune"
    assert "aftertune check base code" in text


def test_every_fine_tune_of_a_study_has_its_entry(result):
    from huggingface_hub import ModelCard

    text = model_card(as_document(result), "aftertune run study.yaml")
    tuned = [c["name"] for c in result["settings"][0]["conditions"] if c["base"] is not None]
    assert [entry["name"] for entry in front_matter(text)["model-index"]] == tuned
    assert ModelCard(text).data.eval_results


def test_a_hostile_card_stays_a_card(hostile):
    name = "x\n---\nlicense: mit\n- &a *b '\" {"
    text = model_card(as_document(*hostile), "aftertune check", name)
    matter = front_matter(text)
    assert list(matter) == ["model-index"]
    assert matter["model-index"][0]["name"] == " ".join(name.split())
    seen = Seen(text.split("---\n", 2)[2])
    assert seen.links == []
    assert {"script", "img", "a", "b"}.isdisjoint(seen.tags)
