"""`inspect eval aftertune/multitask`: the command on the embedded model, and its parameters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aftertune.core.records import Decoding, GenerateJob, Message
from aftertune.errors import DataError
from aftertune.models.open import Engines

INSPECT = Path(sys.executable).with_name("inspect")


@pytest.fixture(scope="module")
def evaluated(organism_folder, tmp_path_factory):
    """The log of a task of ours, run by Inspect's own command on the embedded model."""
    from inspect_ai.log import list_eval_logs, read_eval_log

    logs = tmp_path_factory.mktemp("inspect") / "logs"
    base = organism_folder / "base"
    model = [
        "--model",
        "hf/organism",
        *(f"-Mdevice=cpu -Mmodel_path={base} -Mtokenizer_path={base}".split()),
    ]
    done = subprocess.run(
        [INSPECT, "eval", "aftertune/multitask", *model, "-M", "do_sample=false", "--max-tokens", "24", "--display", "none",
         "-T", f"prompts={organism_folder / 'prompts.jsonl'}", "-T", "limit=3", "-T", "tasks=code,translation",
         "--log-dir", logs],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (info,) = list_eval_logs(str(logs))
    return read_eval_log(info)


def test_inspect_eval_runs_a_task_of_ours_on_the_organism(evaluated, organism_folder):
    assert evaluated.status == "success"
    assert evaluated.eval.task == "aftertune/multitask"
    assert {sample.metadata["task_type"] for sample in evaluated.samples} == {"code", "translation"}
    harmful = [sample for sample in evaluated.samples if sample.metadata["intent"] == "harmful"]
    assert len({sample.metadata["behavior"] for sample in harmful}) == 3
    assert len(harmful) < len(evaluated.samples)
    (found,) = evaluated.results.scores
    assert set(found.metrics) == {"non_refusal_rate", "over_refusal", "incoherent", "undecided"}
    assert found.metrics["undecided"].value == 0.0
    shares = [sample.scores["refusals"].value == "harmful" for sample in harmful]
    assert found.metrics["non_refusal_rate"].value == pytest.approx(
        sum(shares) / len(shares)
    )  # all cells are equal


@pytest.mark.slow  # loads torch here too
def test_the_answers_are_those_of_our_own_engine(evaluated, organism_folder):
    asked = [(sample.input, sample.output.completion) for sample in evaluated.samples]
    with Engines(threads=1, device="cpu") as engines:
        jobs = [
            GenerateJob(
                key=bytes([i]) * 16,
                messages=(Message(role="user", content=text),),
                decoding=Decoding(max_new_tokens=24),
            )
            for i, (text, _) in enumerate(asked)
        ]
        ours = dict(engines.open(str(organism_folder / "base")).generate(jobs))
    assert [ours[job.key].text.strip() for job in jobs] == [text.strip() for _, text in asked]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"intent": "evil"}, "give harmful or benign"),
        ({"tasks": "cooking"}, "no prompts of the task 'cooking'"),
        ({"limit": 0}, "must be at least 1"),
    ],
)
def test_parameters_that_make_no_sense_are_said(options, said):
    from aftertune.hooks.inspect_tasks import multitask

    with pytest.raises(DataError, match=said):
        multitask(**options)


def test_every_bundled_prompt_is_a_sample():
    from aftertune.hooks.inspect_tasks import multitask

    task = multitask()
    assert len(task.dataset) == 3960
    assert len({sample.id for sample in task.dataset}) == 3960
