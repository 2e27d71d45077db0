"""A study file with a guard and a judge of ours, from the file to the result."""

import json

import pytest
import yaml
from test_guard_models import llama_guard_cases
from tiny_classifiers import LLAMA_GUARD, TEXTS, harmful, llama, make_classifier

from aftertune.errors import PluginError
from aftertune.report.progress import Quiet
from aftertune.run import Purpose, run_study
from aftertune.study import load_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("study")
    make_classifier(made / "lg", llama, LLAMA_GUARD, llama_guard_cases())
    prompts = [
        {"behavior": f"b{i}", "template": "t", "task": "text", "set": "s", "intent": "harmful" if harmful(text) else "benign",
         "text": text}
        for i, text in enumerate(TEXTS)
    ]  # fmt: skip
    (made / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    return made


def study_of(folder, judges):
    keys = {
        "name": "guarded",
        "models": [{"name": "base", "reference": "./lg"}],
        "prompts": ["./prompts.jsonl"],
        "decoding": {"max_new_tokens": 8},
        "guards": [{"name": "lg", "use": "llama-guard", "options": {"model": "./lg"}}],
        "judges": judges,
        "engine": {"threads": 1, "device": "cpu"},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(keys))
    return load_study(folder / "study.yaml")


def test_a_study_behind_a_guard(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    document = run_study(
        study_of(folder, ["rules"]),
        tmp_path / "run",
        Quiet(),
        Purpose(command="test", source=folder),
    )
    (setting,) = document.result.settings
    behind = setting.conditions[0].guards["lg"]
    assert behind.asr.overall.estimate == 0.0
    assert behind.false_blocks.overall.estimate == 0.0


def test_a_study_whose_guard_judges_too_is_refused_before_any_work(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    study = study_of(folder, [{"name": "j", "use": "llama-guard", "options": {"model": "./lg"}}])
    with pytest.raises(PluginError, match="guard lg and judge j are the same model"):
        run_study(study, tmp_path / "run", Quiet(), Purpose(command="test", source=folder))
