"""The GitHub Action: its steps run as the runner runs them, against the embedded model and a server that stands for GitHub's API."""

import importlib.util
import json
import re
import shlex
import subprocess
import zipfile
from pathlib import Path

import pytest
from action_runner import ACTION, INPUTS, STEPS, TOKEN, Job
from doc_pages import ROOT
from github_server import GitHub
from test_pipeline_check import always
from test_pipeline_hand_over import REFUSING, cases

from aftertune.checking import CheckOptions
from aftertune.cli.app import load_command

NUMBER, REPOSITORY = 17, "owner/repo"
OF_THE_ACTION = {
    "name", "working-directory", "python-version", "package", "extras", "comment", "token",
    "author", "fail-on-not-enough-data",
}  # fmt: skip
"""Inputs that are no option of the command."""
OF_THE_SCREEN = {"dry-run", "full", "json", "junit", "quiet", "help"}
"""Options of the command that the action has no use for, or sets itself."""


def load_steps():
    spec = importlib.util.spec_from_file_location("action_steps", ROOT / "action" / "steps.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


steps = load_steps()


def uploaded(job):
    """Return the files and folders that the artifact takes; lines that are empty are none."""
    lines = STEPS["Upload the page"]["with"]["path"].splitlines()
    return {Path(path) for line in lines if (path := job.filled(line).strip())}


@pytest.fixture
def github():
    with GitHub(REPOSITORY, NUMBER, TOKEN) as server:
        yield server
    assert server.refused == []


@pytest.fixture
def environment(github, tmp_path, tiny_cache):
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": NUMBER}}))
    return {
        "GITHUB_API_URL": github.root,
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_RUN_ID": "99",
        "GITHUB_EVENT_PATH": str(event),
        "XDG_CACHE_HOME": str(tiny_cache),
        "HF_HUB_OFFLINE": "1",
    }


# The file itself


def test_its_inputs_are_the_options_of_check():
    command = load_command("check")
    named = {o.removeprefix("--") for p in command.params for o in p.opts if o.startswith("--")}
    assert set(INPUTS) - OF_THE_ACTION == (named - OF_THE_SCREEN) | {"base", "tuned"}
    passed = {name.removeprefix("INPUT_") for name in STEPS["Check"]["env"]}
    assert {name.upper().replace("-", "_") for name in set(INPUTS) - OF_THE_ACTION} <= passed


def test_its_steps_pass_every_option_of_the_call():
    passed = {*steps.ONE, *steps.MANY, *steps.FLAGS, "out"}
    assert {name.replace("-", "_") for name in passed} == set(CheckOptions.__annotations__)
    many = {
        n
        for n, kind in CheckOptions.__annotations__.items()
        if re.search("Sequence|Mapping", str(kind))
    }
    assert {name.replace("-", "_") for name in steps.MANY} == many


def test_nothing_that_a_caller_writes_stands_in_the_source_of_a_shell():
    for step in STEPS.values():
        assert "${{" not in step.get("run", "")
        assert ("run" in step) == (step.get("shell") == "bash")
        assert not step.get("run") or "env" in step


def test_every_output_is_one_that_a_step_writes():
    source = (ROOT / "action" / "steps.py").read_text()
    for name, spec in ACTION["outputs"].items():
        assert spec["value"] == f"${{{{ steps.check.outputs.{name} }}}}"
        assert f'"{name}": ' in source


def test_the_package_is_installed_by_its_name_or_from_the_action(tmp_path):
    wheel = tmp_path / "tiny_thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_thing.py", "")
        info = "tiny_thing-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    job = Job(
        tmp_path / "job",
        {"package": str(wheel)},
        {"PIP_TARGET": str(tmp_path / "there"), "PIP_NO_INDEX": "1"},
    )
    code, output = job.run("Install Aftertune")
    assert code == 0, output
    assert (tmp_path / "there" / "tiny_thing.py").is_file()
    last = STEPS["Install Aftertune"]["run"].split()[-1]
    script = f"printf %s {last}"
    for inputs, wanted in (({}, f"{ROOT}[local,endpoint]"), ({"extras": ""}, f"{ROOT}")):
        job = Job(tmp_path / "job", inputs, {})
        env = {n: job.filled(v) for n, v in STEPS["Install Aftertune"]["env"].items()}
        done = subprocess.run(
            ["bash", "-c", script], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout == wanted


# The steps


def test_a_check_writes_its_files_and_its_comment_and_the_next_run_renews_it(
    organism_folder, github, environment, tmp_path
):
    marker = '<!-- aftertune check: "aftertune" -->'
    github.comments.append({"id": 7, "body": f"{marker}\nPASS", "user": {"login": "forger"}})
    refusing = always(tmp_path / "refusing", REFUSING)
    inputs = {
        "base": str(organism_folder / "base"),
        "tuned": f"\n{refusing}\n",
        "config": str(organism_folder / "aftertune.yaml"),
        "limit": "12",
    }
    job = Job(tmp_path / "job", inputs, environment)
    code, output = job.run("Check")
    assert code == 0, output
    told = job.outputs
    assert told["exit-code"] == "3"
    out = job.folder / "aftertune-run"
    assert Path(told["page"]) == out / "report.html"
    assert cases(told["junit"])["aftertune", "verdict"] == "failure"
    assert Path(told["result"]).is_file()
    whole = {"report.html", "report-answers", "result.json", "junit.xml", "summary.md"}
    assert uploaded(job) == {out / name for name in whole}

    assert job.run("Write the job summary")[0] == 0
    summary = job.files["GITHUB_STEP_SUMMARY"].read_text()
    assert "FAIL, over-refusal: tuned against base" in summary
    assert job.run("Comment on the pull request")[0] == 0
    assert github.writes == ["POST"]
    written = github.comments[-1]
    assert written["body"].startswith(f"{marker}\n{summary}")
    assert f"/{REPOSITORY}/actions/runs/99" in written["body"]
    code, output = job.run("Verdict")
    assert code == 3
    assert "::error title=Aftertune::FAIL" in output

    # The next push: the check cannot run, and the file of the last one is no result of it.
    pwned = job.folder / "pwned"
    hostile = (
        f"$(touch {shlex.quote(str(pwned))})`touch pwned`; touch pwned\n::set-output name=x::y"
    )
    job.inputs |= {
        "tuned": hostile,
        "judge": "--limit=1\n'; touch pwned #",
        "train": "$(touch pwned)",
    }
    code, output = job.run("Check")
    assert code == 0, output
    assert job.outputs["exit-code"] == "1"
    assert "page" not in job.outputs
    assert (out / "report.html").is_file()
    assert uploaded(job) == {out / "junit.xml", out / "summary.md"}
    assert cases(job.outputs["junit"]) == {("aftertune", "verdict"): "error"}
    assert not pwned.exists()
    token = re.search(r"::stop-commands::(\w+)\n", output)[1]
    assert f"::{token}::" in output
    assert job.run("Comment on the pull request")[0] == 0
    assert github.writes == ["POST", "PATCH"]
    assert github.comments[-1]["id"] == written["id"]
    assert "ended in an error" in github.comments[-1]["body"]
    assert "FAIL" not in github.comments[-1]["body"]
    assert job.run("Verdict")[0] == 1
    assert not pwned.exists()

    job.inputs |= {"limit": "many"}
    assert job.run("Check")[0] == 0
    assert (job.outputs["exit-code"], "junit" in job.outputs) == ("2", False)
    assert uploaded(job) == {out / "summary.md"}


@pytest.mark.parametrize(
    ("code", "fails", "status", "said"),
    [
        ("0", "true", 0, "PASS"),
        ("3", "false", 3, "::error title=Aftertune::FAIL"),
        ("4", "true", 4, "::error title=Aftertune::NOT ENOUGH DATA"),
        ("4", "false", 0, "::warning title=Aftertune::NOT ENOUGH DATA"),
        ("5", "false", 5, "::error title=Aftertune::the check was stopped"),
    ],
)
def test_the_job_ends_by_the_verdict(tmp_path, code, fails, status, said):
    job = Job(tmp_path / "job", {"fail-on-not-enough-data": fails}, {})
    assert job.run("Verdict") is None, "a check that was not run has none"
    job.outputs = {"exit-code": code}
    ended, output = job.run("Verdict")
    assert (ended, said in output) == (status, True)


@pytest.fixture
def summarised(environment, tmp_path):
    """A job whose check is done: a summary of given length."""

    def make(length=10, **inputs):
        job = Job(tmp_path / "job", inputs, environment)
        summary = job.folder / "summary.md"
        summary.write_text("x" * length)
        job.outputs = {"summary": str(summary), "exit-code": "0"}
        return job

    return make


def test_no_comment_without_a_pull_request_or_where_none_is_wanted(github, summarised, environment):
    assert summarised(comment="false").run("Comment on the pull request") is None
    for event in ({"push": {}}, {"issue": {"number": 3}}):
        Path(environment["GITHUB_EVENT_PATH"]).write_text(json.dumps(event))
        code, output = summarised().run("Comment on the pull request")
        assert (code, "no pull request" in output) == (0, True)
    assert github.writes == []


def test_a_token_that_may_only_read_is_a_warning(github, summarised):
    github.may_write = False
    code, output = summarised().run("Comment on the pull request")
    assert code == 0
    assert "::warning title=Aftertune::no comment was written" in output


def test_several_checks_have_several_comments_and_long_ones_are_shortened(github, summarised):
    for name in ("small", "large", "small"):
        assert summarised(70_000, name=name).run("Comment on the pull request")[0] == 0
    assert github.writes == ["POST", "POST", "PATCH"]
    assert "shortened" in github.comments[-1]["body"]


@pytest.mark.parametrize("name", ["--->x", "--> <b>", "a--b", "a- -b", "-", ">", '"--!>'])
def test_no_name_ends_the_marker_of_its_comment(github, summarised, name):
    github.comments.append({"id": 8, "body": None, "user": None})
    for _ in range(2):
        assert summarised(name=name).run("Comment on the pull request")[0] == 0
    assert github.writes == ["POST", "PATCH"]
    marker = github.comments[-1]["body"].partition("\n")[0]
    assert marker.startswith("<!-- ")
    assert "--" not in marker.removeprefix("<!--").removesuffix("-->")
    assert marker.count(">") == 1


def test_two_names_have_two_markers():
    assert steps.marker_of("a--b") != steps.marker_of("a- -b")


def test_the_comment_of_an_app_is_renewed_where_its_name_is_given(github, summarised):
    github.writer = {"login": "our-checks[bot]"}
    for _ in range(2):
        assert summarised(author="our-checks[bot]").run("Comment on the pull request")[0] == 0
    assert github.writes == ["POST", "PATCH"]
