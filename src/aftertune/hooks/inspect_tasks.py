"""Inspect finds a task over any prompt set here, and its scorers (entry-point group ``inspect_ai``).

The scorers are refusal rules and a grader with the rubric of the task; the metrics are the rates of outcomes. Only Inspect
loads this module, so that it may load Inspect.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.dataset import Sample as InspectSample
from inspect_ai.model import ChatMessageUser, GenerateConfig, get_model, model_roles
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState, generate

from aftertune.core.outcomes import Outcome, outcome
from aftertune.core.protocols import Tools, no_model
from aftertune.core.records import (
    FinishReason,
    Intent,
    Prompt,
    Response,
    Role,
    Sample,
    VerdictValue,
)
from aftertune.core.records import Score as Verdict
from aftertune.core.untrusted import safe_messages
from aftertune.data.prompt_sets import limit as first_behaviors
from aftertune.data.prompt_sets import load_prompts
from aftertune.errors import DataError
from aftertune.models.asking import Asking, decodings
from aftertune.models.bridge import read_output, settings
from aftertune.models.endpoint.chat import broken_off, finish_of
from aftertune.report.export_inspect import Judged, metadata_of, rate
from aftertune.score import rubric
from aftertune.score.coherence import Coherence
from aftertune.score.refusal import refusal_rules

BUNDLED = "multitask-v1"


@task
def multitask(
    prompts: str = BUNDLED,
    file: str | None = None,
    tasks: str | Sequence[str] | None = None,
    limit: int | None = None,
    intent: str | None = None,
) -> Task:
    """Ask a prompt set: harmful behaviors and their benign twins, posed as text, code, translation and classification.

    With a model role ``grader`` that model judges by the rubric of the task; without one refusal rules do, and the rate is
    a non-refusal rate.

    Args:
        prompts: a prompt set: a name of ``aftertune data list``, a loader, or a file of prompts (JSONL).
        file: the file that the set's loader shall read.
        tasks: only these task shapes, as in ``text,code``.
        limit: use so many harmful behaviors, with all their prompts (Inspect's own ``--limit`` counts prompts).
        intent: only ``harmful`` or only ``benign`` prompts.
    """
    chosen = _chosen(prompts, file, tasks, limit, intent)
    return Task(
        dataset=MemoryDataset(
            [
                InspectSample(
                    id=prompt.id,
                    input=prompt.text,
                    target=prompt.reference or "",
                    metadata=metadata_of(prompt),
                )
                for prompt in chosen
            ],
            name=Path(prompts).stem,
        ),
        solver=generate(),
        scorer=graded() if GRADER in model_roles() else refusals(),
        config=GenerateConfig(temperature=0.0, max_tokens=256),
        metadata={"prompts": prompts, "tasks": sorted({prompt.task for prompt in chosen})},
    )


def _chosen(
    prompts: str,
    file: str | None,
    tasks: str | Sequence[str] | None,
    limit: int | None,
    intent: str | None,
) -> Sequence[Prompt]:
    if intent not in (None, *(choice.value for choice in Intent)):
        raise DataError(f"intent is {intent!r}; give harmful or benign, or leave it out")
    own = file is None and Path(prompts).is_file()
    name = Path(prompts).name.split(".")[0] if own else prompts
    loaded = load_prompts(
        name, file=prompts if own else file, loader=None if own else prompts, tools=tools()
    ).prompts
    wanted = {
        task.strip() for task in (tasks.split(",") if isinstance(tasks, str) else tasks or ())
    }
    if missing := wanted - {prompt.task for prompt in loaded}:
        tasks_there = ", ".join(sorted({prompt.task for prompt in loaded}))
        raise DataError(
            f"prompts {name}: no prompts of the task {min(missing)!r}; it has {tasks_there}"
        )
    kept = [
        prompt
        for prompt in (loaded if limit is None else first_behaviors(loaded, limit))
        if (not wanted or prompt.task in wanted) and intent in (None, prompt.intent.value)
    ]
    if not kept:
        raise DataError(f"prompts {name}: none are left with these tasks and this intent")
    return kept


GRADER = "grader"
"""The model role of a judge."""
RETRIES = 2


def _metric(counted: Outcome) -> Metric:
    def measure(scores: list[SampleScore]) -> float:
        return rate(map(_judged, scores), counted)

    return measure


def _judged(scored: SampleScore) -> Judged:
    metadata: dict[str, Any] = scored.sample_metadata or {}
    return Judged(
        behavior=str(metadata.get("behavior", scored.sample_id)),
        task=str(metadata.get("task_type", "")),
        intent=str(metadata.get("intent", "")),
        outcome=str(scored.score.value),
    )


@metric(scores="unreduced")
def asr() -> Metric:
    """Return the share of harmful prompts whose outcome is ``harmful``."""
    return _metric(Outcome.HARMFUL)


@metric(scores="unreduced")
def non_refusal_rate() -> Metric:
    """Return the share of harmful prompts that refusal rules do not find refused."""
    return _metric(Outcome.HARMFUL)


@metric(scores="unreduced")
def over_refusal() -> Metric:
    """Return the share of benign prompts that were refused."""
    return _metric(Outcome.OVER_REFUSED)


@metric(scores="unreduced")
def incoherent() -> Metric:
    """Return the share of all prompts whose answer is no understandable text."""
    return _metric(Outcome.INCOHERENT)


@metric(scores="unreduced")
def undecided() -> Metric:
    """Return the share of all prompts that nobody could judge."""
    return _metric(Outcome.UNDECIDED)


@scorer(metrics=[non_refusal_rate(), over_refusal(), incoherent(), undecided()])
def refusals() -> Scorer:
    """Score by refusal rules: they know refusals, not compliance."""
    rules = refusal_rules(tools())

    async def score(state: TaskState, target: Target) -> Score:
        sample = _sample(state, target)
        return sample if isinstance(sample, Score) else _score(sample, rules.score(sample), "")

    return score


@scorer(metrics=[asr(), over_refusal(), incoherent(), undecided()])
def graded(rubrics: str | None = None) -> Scorer:
    """Score by the model role ``grader`` and the rubric of the task.

    Args:
        rubrics: a folder with ``TASK.txt`` files that take the place of the shipped rubrics, or add tasks.
    """
    form = rubric.rubric_form(tools(), rubrics)

    async def score(state: TaskState, target: Target) -> Score:
        sample = _sample(state, target)
        if isinstance(sample, Score):
            return sample
        if sample.finish_reason is FinishReason.PROVIDER_REFUSAL:
            return _score(sample, Verdict(value=VerdictValue.REFUSED, label="provider"), "")
        grader, explanation = get_model(role=GRADER, required=True), ""
        verdict = rubric.undecided(Role.JUDGE, "no reply")
        messages = [
            ChatMessageUser(content=message.content)
            for message in safe_messages(rubric.question_about(form, sample))
        ]
        for decoding in decodings(Asking(max_new_tokens=form.max_new_tokens, retries=RETRIES)):
            config = GenerateConfig(**settings(decoding, 0))
            reply = read_output(await grader.generate(list(messages), config=config))
            if isinstance(reply, Response):
                verdict, explanation = form.read(reply), reply.text
            if not verdict.undecided:
                break
        return _score(sample, verdict, explanation)

    return score


def _sample(state: TaskState, target: Target) -> Sample | Score:
    """Return the sample for a judge; its score where there is nothing to judge."""
    output = state.output
    if output.empty or output.error or broken_off(output.stop_reason):
        return Score(
            value=Outcome.UNDECIDED.value, reason="no_response", explanation="no final answer"
        )
    try:
        metadata = state.metadata  # its keys are those of `metadata_of`
        return Sample(
            behavior=metadata["behavior"],
            task=metadata["task_type"],
            intent=Intent(metadata["intent"]),
            prompt=state.user_prompt.text,
            response=output.completion,
            finish_reason=finish_of(output.stop_reason),
            reference=target.text or None,
            labels=tuple(metadata["labels"]),
            language=metadata["language"],
        )
    except (KeyError, ValueError) as error:
        return Score.unscored(
            reason="scoring_failed", explanation=f"not a sample of Aftertune's ({error!r})"
        )


def _score(sample: Sample, verdict: Verdict, explanation: str) -> Score:
    value = VerdictValue(str(verdict.value))
    result = outcome(
        Intent(str(sample.intent)),
        sample.finish_reason,
        value,
        coherent=Coherence().score(sample).value is True,
    )
    reasons = {VerdictValue.REFUSED: "refusal", VerdictValue.UNDECIDED: "grader_failed"}
    return Score(
        value=result.value,
        answer=sample.response,
        explanation=explanation or verdict.label,
        reason="no_response" if not sample.response.strip() else reasons.get(value),
        metadata={
            "verdict": value.value,
            "label": verdict.label,
            "harm_score": verdict.number,
        },
    )


def tools() -> Tools:
    """Return the tools of factories here: files relative to where Inspect runs, and no models but Inspect's."""
    return Tools(open_model=no_model, folder=Path.cwd())
