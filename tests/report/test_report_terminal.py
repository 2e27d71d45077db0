import copy
import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from typed_results import as_document, as_gate, as_study, conditions

from aftertune.measure.plan import Margins
from aftertune.report.terminal import MOST_LINES, present, print_gate, print_sentences, print_study

GOLDEN = Path(__file__).parent / "golden"
MARGINS = Margins(harm=0.05, harm_task=0.1, over_refusal=0.05, over_refusal_task=0.1, scores={})


TYPED = {print_study: as_study, print_gate: as_gate, print_sentences: list}


def printed(show, result, *, width=80, terminal=False, **options):
    stream = io.StringIO()
    show(
        TYPED.get(show, lambda document: document)(result),
        Console(
            file=stream,
            width=width,
            force_terminal=terminal,
            color_system="truecolor" if terminal else None,
        ),
        **options,
    )
    return stream.getvalue()


def short(result, gate=None, **options):
    return printed(present, as_document(result, gate, margins=MARGINS), **options)


def trimmed(text):
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


@pytest.mark.parametrize("name", ["study", "gate"])
def test_the_tables_at_80_columns(name, result, gate):
    result |= {"plan": "0" * 32, "notes": ["Five behaviors have no translation prompt."]}
    gate |= {
        "plan": "0" * 32,
        "reasons": ["overall: the rise is above the margin"],
        "notes": ["One seed."],
    }
    text = printed(print_study, result) if name == "study" else printed(print_gate, gate)
    text = text.partition("Change by task")[0]
    assert trimmed(text) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_a_pipe_gets_no_colour_codes_and_no_long_lines(result, gate):
    for text in (printed(print_study, result), printed(print_gate, gate)):
        assert "\x1b" not in text
        assert max(map(len, text.splitlines())) <= 80
    assert "\x1b[" in printed(print_study, result, terminal=True)


def test_a_narrow_terminal_stacks_the_columns_and_loses_none(result):
    text = printed(print_study, result, width=44)
    assert max(map(len, text.splitlines())) <= 44
    for task in result["tasks"]:
        assert task in text


def test_names_cannot_steer_the_terminal(result, gate):
    hostile = "\x1b]0;owned\x07[bold red]x[/]\u202e\x00\n"
    result["settings"][0]["conditions"][1]["name"] = hostile
    result["notes"] = [hostile]
    gate |= {"tuned": hostile, "reasons": [hostile]}
    for text in (printed(print_study, result), printed(print_gate, gate)):
        assert not set("\x1b\x07\x00\u202e") & set(text)
        assert "[bold red]x[/]" in text


def test_a_cell_over_too_few_behaviors_is_hidden(result, gate):
    base = result["settings"][0]["conditions"][0]
    base["asr"]["by_task"]["text"] |= {
        "hidden": True,
        "behaviors": 3,
        "k": 98765,
        "estimate": 0.777,
    }
    text = printed(print_study, result)
    assert "too few" in text
    assert "3 behaviors" in text
    assert "98,765" not in text
    assert "77.7" not in text
    for part in ("base", "tuned", "change"):
        gate["sides"]["harm"]["lines"][1][part] |= {
            "hidden": True,
            "behaviors": 3,
            "estimate": 0.777,
        }
    assert "77.7" not in printed(print_gate, gate)


def test_nothing_is_called_asr_when_rules_alone_judge(rules_result, gate):
    gate |= {"name_rate": "non-refusal rate", "reasons": []}
    for text in (printed(print_study, rules_result), printed(print_gate, gate)):
        assert "ASR" not in text
        assert "non-refusal" in text
    assert "harmful of" not in printed(print_study, rules_result)


def test_the_gate_needs_room_and_never_rounds_onto_its_margin(gate):
    line = gate["sides"]["harm"]["lines"][0]
    line |= {"upper": 0.0502, "passes": False, "fails": False, "room": False}
    text = printed(print_gate, gate)
    assert "+5.02" in text
    assert "no room" in text


def test_every_setting_has_its_tables(result):
    other = copy.deepcopy(result["settings"][0]) | {"system": "strict"}
    result["settings"].append(other)
    text = printed(print_study, result)
    assert text.count("ASR and side effects") == 2
    assert "Agreement of judges" in text
    assert "ASR by hazard" in text


@pytest.mark.parametrize("name", ["gate_short", "study_short"])
def test_the_verdict_stands_before_its_figures(name, result, gate):
    gate |= {"reasons": ["overall: the rise is above the margin"], "notes": ["One seed."]}
    text = short(result, gate if name == "gate_short" else None)
    assert trimmed(text) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("reasons", [1, 4, 40])
@pytest.mark.parametrize("notes", [0, 5, 50])
def test_a_verdict_fits_its_room_and_counts_what_it_leaves_out(result, gate, reasons, notes):
    for condition in result["settings"][0]["conditions"]:
        condition["guards"] = {}  # they have a remark of their own
    words = (
        "a sentence of which nobody can say that it is a short one, for it takes two lines of them"
    )
    gate |= {
        "reasons": [f"{number}: {words}" for number in range(reasons)],
        "notes": [f"{number}th {words}" for number in range(notes)],
    }
    for room in (MOST_LINES, 19):
        lines = short(result, gate, room=room).splitlines()
        assert len(lines) <= room
        assert max(map(len, lines)) <= 80
        assert lines[1].startswith("0: a sentence")
        text = " ".join(lines)
        for number, sign, noun in (
            (reasons, ": a sentence", "reason"),
            (notes, "th a sentence", "remark"),
        ):
            left_out = number - sum(f"{i}{sign}" in text for i in range(number))
            counted = re.search(rf"(\d+) {noun}s?( more)?: on the page", text)
            assert (counted is not None) == (left_out > 0)
            assert counted is None or int(counted[1]) == left_out


def test_a_study_of_many_models_names_the_largest_changes(result):
    first = result["settings"][0]["conditions"]
    for number in range(30):
        copied = copy.deepcopy(conditions(result)["translation"]) | {"name": f"copy{number}"}
        first.append(copied)
    text = short(result)
    assert len(text.splitlines()) <= MOST_LINES
    assert '"code"' in text.splitlines()[1]
    assert text.count("less safe") == 10
    assert "LESS SAFE: 33 of 34 fine-tunes" in text


def test_a_broken_model_is_not_called_safer(result):
    tuned = conditions(result)["code+multitask"]
    change = tuned["asr_change"]["overall"]
    change |= {"estimate": -0.04, "bounds": None, "p_adjusted": 0.01}
    change["interval"] |= {"low": -0.06, "high": -0.02}
    assert short(result).count("safer") == 1
    change["bounds"] = [-0.04, 0.30]
    assert "safer" not in short(result)


def test_held_needs_every_bound_within_its_margin(result):
    first = result["settings"][0]
    tuned = conditions(result)["code+multitask"]
    first["conditions"] = [conditions(result)["base"], tuned]
    changes = [tuned["asr_change"]["overall"], *tuned["asr_change"]["by_task"].values()]
    for change in changes:
        change |= {"bounds": None, "p_adjusted": 1.0}
        change["interval90"] |= {"low": -0.04, "high": 0.04}
    assert short(result).startswith("HELD: code+multitask against base")
    changes[-1]["interval90"]["high"] = 0.11
    assert short(result).startswith("UNCLEAR")


def test_a_line_never_ends_between_a_figure_and_its_percent_sign(result):
    sentences = ["a" * size + " 12.3 % b [1.2, 3.4]" for size in range(30, 44)]
    lines = printed(print_sentences, sentences, width=44).splitlines()
    assert not any(line.lstrip().startswith("%") for line in lines)
    assert max(map(len, lines)) <= 44
    assert "".join("".join(lines).split()) == "".join(
        "-" + "".join(sentence.split()) for sentence in sentences
    )


def test_a_study_without_scores_says_so(result):
    for condition in result["settings"][0]["conditions"]:
        condition |= {"capability": {}, "capability_change": {}}
    assert "not measured" in printed(print_study, result)


def test_the_legend_of_a_gate_says_what_its_brackets_are(gate):
    def table(rule, method):
        for line in gate["sides"]["harm"]["lines"]:
            line["change"]["interval90"]["method"] = method
        return " ".join(printed(print_gate, gate | {"rule": rule}).split())

    assert "in brackets the 90 % interval" in table("fixed", "MOVER-Wilson on effective n")
    bets = table("sequential", "betting confidence sequence")
    assert "in brackets limits that hold with 90 % whenever one stops (bets)" in bets
    exact = table("exact", "exact mean")
    assert "exact and so without an interval" in exact
    assert "[" not in exact.split("verdict", 1)[1].split("change:")[0]


def test_long_names_are_cut_in_the_middle_before_a_table_falls_apart(result):
    tunes = [x for x in result["settings"][0]["conditions"] if x["base"] is not None]
    for condition in tunes:
        condition["name"] = f"{condition['name']}-with-multitask-rows-and-replay-at-low-rate"
    lines = short(result).splitlines()
    assert max(map(len, lines)) <= 80
    rows = [
        line for line in lines if re.search(r"^\S+…\S*-rate .* (less safe|safer|unclear)$", line)
    ]
    assert len(rows) == len(tunes)
