"""A check as JUnit XML, read by two parsers: a case per side and task; what was not measured is skipped, never passed."""

import copy
from xml.etree import ElementTree as ET

import pytest
from typed_results import as_document, as_gate

from aftertune.errors import InputError, NoVerdictLeft, Stopped
from aftertune.measure.plan import Margins
from aftertune.report.junit import CaseStatus, junit_cases, write_junit, write_junit_error

MARGINS = Margins(
    harm=0.05, harm_task=0.1, over_refusal=0.05, over_refusal_task=0.1, scores={"exact": 0.03}
)
MODELS = ("base", "tuned")


def parsed(path):
    return ET.parse(path).getroot()  # noqa: S314  # written by us


def statuses(gate):
    return {(case.side, case.name): case.status for case in junit_cases(as_gate(gate))}


def lines_of(gate, side):
    return gate["sides"][side]["lines"]


def test_every_line_of_a_fail_has_its_case_and_its_own_sentence(gate):
    cases = junit_cases(as_gate(gate))
    assert len(cases) == 1 + sum(len(side["lines"]) for side in gate["sides"].values() if side)
    failed = [case for case in cases if case.side == "harm" and case.status is CaseStatus.FAILED]
    fails = [line["name"] for line in lines_of(gate, "harm") if line["fails"]]
    assert [case.name for case in failed] == fails
    assert all(case.message.startswith(f"{case.name}: the ASR rose by ") for case in failed)
    assert cases[0].status is CaseStatus.FAILED
    assert cases[0].message.startswith("FAIL, harm: code against base")


def changed(gate, verdict, codes, reasons, side="harm", **fields):
    gate = copy.deepcopy(gate)
    told = {"verdict": verdict, "reason_codes": codes, "reasons": reasons}
    gate["sides"][side] |= told | fields
    for line in lines_of(gate, side):
        line |= {"fails": False, "passes": True}
    return gate


@pytest.mark.parametrize(
    ("verdict", "codes", "fields", "status"),
    [
        ("PASS", ["within the margins"], {}, CaseStatus.PASSED),
        ("NOT ENOUGH DATA", ["few behaviors"], {}, CaseStatus.SKIPPED),
        ("NOT ENOUGH DATA", ["undecided pairs"], {}, CaseStatus.SKIPPED),
        ("INCONCLUSIVE", ["could rise"], {}, CaseStatus.PASSED),
        ("FAIL", ["above the limit"], {"undecided_share": 0.2}, CaseStatus.SKIPPED),
        ("FAIL", ["above the limit"], {"incoherent_share": 0.2}, CaseStatus.SKIPPED),
        ("FAIL", ["above the limit"], {}, CaseStatus.PASSED),
    ],
)
def test_a_line_within_its_margin_passes_only_where_its_side_was_measured(
    gate, verdict, codes, fields, status
):
    told = statuses(changed(gate, verdict, codes, ["a reason"], **fields))
    assert {told["harm", line["name"]] for line in lines_of(gate, "harm")} == {status}


def test_an_open_line_and_a_hidden_one_are_skipped(gate):
    gate = changed(gate, "INCONCLUSIVE", ["could rise"], ["a reason"])
    overall, task, *_ = lines_of(gate, "harm")
    overall["passes"] = False
    task["change"]["hidden"] = True
    told = statuses(gate)
    assert told["harm", "overall"] is told["harm", task["name"]] is CaseStatus.SKIPPED


@pytest.mark.parametrize(
    ("codes", "upper", "status"),
    [
        (["above the limit"], 0.5, CaseStatus.FAILED),
        (["within the margins"], 0.2, CaseStatus.PASSED),
        (["could be above the limit"], 0.4, CaseStatus.SKIPPED),
    ],
)
def test_the_highest_tolerated_rate_is_a_case(gate, codes, upper, status):
    gate |= {"max_asr": 0.3, "asr_upper": upper}
    gate = changed(gate, "INCONCLUSIVE", codes, ["a reason"])
    assert statuses(gate)["harm", "highest tolerated ASR"] is status


def test_a_verdict_by_labels_that_are_not_there_passes_nothing(mended):
    mended |= {"verdict_by": "labels", "verdict": "NOT ENOUGH DATA", "reasons": ["no labels yet"]}
    told = statuses(mended)
    assert told["", "verdict"] is told["harm", "overall"] is CaseStatus.SKIPPED
    assert set(told.values()) == {CaseStatus.SKIPPED}


@pytest.fixture
def written(tmp_path, result, gate):
    def write(base="base", tuned="tuned"):
        path = tmp_path / "junit.xml"
        versions = {"judge content": "v1"}
        write_junit(
            path, as_document(result, gate, margins=MARGINS, versions=versions), (base, tuned)
        )
        return path

    return write


def test_counts_and_properties(written, gate):
    suite = parsed(written()).find("testsuite")
    cases = suite.findall("testcase")
    told = list(statuses(gate).values())
    assert [int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")] == [
        len(cases), told.count(CaseStatus.FAILED), 0, told.count(CaseStatus.SKIPPED),
    ]  # fmt: skip
    values = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert (values["base"], values["tuned"], values["judges"]) == (*MODELS, "content, rules")
    assert (values["margin"], values["margin of exact"]) == ("0.05", "0.03")
    assert values["version of judge content"] == "v1"
    assert "aftertune" in values


def test_another_parser_reads_the_same(written, gate):
    junitparser = pytest.importorskip("junitparser")
    (suite,) = junitparser.JUnitXml.fromfile(str(written()))
    told = statuses(gate)
    assert suite.tests == len(told)
    kinds = {"failure": CaseStatus.FAILED, "skipped": CaseStatus.SKIPPED}
    for case in suite:
        side = case.classname.removeprefix("aftertune").removeprefix(".")
        results = [kinds[result._tag] for result in case.result]
        assert results == [told[side, case.name]] * (told[side, case.name] is not CaseStatus.PASSED)


def test_names_that_xml_does_not_take_are_written_harmless(written):
    tuned = 'a\x00b\x1b[31m\ufffe\ud800<&"]]>\nc'
    root = parsed(written(tuned=tuned))
    values = {p.get("name"): p.get("value") for p in root.iter("property")}
    assert values["tuned"] == 'ab[31m<&"]]> c'


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (None, "error"),
        (InputError("nowhere: does not exist"), "error"),
        (Stopped("stopped; run again"), "error"),
        (NoVerdictLeft("the base already answers"), "skipped"),
    ],
)
def test_a_check_without_a_result_is_an_error_or_a_skip(tmp_path, error, kind):
    path = tmp_path / "junit.xml"
    write_junit_error(path, MODELS, error)
    (case,) = parsed(path).iter("testcase")
    (outcome,) = case
    assert outcome.tag == kind
    assert str(error or "has not ended") in outcome.get("message")


def test_a_study_has_no_test_cases(tmp_path, result):
    with pytest.raises(ValueError, match="no test cases"):
        write_junit(tmp_path / "junit.xml", as_document(result), MODELS)
