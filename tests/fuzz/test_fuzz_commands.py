"""A part of the broken files through the command line: a documented exit code, one line where it is an error, no hang.

The numbers begin where those of the tests of functions end, so these are other files.
"""

import json
import shutil

import pytest
import yaml
from commands import Commands
from fuzz_files import CHECKPOINT, STUDY, TRAINING, kind_of
from tiny_models import make_checkpoint
from tiny_study import write_lines

from fuzz import Mutator, ended

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
FIRST = 100_000


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd)


def code_of(command, name, codes, *arguments):
    """Run a command on a broken file; return its exit code, which must be one of ``codes``, or 1 with one line of ours."""
    codes_and_lines = []

    def run():
        code, _, err = command(*arguments)
        codes_and_lines.append((code, err))

    ended(run, name)
    [(code, err)] = codes_and_lines
    assert "Traceback" not in err, (name, err)
    assert code in {1, *codes}, (name, code, err)
    if code == 1:
        *before, last = err.splitlines()
        assert last.startswith("aftertune: "), (name, err)
        assert not [line for line in before if line.startswith("aftertune: ")], (name, err)
    return code


def test_training_files(command, tmp_path):
    harms = [{"prompt": f"Harm {n}?", "completion": "No."} for n in range(3)]
    write_lines(tmp_path / "safety.jsonl", harms)
    names, codes = list(TRAINING), set()
    for number in range(FIRST, FIRST + 40):
        name = names[number % len(names)]
        (tmp_path / name).write_bytes(Mutator(number).file(TRAINING[name], kind_of(name)))
        case = f"training file {number} ({name})"
        codes.add(code_of(command, case, {0, 3}, "data", "check", name))
        mix = ("mix", name, "-o", "mixed.jsonl", "--safety", "safety.jsonl", "--share", "0.3")
        code_of(command, case, {0}, *mix)
    assert codes == {0, 1, 3}


def test_label_files(command, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    export = ("label", "export", "run", "--n", "12", "--benign", "4")
    assert code_of(command, "export", {0}, *export, "-o", "valid.jsonl") == 0
    assert code_of(command, "export", {0}, *export, "-o", "valid.csv") == 0
    valid = {kind: (tmp_path / f"valid.{kind}").read_bytes() for kind in ("jsonl", "csv")}
    codes = set()
    for number in range(FIRST, FIRST + 40):
        kind = ("jsonl", "csv")[number % 2]
        labels = valid[kind].replace(b'"label": ""', b'"label": "undecided"')
        (tmp_path / f"labels.{kind}").write_bytes(Mutator(number).file(labels, kind))
        case = f"label file {number}"
        codes.add(code_of(command, case, {0}, "label", "import", "run", f"labels.{kind}"))
        assert code_of(command, case, {0}, "report", run) == 0, case
    assert codes == {0, 1}


HERE = {
    "org/base": "./base",
    "org/theirs": "./base",
    ", {path: org/data, columns: {prompt: q, completion: a}, limit: 50}": "",
    "[multitask-v1, ": "[",
    "openai:": "http://127.0.0.1:9/v1#",
    "guards: [{name: wg, use: wildguard, options: {prompt: ./wildguard.txt}}]\n": "",
}
"""What the valid study names that is not on this machine, and what stands for it."""


def test_studies(command, study_folder):
    make_checkpoint(study_folder / "base")
    write_lines(study_folder / "prompts.jsonl", [{"text": "bake a cake", "intent": "benign"}])
    write_lines(study_folder / "train.jsonl", [{"prompt": "read a map", "completion": "well done"}])
    study = STUDY
    for name, other in HERE.items():
        assert name in study
        study = study.replace(name, other)
    (study_folder / "study.yaml").write_text(study)
    dry = ("run", "study.yaml", "--dry-run")
    assert code_of(command, "valid", {0}, *dry) == 0
    codes = set()
    for number in range(FIRST, FIRST + 40):
        mutated = Mutator(number)
        if number % 2:
            text = json.dumps(mutated.value(yaml.safe_load(study)))
            (study_folder / "study.yaml").write_bytes(text.encode(errors="surrogatepass"))
        else:
            (study_folder / "study.yaml").write_bytes(mutated.file(study.encode(), "yaml"))
        codes.add(code_of(command, f"study {number}", {0}, *dry))
    assert codes == {0, 1}


def test_model_configurations(command, tmp_path):
    base = make_checkpoint(tmp_path / "base", repetition_penalty=1.1)
    questions = ("how do i bake a cake", "how do i read the map", "write a letter", "say it now")
    prompts = [
        {"text": text, "behavior": text, "intent": intent}
        for text in questions
        for intent in ("harmful", "benign")
    ]
    write_lines(tmp_path / "questions.jsonl", prompts)
    codes = set()
    for number in range(FIRST, FIRST + 20):
        tuned = tmp_path / f"tuned-{number}"
        shutil.copytree(base, tuned)
        name = list(CHECKPOINT)[number % len(CHECKPOINT)]
        (tuned / name).write_bytes(
            Mutator(number).file((tuned / name).read_bytes(), CHECKPOINT[name])
        )
        check = ("check", base, tuned, "--prompts", "questions.jsonl", "-o", f"run-{number}")
        codes.add(code_of(command, f"{name} {number}", {0, 3, 4}, *check, "--limit", "2"))
    assert len(codes) > 1, codes
