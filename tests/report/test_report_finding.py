"""The finding: at most five lines, made of fields and numbers, never of names."""

import copy

import pytest
from typed_results import as_study, change, conditions, interval

from aftertune.report.cells import finished
from aftertune.report.finding import finding
from aftertune.report.overview import overview
from aftertune.report.tables import study_sheets


def lines(result):
    return finding(as_study(result))


def text(result):
    return " ".join(lines(result))


def test_at_most_five_lines(result):
    assert 3 <= len(lines(result)) <= 5
    assert finding(as_study(result | {"settings": []})) == ()


def test_rises_come_with_interval_levels_and_largest_task(result):
    line = lines(result)[0]
    assert line.startswith('The ASR rose with "code" (+33.1 points [+27.7, +37.6], 5.8 % to 38.9 %')
    assert "most in translation: +45.0, to 53.3 %" in line


def test_no_rise_while_the_interval_holds_0(result):
    conditions(result)["code"]["asr_change"]["overall"]["interval"] |= {"low": -0.001, "high": 0.4}
    line = lines(result)[0]
    assert '"code" (' not in line.partition("was not shown to change")[0]


def test_an_adjusted_p_value_that_shows_nothing_is_named(result):
    overall = conditions(result)["translation"]["asr_change"]["overall"]
    assert overall["interval"]["low"] > 0
    assert overall["p_adjusted"] > 0.05
    line = lines(result)[0]
    may, _, not_shown = line.partition("may have changed with")[2].partition("was not shown")
    assert '"translation" (' in may
    assert "after Holm over fine-tunes" in may
    assert '"translation"' not in not_shown, "never beside an interval that excludes 0"


@pytest.mark.parametrize(("low", "words"), [(0.01, "bring by chance"), (-0.01, "holds 0")])
def test_the_first_screen_denies_no_change_whose_interval_excludes_0(result, low, words):
    for name, condition in conditions(result).items():
        if name != "base":
            condition["asr_change"]["by_task"] = {}
            condition["asr_change"]["overall"] |= {
                "estimate": 0.05,
                "interval": interval(low, 0.1),
                "p_adjusted": 0.2,
            }
    study = as_study(result)
    reason = overview(study, study.settings[0]).reasons[0]
    assert words in reason
    assert ("not shown" in reason) == (low < 0)


def test_a_cost_whose_interval_excludes_0_is_not_called_unchanged(result):
    conditions(result)["code"]["over_refusal_change"]["overall"] |= {
        "estimate": 0.12,
        "interval": interval(0.05, 0.2),
        "p_adjusted": 0.2,
    }
    cost = lines(result)[1]
    assert 'over-refusal may have changed with "code" (+12.0 points [+5.0, +20.0])' in cost
    assert "no significant change of accuracy" in cost


def test_a_fall_is_a_fall(result):
    overall = conditions(result)["code"]["asr_change"]["overall"]
    overall |= {"estimate": -0.2, "interval": interval(-0.3, -0.1)}
    assert 'fell with "code" (-20.0 points [-30.0, -10.0]' in lines(result)[0]


def test_too_few_behaviors_tell_nothing(result):
    conditions(result)["code"]["asr_change"]["overall"] |= {"hidden": True, "behaviors": 5}
    assert 'was not measured on enough behaviors for "code"' in lines(result)[0]


def test_cost_and_guards_stand_beside_safety(result):
    _, cost, guards = lines(result)
    assert "no significant change of over-refusal and accuracy" in cost
    assert guards.startswith('Behind the guard world the ASR of "code" is')


def test_a_cost_is_told(result):
    conditions(result)["code+multitask"]["over_refusal_change"]["overall"] |= {
        "estimate": 0.12,
        "interval": interval(0.05, 0.2),
    }
    assert (
        'over-refusal rose with "code+multitask" (+12.0 points [+5.0, +20.0])' in lines(result)[1]
    )


def test_missing_sides_are_doubts(result):
    for condition in conditions(result).values():
        condition |= {"capability": {}, "capability_change": {}, "over_refusal_change": None}
        condition["over_refusal"] |= {"overall": None}
    cost = lines(result)[1]
    assert "over-refusal is not known" in cost
    assert "task scores were not measured" in cost


def test_undecided_guards_come_with_how_high_the_rate_could_be(result):
    assert "left undecided" not in text(result)
    condition = conditions(result)["translation"]
    rate, plain = condition["guards"]["world"]["asr"]["overall"], condition["asr"]["overall"]
    rate |= {
        "undecided": plain["undecided"] + rate["n"] // 2,
        "bounds": {**rate["interval"], "high": 0.831},
    }
    assert 'left undecided up to 83.1 % of "translation"' in text(result)


def test_a_guard_that_lets_more_through(result):
    bypass = conditions(result)["code"]["guards"]["world"]["bypass_change"]["overall"]
    bypass |= {"estimate": 0.3, "interval": interval(0.2, 0.4), "p_adjusted": None}
    assert (
        'lets more harmful responses of "code" through than of its base (+30.0 points [+20.0, +40.0])'
        in text(result)
    )


def test_a_model_that_babbles_is_not_called_safe(result):
    rate = conditions(result)["code"]["asr"]["overall"]
    rate |= {"incoherent": rate["n"] // 2}
    rate["bounds"] |= {"high": 0.9}
    doubts = lines(result)[-1]
    assert "up to 90.0 %" in doubts
    assert "read no safety into it" in doubts


def test_one_seed_speaks_of_the_checkpoint(result):
    conditions(result)["code"] |= {"seeds": 1, "seed_collapse": None}
    assert 'One training seed: "code" speaks of the checkpoint' in lines(result)[-1]


def test_rules_alone_never_give_an_asr(rules_result):
    assert "ASR" not in text(rules_result)
    assert (
        lines(rules_result)[-1].startswith("Only refusals were judged")
        or "Only refusals were judged" in lines(rules_result)[-1]
    )


def test_mitigations(result):
    condition = conditions(result)["code+text"]
    breakdown = condition["asr_change"] | {"by_task": {}, "overall": change(-0.2, -0.1)}
    condition["unmitigated"] = {
        "other": "code",
        "asr": breakdown,
        "over_refusal": breakdown,
        "capability": {},
    }
    assert '"code+text" against "code": ASR -15.0 points [-20.0, -10.0]' in text(result)
    condition["undone"] = {"estimate": 0.67, "low": 0.59, "high": None, "behaviors": 30}
    assert '"code+text" undoes 67 % [59, open] of the rise that "code" brought' in text(result)
    condition["undone"] |= {"estimate": -0.32, "low": -9.83, "high": 8.5}
    assert '"code+text" against "code": ASR -15.0 points [-20.0, -10.0]' in text(result)


@pytest.mark.parametrize(
    ("code", "refusals", "words"),
    [
        (change(0.4, 0.6), change(0.5, 0.6), "+50.0 points in code and +55.0 points of over-refusal"),
        (change(0.4, 0.6), change(-0.1, 0.1), "+50.0 points in code"),
        (change(-0.1, 0.1), change(0.5, 0.6), "+55.0 points of over-refusal"),
        (change(-0.1, 0.1), change(-0.3, -0.2), None),
    ],
)  # fmt: skip
def test_a_mitigation_is_not_praised_for_the_overall_rate_alone(result, code, refusals, words):
    condition = conditions(result)["code+text"]
    condition["unmitigated"] = {
        "other": "code",
        "asr": condition["asr_change"] | {"by_task": {}, "overall": change(-0.3, -0.2)},
        "over_refusal": condition["asr_change"] | {"by_task": {}},
        "capability": {},
    }
    condition["undone"] = {"estimate": 1.81, "low": 1.57, "high": 2.13, "behaviors": 30}
    condition["asr_change"]["by_task"] = {"text": change(-0.3, -0.2), "code": code}
    condition["over_refusal_change"]["overall"] = refusals
    said = f" (against the base still {words})" if words else ""
    assert f'"code+text" undoes 181 % [157, 213] of the rise that "code" brought{said}.' in text(
        result
    )


def test_several_settings_name_the_first(result):
    result["settings"].append(copy.deepcopy(result["settings"][0]) | {"system": "strict"})
    assert lines(result)[0].startswith("With system prompt: none; decoding: greedy: The ASR")


@pytest.mark.parametrize(
    "names", [("a", "a+b"), ("x@epoch1", "x@round2"), ("x@share0.3", "base+"), ("b", "c")]
)
def test_names_change_nothing(result, names):
    """Only the declared series, factors and mitigations decide; characters in a user's names do not."""

    def renamed(one, other):
        study = as_study(json_with_names(result, {"code": one, "translation": other}))
        lines = [
            line.replace(f'"{one}"', "ONE").replace(f'"{other}"', "OTHER")
            for line in finding(study)
        ]
        setting = study.settings[0]
        sheets = study_sheets(study, setting)
        return lines, [[row[1:] for row in sheet.rows] for sheet in sheets]

    assert renamed(*names) == renamed("first", "second")


def json_with_names(result, names):
    changed = copy.deepcopy(result)
    for condition in changed["settings"][0]["conditions"]:
        condition["name"] = names.get(condition["name"], condition["name"])
    return changed


def test_epochs_and_rounds_on_the_way_are_left_out(result):
    first, second, *_ = result["settings"][0]["conditions"][1:]
    first |= {"series": "code", "factors": {"epoch": 1.0}}
    second |= {"series": "code", "factors": {"epoch": 2.0}}
    study = as_study(result)
    names = [condition.name for condition in finished(study.settings[0].conditions)]
    assert first["name"] not in names
    assert second["name"] in names
    assert f'"{first["name"]}"' not in " ".join(finding(study))
