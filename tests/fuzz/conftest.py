import shutil
from pathlib import Path

import pytest

from aftertune.report.progress import Quiet
from aftertune.run import Purpose, run_study
from aftertune.study import load_study

OLD = Path(__file__).parents[1] / "golden" / "study-v1"


@pytest.fixture
def study_folder(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (tmp_path / "prompts.jsonl").write_text('{"text": "a", "intent": "benign"}\n')
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The study of version 0.1.0, measured by this one; its models are served by nobody, and nothing is asked."""
    folder = tmp_path_factory.mktemp("finished")
    text = (OLD / "study.yaml").read_text()
    (folder / "study.yaml").write_text(
        text.replace("scorers:", "metrics:").replace("comparers:", "preferences:")
    )
    (folder / "run").mkdir()
    shutil.copy(OLD / "prompts.jsonl", folder)
    shutil.copy(OLD / "store.sqlite", folder / "run")
    purpose = Purpose(command="aftertune run study.yaml", source=folder)
    run_study(load_study(folder / "study.yaml"), folder / "run", Quiet(), purpose)
    return folder / "run"
