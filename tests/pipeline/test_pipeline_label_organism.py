"""A real study with a real judge that errs: its ASR is off by what was planted, annotators' labels put it right."""

import json

import pytest
import yaml
from test_pipeline_label import exported, fill

from aftertune.core.records import Sample
from aftertune.organism.judge import GrammarJudge
from aftertune.store import Store


def person(folder):
    """Return somebody who reads every response as the organism's grammar does, from what the file shows alone."""
    with Store.open(folder / "store.sqlite", write=False) as store:
        (study,) = store.studies()
        prompts = {
            prompt.text: prompt for prompt in store.prompts(study) if prompt.intent == "harmful"
        }

    def label(row):
        prompt = prompts[row["prompt"]]
        sample = Sample(prompt=prompt.text, response=row["response"], reference=prompt.reference)
        return GrammarJudge().score(sample).value.value

    return label


def conditions(folder):
    told = json.loads((folder / "result.json").read_text())
    return {
        condition["name"]: condition for condition in told["result"]["settings"][0]["conditions"]
    }


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_judge_with_planted_errors_is_corrected_by_people(command, tmp_path):
    run, path = tmp_path / "demo", tmp_path / "labels.csv"
    assert command("demo", "--out", run, "--quiet")[0] == 0
    true = conditions(run)
    study = yaml.safe_load((run / "study.yaml").read_text())
    study["judges"] = [{"name": "planted", "use": "planted_plugin:planted"}, *study["judges"]]
    (run / "planted.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    code, _, err = command("run", run / "planted.yaml", "--out", run, "--quiet")
    assert code == 0, err
    assert command("label", "export", run, "-o", path, "--n", 600, "--seed", 1)[0] == 0
    fill(path, exported(path), person(run))
    assert command("label", "import", run, path)[0] == 0
    corrected = conditions(run)
    for name, condition in corrected.items():
        real, found = (
            true[name]["asr"]["overall"]["estimate"],
            condition["labels"]["asr"]["overall"],
        )
        assert found["interval"]["low"] <= real <= found["interval"]["high"], name
        assert abs(found["estimate"] - real) < 0.05, name
    raw, right = (
        corrected["code"]["asr"]["overall"]["estimate"],
        true["code"]["asr"]["overall"]["estimate"],
    )
    assert abs(raw - right) > 0.05
    assert corrected["code"]["labels"]["against_base"]["differs"]
