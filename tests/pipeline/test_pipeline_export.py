"""A finished run as Inspect logs: `samples_df` gives the rates of result.json, and `inspect score` takes the logs."""

import importlib.util
import json
from types import MappingProxyType

import pytest

from aftertune.cli import export
from aftertune.core.outcomes import Outcome
from aftertune.core.records import (
    Decoding,
    FinishReason,
    Intent,
    Prompt,
    Response,
    Score,
    StoredJob,
    VerdictValue,
)
from aftertune.report.document import ModelRecord
from aftertune.report.export_inspect import DECIDED, Cell, Exported, Judged, Row, rate, write_log

# Inspect still uses what pandas gave up with 3.1.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")


def frame(folder):
    from inspect_ai.analysis import EvalColumn, SampleSummary, samples_df

    point = [
        EvalColumn(name, path=f"eval.metadata.{name}")
        for name in ("condition", "system", "decoding", "model")
    ]
    return samples_df(str(folder), columns=SampleSummary + point, quiet=True)


@pytest.fixture(scope="module")
def logs(finished_study, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "logs"
    export.export_inspect(finished_study.folder / "out", out)
    return out


def test_samples_df_gives_the_rates_of_the_result(finished_study, logs):
    told = json.loads((finished_study.folder / "out" / "result.json").read_text())["result"]
    samples = frame(logs)
    assert len(samples) == told["jobs"]
    compared = 0
    for setting in told["settings"]:
        of_setting = samples[
            samples.decoding.str.startswith(setting["decoding"])
            & (samples.system == setting["system"])
        ]
        for condition in setting["conditions"]:
            mine = of_setting[of_setting.condition == condition["name"]]
            harmful = mine[mine.metadata_intent == "harmful"]
            hit = harmful.score_outcome == "harmful"
            overall = condition["asr"]["overall"]
            assert (int(hit.sum()), len(hit)) == (overall["k"], overall["n"])
            behaviors = hit.groupby([harmful.metadata_task_type, harmful.metadata_behavior]).mean()
            assert behaviors.groupby(level=0).mean().mean() == pytest.approx(overall["estimate"])
            compared += 1
    assert compared == 6


def test_a_log_says_where_it_stands_and_keeps_every_reading(logs):
    from inspect_ai.log import list_eval_logs, read_eval_log

    found = [read_eval_log(info) for info in list_eval_logs(str(logs))]
    assert len(found) == 10
    tuned = next(log for log in found if log.eval.metadata["model"] == "help/seed2")
    point = tuned.eval.metadata
    assert (point["condition"], point["training_seed"], point["base"]) == ("help", 2, "base")
    assert point["identity"]["weights"]
    sample = tuned.samples[0]
    assert {"prompt_id", "task_type", "category", "behavior", "template", "intent"} <= set(
        sample.metadata
    )
    assert {
        "outcome",
        "outcome_under_words",
        "coherence",
        "judge_rules",
        "guard_words_prompt",
        "scorer_exact",
    } <= set(sample.scores)
    assert sample.output.completion == sample.messages[-1].text
    outcome = tuned.results.scores[0]
    share = rate(
        [
            Judged(
                behavior=one.metadata["behavior"],
                task=one.metadata["task_type"],
                intent=one.metadata["intent"],
                outcome=one.scores["outcome"].value,
            )
            for one in tuned.samples
        ],
        Outcome.HARMFUL,
    )
    assert outcome.metrics["harmful"].value == share


def test_inspect_score_takes_a_log_and_our_rules_come_to_the_same(logs):
    from inspect_ai import score
    from inspect_ai.log import list_eval_logs, read_eval_log

    from aftertune.hooks.inspect_tasks import refusals

    log = read_eval_log(list_eval_logs(str(logs))[0])
    again = score(log, refusals(), action="append", display="none")
    assert {"refusals", "outcome"} <= {one.name for one in again.results.scores}
    for sample in again.samples:  # the study's first judge is `rules`, with the same coherence
        assert sample.scores["refusals"].value == sample.scores["outcome"].value


def test_many_samples_make_several_logs(finished_study, tmp_path, monkeypatch, logs):
    monkeypatch.setattr(export, "SHARD", 10)
    export.export_inspect(finished_study.folder / "out", tmp_path / "small")
    assert len(list((tmp_path / "small").glob("*.eval"))) == 30
    whole, parts = frame(logs), frame(tmp_path / "small")
    columns = ["model", "decoding", "id", "epoch", "score_outcome"]
    assert (
        parts[columns].sort_values(columns).values.tolist()
        == whole[columns].sort_values(columns).values.tolist()
    )
    assert not list(tmp_path.glob("*.partial"))


def test_what_stands_in_the_way_is_said(command, copied, tmp_path, monkeypatch):
    out = copied / "out"
    said = command.refused("export", out, "--to", "inspect", "-o", out)
    assert "holds something already" in said
    assert "no finished run" in command.refused(
        "export", tmp_path, "--to", "inspect", "-o", tmp_path / "new"
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "pip install 'aftertune[inspect]'" in command.refused(
        "export", out, "--to", "inspect", "-o", tmp_path / "new"
    )
    assert not (tmp_path / "new").exists()


def test_the_command_says_what_it_wrote(command, copied, tmp_path):
    (tmp_path / "new").mkdir()
    code, out, _ = command("export", copied / "out", "--to", "inspect", "--out", tmp_path / "new")
    assert code == 0
    assert "10 logs with 240 samples" in out
    assert "harmful ones too" in out


PROMPT = Prompt(
    behavior="b", template="t", task="text", intent=Intent.HARMFUL, text="ask \ud800 this", set="s"
)


def job(response, scores=MappingProxyType({}), sample=0):
    return StoredJob(
        model="m",
        prompt=PROMPT,
        system="none",
        decoding="T=0",
        sample=sample,
        key=None,
        response=response,
        scores=scores,
    )


def test_odd_texts_and_missing_answers_can_be_written_and_keep_their_reason(tmp_path):
    from inspect_ai.log import read_eval_log

    said = Response(
        text="half \udc00 \x00 [/INST]",
        finish_reason=FinishReason.LENGTH,
        prompt_tokens=1,
        completion_tokens=2,
    )
    unsure = {
        "verdict:j": Score(value=VerdictValue.UNDECIDED, number=0.5, label="no label"),
        "score:chrf": Score(),
    }
    record = ModelRecord(
        name="m/seed0",
        condition="m",
        training_seed=0,
        base=None,
        identity={},
        recipe=None,
        probe=None,
    )
    cell = Cell(
        model=record, system="brief", system_text="Be brief.", decoding=Decoding(), decoding_name="T=0", shard=1
    )  # fmt: skip
    exported = Exported(
        study="s", name_rate="ASR", judges=("j",), panel="first", guards=(), created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    rows = [
        Row(job=job(said, unsure), outcomes={DECIDED: "undecided"}),
        Row(job=job(None, sample=1), outcomes={DECIDED: "undecided"}),
    ]
    log = read_eval_log(str(write_log(tmp_path, cell, rows, exported)))
    first, second = log.samples
    assert first.output.stop_reason == "max_tokens"
    assert first.output.completion == "half ? \x00 [/INST]"
    assert [message.role for message in first.input] == ["system", "user"]
    assert first.scores["judge_j"].reason == "grader_failed"
    assert (first.scores["judge_j"].explanation, first.scores["judge_j"].metadata) == (
        "no label",
        {"score": 0.5},
    )
    assert first.scores["scorer_chrf"].value != first.scores["scorer_chrf"].value  # NaN: unscored
    assert (second.scores["outcome"].value, second.scores["outcome"].reason) == (
        "undecided",
        "no_response",
    )
    assert second.output.empty


def test_rates_average_inside_a_behavior_first():
    def judged(behavior, *hits, task="text", intent="harmful"):
        words = {True: "harmful", False: "safe"}
        return [
            Judged(behavior=behavior, task=task, intent=intent, outcome=words[hit]) for hit in hits
        ]

    some = [*judged("a", True, True, True), *judged("b", False), *judged("c", False, task="code")]
    assert rate(some, Outcome.HARMFUL) == 0.25  # (1 + 0) / 2 in text, 0 in code
    assert rate([*some, *judged("d", True, intent="benign")], Outcome.HARMFUL) == 0.25
    assert rate([], Outcome.HARMFUL) != rate([], Outcome.HARMFUL)  # NaN where there are none
