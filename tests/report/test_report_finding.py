import pytest

from aftertune.report.finding import _extended, brief, finding


def told(result, name):
    return next(sentence for sentence in finding(result) if sentence.startswith(f'"{name}"'))


def conditions(result):
    return {condition["name"]: condition for condition in result["settings"][0]["conditions"]}


def test_a_rise_is_told_with_its_interval_its_levels_and_where_it_was_largest(result):
    sentence = told(result, "code")
    assert "raised the ASR by 33.1 points [+27.7, +37.6], from 5.8 % to 38.9 %" in sentence
    assert (
        "most in translation (+45.0, to 53.3 %) and classification (+36.7, to 48.3 %)" in sentence
    )


def test_an_extension_is_told_against_what_it_extends(result):
    assert "brought the ASR from 38.9 % down to 5.6 %; no change was shown" in told(
        result, "code+multitask"
    )
    assert "brought the ASR from 38.9 % down to 21.2 %" in told(result, "code+text")
    assert "most in translation" in told(result, "code+text")


def test_nothing_is_called_a_rise_while_the_interval_holds_0(result):
    change = conditions(result)["code"]["asr_change"]["overall"]
    change["interval"] |= {"low": -0.001, "high": 0.4}
    sentence = told(result, "code")
    assert "no change of the ASR was shown" in sentence
    assert "raised" not in sentence


def test_an_adjusted_p_value_that_shows_nothing_is_named(result):
    change = conditions(result)["translation"]["asr_change"]["overall"]
    assert change["interval"]["low"] > 0
    assert change["p_adjusted"] > 0.05
    assert "after Holm over fine-tunes" in told(result, "translation")


def test_an_extension_is_not_called_a_mending_when_the_intervals_overlap(result):
    change = conditions(result)["code+text"]["asr_change"]["overall"]
    change["interval"] |= {"high": 0.3}
    assert "brought" not in told(result, "code+text")


def test_a_fall_is_a_fall(result):
    change = conditions(result)["code"]["asr_change"]["overall"]
    change |= {"estimate": -0.2}
    change["interval"] |= {"low": -0.3, "high": -0.1}
    assert '"code" lowered the ASR by 20.0 points [-30.0, -10.0]' in told(result, "code")


def test_too_few_behaviors_tell_nothing(result):
    change = conditions(result)["code"]["asr_change"]["overall"]
    change |= {"hidden": True, "behaviors": 5}
    assert told(result, "code") == '"code": 5 behaviors are too few to tell a change of the ASR.'


def test_cost_guard_and_seeds_stand_beside_safety(result):
    text = " ".join(finding(result))
    assert "No change of over-refusal was shown." in text
    assert "No change of the task score accuracy was shown." in text
    assert 'Behind the guard world the ASR of "code" is' in text
    assert "If none of 3 training seeds collapsed, up to 63.2 %" in text


def test_what_a_guard_could_not_decide_is_said_with_how_high_the_rate_could_be(result):
    assert "could not decide" not in " ".join(finding(result))
    rate = conditions(result)["translation"]["guards"]["world"]["asr"]["overall"]
    plain = conditions(result)["translation"]["asr"]["overall"]
    rate |= {
        "undecided": plain["undecided"] + rate["n"] // 2,
        "bounds": {**rate["interval"], "high": 0.831},
    }
    for text in (" ".join(finding(result)), " ".join(brief(result))):
        assert (
            "Where the guard world could not decide, nothing counts as harmful; how often, " in text
        )
        assert f'{rate["n"] // 2:,} of {rate["n"]:,} of "translation" (up to 83.1 %).' in text


def test_a_cost_is_told(result):
    change = conditions(result)["code+multitask"]["over_refusal_change"]["overall"]
    change |= {"estimate": 0.12}
    change["interval"] |= {"low": 0.05, "high": 0.2}
    text = " ".join(finding(result))
    assert 'Over-refusal rose with "code+multitask" (+12.0 points [+5.0, +20.0]).' in text
    assert "No change of it was shown with the others." in text


def test_missing_scores_are_a_doubt_not_a_silence(result):
    for condition in conditions(result).values():
        condition |= {"capability": {}, "capability_change": {}}
    assert any("Task scores were not measured" in sentence for sentence in finding(result))


def test_a_model_that_babbles_is_not_called_safe(result):
    rate = conditions(result)["code"]["asr"]["overall"]
    rate |= {"incoherent": rate["n"] // 2}
    rate["bounds"] |= {"high": 0.9}
    sentence = next(s for s in finding(result) if "incoherent" in s and '"code"' in s)
    assert "could be up to 90.0 %" in sentence
    assert "read no safety into it" in sentence


def test_one_seed_speaks_of_the_checkpoint(result):
    conditions(result)["code"] |= {"seeds": 1, "seed_collapse": None}
    told = finding(result)
    assert any('One training seed stands behind "code"' in sentence for sentence in told)


def test_refusal_rules_alone_never_give_an_asr(rules_result):
    assert not any("ASR" in sentence for sentence in finding(rules_result))
    assert "a non-refusal rate" in finding(rules_result)[-1]


@pytest.mark.parametrize("name", ["code2", "codex"])
def test_a_name_that_merely_begins_alike_is_no_extension(result, name):
    conditions(result)["code+text"]["name"] = name
    assert "brought" not in told(result, name)


def test_a_mitigated_fine_tune_is_told_beside_itself_without_mitigation():
    code, mixed = {"name": "code", "base": "base"}, {"name": "code+multitask", "base": "base"}
    swept = {
        "name": "code+multitask+replay@share0.3",
        "base": "base",
        "unmitigated": {"other": "code"},
    }
    setting = {"conditions": [code, mixed, swept]}
    assert _extended(setting, swept) is code
    assert _extended(setting, mixed) is code
    assert _extended(setting, code) is None
    assert _extended(setting, {"name": "codes", "base": "base"}) is None


def test_the_brief_finding_has_change_cost_mending_guard_and_doubts_alone(result):
    name = "code+text"
    condition = conditions(result)[name]
    condition["unmitigated"] = {
        "other": "code",
        **{k: condition[k] for k in ("asr_change", "over_refusal_change")},
    }
    condition["unmitigated"] |= {
        "asr": condition["asr_change"],
        "over_refusal": None,
        "capability": {},
    }
    condition["undone"] = {"estimate": 0.67, "low": 0.59, "high": None}
    text = " ".join(brief(result))
    assert '"code" raised the ASR by 33.1 points' in text
    assert 'the ASR that "code" brought is undone: by "code+text" 67 % [59, open].' in text
    assert "No change of over-refusal was shown." in text
    assert "Behind the guard world the ASR of" in text
    assert '4.3 % of "translation" (27.4 %)' in text
    assert "bypass" not in text
    assert "seeds collapsed" not in text
    assert len(brief(result)) < len(finding(result))


def test_epochs_on_the_way_are_left_out_of_the_brief_finding(result):
    conditions(result)["translation"]["name"] = "code@epoch1"
    assert "@epoch1" in " ".join(finding(result))
    assert "@epoch1" not in " ".join(brief(result))
