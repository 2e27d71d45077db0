"""The code blocks of the pages run, page by page and in order, in a folder that holds what they name.

A block that cannot run here stands behind a comment in the page: `<!-- not run: needs a real model -->`.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from commands import Commands
from doc_pages import PAGES, blocks
from doc_workplace import CONFIG, copy_of, fill_in_labels, train_models

from aftertune.study import load_study

SHELL, RUN_ELSEWHERE = ("bash",), ("example", "file=", "registry")
"""Python blocks with these words behind the language run in test_docs_api.py."""
REASONS = (
    "needs a real model", "needs a paid service", "needs a GPU", "needs public files", "needs a server", "installs packages",
    "takes minutes", "opens a browser", "a fragment", "needs a GitHub runner", "needs a cluster",
)  # fmt: skip
MOST_NOT_RUN = 30
REPAIR = ("--own-task", "held-out.jsonl", "--own-score", "exact", "--train", "train.jsonl")
"""What the pages write behind `aftertune repair`."""
SLOW = {
    "report": "draws every figure",
    "inspect": "loads Inspect and pandas",
    "scale": "runs a study twice, as test_pipeline_parts does",
}
"""Pages that take more than five seconds beyond the others' work, and why."""
VERDICTS = {"check": {0, 3, 4}, "repair": {0, 3, 4}, "data": {0, 3}}
"""The exit codes of commands whose exit code is a result; of all others it is 0."""


def runs(block):
    return not block.not_run and not any(word in block.info for word in RUN_ELSEWHERE)


def pages_with_blocks():
    languages = (*SHELL, "python")
    return [
        pytest.param(path, marks=[pytest.mark.slow] if path.stem in SLOW else [], id=path.stem)
        for path in PAGES
        if any(runs(block) for block in blocks(*languages, pages=[path]))
    ]


class Shell:
    """Runs the lines of a block: Aftertune's commands in this process, everything else as a process."""

    def __init__(self, command):
        self.command = command

    def __call__(self, text):
        """Return what the lines wrote to standard output."""
        lines = text.replace("\\\n", " ").splitlines()
        return "".join(self.line(line) for line in lines if line.partition("#")[0].strip())

    def line(self, line):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>()")
        lexer.whitespace_split = True
        words = list(lexer)
        if words[0] != "aftertune":
            shell = ["bash", "-ec", line]
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            return subprocess.run(
                shell, check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}
            ).stdout
        words, target = (words[:-2], words[-1]) if ">" in words else (words, None)
        arguments = [
            name
            for word in words[1:]
            for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
        ]
        if arguments[0] in ("check", "repair") and not {"--config", "--prompts"} & set(arguments):
            arguments += ["--config", CONFIG]
        assert "serve" not in arguments, (
            "a server does not end: say before the block that it is not run"
        )
        code, out, err = self.command(*arguments)
        assert code in VERDICTS.get(arguments[0], {0}), f"{line}\n{out}\n{err}"
        if target:
            Path(target).write_text(out)
        if arguments[:2] == ["label", "export"]:
            fill_in_labels(Path(arguments[arguments.index("-o") + 1]))
        return "" if target else out


@pytest.fixture(scope="module")
def workplace(organism_folder, tmp_path_factory):
    """The folder of a reader who has a base, a fine-tune, a finished check and a finished study."""
    from aftertune.cli.app import app

    folder = tmp_path_factory.mktemp("pages") / "workplace"
    folder.mkdir()
    before = Path.cwd()
    os.chdir(folder)
    try:

        def run(*arguments):
            app(list(arguments), standalone_mode=False)

        train_models(folder, organism_folder, run)
        run(
            "check",
            "base",
            "tuned",
            "--config",
            CONFIG,
            "--train",
            "train.jsonl",
            "--limit",
            "60",
            "-q",
        )
        run("run", "study.yaml", "-q")
        run("repair", "base", "tuned", "-o", "mended", *REPAIR, "--config", CONFIG, "-q")
        shutil.rmtree("mended", ignore_errors=True)
        for part in ("worker-2", "run/parts/1-of-2"):
            (folder / part).mkdir(parents=True)
            shutil.copy("aftertune-runs/my-study/store.sqlite", part)
    finally:
        os.chdir(before)
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the packages that the pages import
@pytest.mark.parametrize("path", pages_with_blocks())
def test_the_blocks_of_a_page_run(path, workplace, tmp_path, monkeypatch, capfd):
    folder = copy_of(workplace, tmp_path / "page")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("AFTERTUNE_DATA", str(folder))
    (folder / "tests").symlink_to(Path(__file__).parents[1])
    shell, names, printed = Shell(Commands(monkeypatch, capfd)), {}, ""
    for block in blocks(*SHELL, "python", "text", pages=[path]):
        if block.not_run:
            printed = ""
        elif block.language in SHELL:
            printed = shell(block.text)
        elif block.language == "python" and runs(block):
            exec(compile(block.text, str(block), "exec"), names)  # noqa: S102 - the page's own example
            printed = capfd.readouterr().out
        elif block.info == "text output":
            shown, *more = block.text.split("…")
            words = skeleton(shown)
            assert skeleton(printed)[: len(words) if more else None] == words


def skeleton(text):
    """Return the words of a text: numbers differ by how a machine rounds."""
    return re.sub(r"[<+-]?\d[\d.,]*", "N", text).split()


@pytest.mark.parametrize("block", [b for b in blocks("yaml", "yml") if not b.not_run], ids=str)
def test_a_study_of_the_pages_can_be_run(block, workplace, tmp_path, monkeypatch, capfd):
    """A study is expanded and its calls are counted."""
    if not block.info.endswith("study"):
        assert yaml.safe_load(block.text)
        return
    monkeypatch.chdir(copy_of(workplace, tmp_path / "page"))
    for other in blocks("yaml", pages=[block.page]):
        if name := other.info.partition("file=")[2]:
            Path(name).write_text(other.text)
    Path("page.yaml").write_text(block.text)
    code, out, err = Commands(monkeypatch, capfd)("run", "page.yaml", "--dry-run")
    assert code == 0, err
    assert yaml.safe_load(block.text)["models"][0]["name"] in out


@pytest.mark.parametrize(
    "block", [b for b in blocks("yaml") if b.info == "yaml study part"], ids=str
)
def test_a_part_of_a_study_completes_one(block, tmp_path):
    whole = {
        "name": "whole",
        "models": [{"name": "base", "reference": "./base"}],
        "prompts": [{"set": "code-held-out", "file": "./held-out.jsonl"}],
        **yaml.safe_load(block.text),
    }
    text = yaml.safe_dump(whole, sort_keys=False)
    for name in re.findall(r"\./[\w.-]+", text):
        (tmp_path / name).touch()
    (tmp_path / "study.yaml").write_text(text)
    assert load_study(tmp_path / "study.yaml").fine_tunes


def test_what_is_not_run_says_why():
    skipped = [block for block in blocks(*SHELL, "python", "yaml", "yml") if block.not_run]
    unexplained = [str(b) for b in skipped if not b.not_run.startswith(REASONS)]
    assert not unexplained
    assert len(skipped) <= MOST_NOT_RUN, Counter(b.page.name for b in skipped)


def test_commands_stand_in_one_kind_of_block():
    assert not [str(block) for block in blocks("sh", "shell", "console")]
