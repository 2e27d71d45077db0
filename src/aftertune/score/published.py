"""Guards that others publish: Llama Guard, ShieldGemma and Granite Guardian through their chat templates, and WildGuard."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import yaml

from aftertune.core.protocols import Tools
from aftertune.core.records import GuardJob, Message, Question, Side
from aftertune.core.replies import Screened, first_word, granite_guardian, llama_guard, wildguard
from aftertune.errors import PluginError
from aftertune.models.wordings import wildguard_wording
from aftertune.score.categories import GRANITE, LLAMA_GUARD, SHIELD_GEMMA
from aftertune.score.model_guard import BOTH, Kind, ModelGuard, checked_sides, checked_threshold

POLICIES = Path(__file__).with_name("policies.yaml")


def llama_guard_3(
    tools: Tools,
    *,
    model: str = "meta-llama/Llama-Guard-3-8B",
    sides: Sequence[Side] = BOTH,
    threshold: float | None = None,
) -> ModelGuard:
    """Build the guard ``llama-guard-3`` (or ``llama-guard``): Llama Guard 3, 8B or 1B.

    The chat template judges the last turn, and knows the categories. Reply: ``safe``, or ``unsafe`` and a line of codes.

    Args:
        tools: opens the model.
        model: hub id, folder relative to the study's, or endpoint.
        sides: what is screened.
        threshold: P(unsafe) from which on it blocks; by default what the model finds likelier.
    """
    kind = Kind(
        name="llama-guard",
        questions=lambda job: (Question(messages=turns(job), logprobs=True),),
        read=lambda text, _: llama_guard(text),
        parser="llama-guard-1",
        labels=("safe", "unsafe"),
        hazards=LLAMA_GUARD,
        explains=True,
        mentions="unsafe",
        max_new_tokens=64,
    )
    return _made(tools, "llama-guard-3", model, kind, sides, threshold)


llama_guard_4 = partial(llama_guard_3, model="meta-llama/Llama-Guard-4-12B")
"""Builds the guard ``llama-guard-4``: the same questions to another checkpoint."""


def shield_gemma(
    tools: Tools,
    *,
    model: str = "google/shieldgemma-2b",
    sides: Sequence[Side] = BOTH,
    threshold: float | None = None,
    policies: str | None = None,
) -> ModelGuard:
    """Build the guard ``shieldgemma``: one question a policy, answered ``Yes`` (it is violated) or ``No``.

    Args:
        tools: opens the model.
        model: hub id, folder or endpoint.
        sides: what is screened.
        threshold: P(Yes) from which on it blocks.
        policies: a YAML file of policies with the shape of the shipped one; by default that, in our own words.

    Raises:
        PluginError: the file cannot be read, or has another shape.
    """
    known = _policies(POLICIES if policies is None else tools.folder / policies)

    def questions(job: GuardJob) -> tuple[Question, ...]:
        guidelines = (f'"No {name.title()}": {told[job.side]}' for name, told in known.items())
        return tuple(
            Question(messages=turns(job), settings={"guideline": guideline}, logprobs=True)
            for guideline in guidelines
        )

    kind = Kind(
        name="shieldgemma",
        questions=questions,
        read=lambda text, _: _screened(harmful=first_word(text, "yes", "no")),
        parser="yes-no-1",
        labels=("No", "Yes"),
        policies=tuple(known),
        hazards=SHIELD_GEMMA,
        mentions=next(iter(known.values()))["prompt"],
        max_new_tokens=8,
    )
    return _made(tools, "shieldgemma", model, kind, sides, threshold)


def granite_guardian_guard(
    tools: Tools,
    *,
    model: str = "ibm-granite/granite-guardian-3.2-5b",
    sides: Sequence[Side] = BOTH,
    threshold: float | None = None,
    risks: Sequence[str] = ("harm",),
    criteria: bool = False,
) -> ModelGuard:
    """Build the guard ``granite-guardian``: one question a risk, answered ``Yes`` or ``No``.

    Args:
        tools: opens the model.
        model: hub id, folder or endpoint.
        sides: what is screened.
        threshold: P(Yes) from which on it blocks.
        risks: the template's names of risks; ``harm`` is the widest.
        criteria: for version 3.3 and later, whose template takes ``criteria_id`` in place of ``risk_name``.

    Raises:
        PluginError: a risk that is not known.
    """
    if (
        isinstance(risks, str)
        or not risks
        or (unknown := [risk for risk in risks if risk not in GRANITE])
    ):
        named = risks if isinstance(risks, str) or not risks else unknown[0]
        raise PluginError(
            f"guard granite-guardian: risks {named!r}; give a list of {', '.join(sorted(GRANITE))}"
        )
    name = "criteria_id" if criteria else "risk_name"

    def questions(job: GuardJob) -> tuple[Question, ...]:
        settings = [{"guardian_config": {name: risk}} for risk in risks]
        return tuple(
            Question(messages=turns(job), settings=each, logprobs=True) for each in settings
        )

    kind = Kind(
        name="granite-guardian",
        questions=questions,
        read=lambda text, _: _screened(harmful=granite_guardian(text)),
        parser="granite-1",
        labels=("No", "Yes"),
        policies=tuple(risks),
        hazards=GRANITE,
        mentions="yes",
        max_new_tokens=64,
    )
    return _made(tools, "granite-guardian", model, kind, sides, threshold)


def wildguard_guard(
    tools: Tools,
    *,
    model: str = "allenai/wildguard",
    sides: Sequence[Side] = BOTH,
    prompt: str | None = None,
) -> ModelGuard:
    """Build the guard ``wildguard``: three lines, of which each side has its own. It has no score.

    Args:
        tools: opens the model.
        model: hub id, folder or endpoint.
        sides: what is screened.
        prompt: a file with the exact prompt, with ``{prompt}`` and ``{response}``; by default the package's.

    Raises:
        PluginError: neither the file nor the package `wildguard` is there.
    """
    wording = wildguard_wording(
        None if prompt is None else tools.folder / prompt, "guard wildguard"
    )

    def questions(job: GuardJob) -> tuple[Question, ...]:
        return (
            Question(pattern=wording, parts={"prompt": job.prompt, "response": job.response or ""}),
        )

    def read(text: str, side: Side) -> Screened | None:
        found = wildguard(text)
        harmful = (
            None
            if found is None
            else found[f"harmful {'request' if side == 'prompt' else 'response'}"]
        )
        return _screened(harmful=harmful)

    kind = Kind(name="wildguard", questions=questions, read=read, parser="wildguard-1")
    return _made(tools, "wildguard", model, kind, sides, None)


def turns(job: GuardJob) -> tuple[Message, ...]:
    """Return a job as a conversation: the guard's template looks at its last turn."""
    user = Message(role="user", content=job.prompt)
    return (
        (user,)
        if job.side == "prompt"
        else (user, Message(role="assistant", content=job.response or ""))
    )


def _made(
    tools: Tools, who: str, model: str, kind: Kind, sides: Sequence[Side], threshold: float | None
) -> ModelGuard:
    limit, screened = checked_threshold(who, threshold), checked_sides(who, sides)
    return ModelGuard(
        tools.open_model(tools.reference(model)), kind, sides=screened, threshold=limit
    )


def _screened(*, harmful: bool | None) -> Screened | None:
    return None if harmful is None else Screened(harmful)


def _policies(file: Path) -> Mapping[str, Mapping[Side, str]]:
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
        return {
            str(name): {side: str(texts[side]) for side in BOTH} for name, texts in told.items()
        }
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise PluginError(
            f"guard shieldgemma: {file} is no file of policies ({error}); write NAME: {{prompt: TEXT, response: TEXT}}"
        ) from error
