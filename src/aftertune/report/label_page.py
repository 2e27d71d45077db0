"""The page of a labelling session: an answer with its question and five labels, or the corrected rates at the end.

It shows no names of models, annotators or judges before the last label is given. Whatever a model wrote is escaped, and
characters that steer or hide are spelled out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

from aftertune.core.records import LabelValue
from aftertune.report import wording
from aftertune.report.cells import Sheet
from aftertune.report.page import asset, environment, source_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a session."""

    done: int
    total: int
    undoable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelling:
    """An answer to label."""

    id: str
    task: str
    prompt: str
    response: str
    question: str
    meanings: Mapping[LabelValue, str]
    rubric: str
    """The task's rubric; empty where the question says everything."""
    given: Sequence[LabelValue] = ()
    """The labels of annotators who differ; empty where none are decided between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """The end of a session: what was read, and the corrected rates; or why there are none."""

    sentences: Sequence[str]
    sheets: Sequence[Sheet] = ()
    commands: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Commands to type next, with what they are for."""
    failed: bool = False


def labelling_page(labelling: Labelling, progress: Progress, problem: str = "") -> str:
    """Return the page of an answer.

    Args:
        labelling: the answer.
        progress: of the session.
        problem: why the last label was not kept; empty where it was.
    """
    labels = [
        (key, label.value, labelling.meanings[label])
        for key, label in enumerate(LabelValue, start=1)
    ]
    return _render(
        "label.html.j2",
        title=f"{progress.done + 1:,} of {progress.total:,} answers",
        progress=progress,
        problem=wording.clean(problem),
        labelling=labelling,
        task=wording.clean(labelling.task),
        prompt=wording.visible(labelling.prompt),
        response=wording.visible(labelling.response),
        labels=labels,
        given=[label.value for label in labelling.given],
    )


def finish_page(progress: Progress, problem: str = "") -> str:
    """Return the page where every answer has a label: undo, or finish."""
    return _render(
        "label.html.j2",
        title=f"All {progress.total:,} answers have a label",
        progress=progress,
        problem=wording.clean(problem),
        labelling=None,
    )


def conclusion_page(conclusion: Conclusion) -> str:
    """Return the last page of a session."""
    return _render(
        "labelled.html.j2",
        title="Not measured" if conclusion.failed else "Corrected rates",
        conclusion=conclusion,
    )


def label_policy() -> str:
    """Return the pages' Content-Security-Policy: their own style and script, and forms that go where the page came from."""
    style, script = _sources()
    return (
        f"default-src 'none'; style-src {source_hash(style)}; script-src {source_hash(script)}; form-action 'self'; "
        "img-src data:; base-uri 'none'; frame-ancestors 'none'"
    )


@cache
def _sources() -> tuple[str, str]:
    """Return style sheet and script."""
    return asset("page.css") + asset("label.css"), asset("label.js")


def _render(template: str, **values: Any) -> str:
    style, script = _sources()
    return (
        environment()
        .get_template(template)
        .render(
            **values,
            style=Markup(style),  # noqa: S704  # our own file
            script=Markup(script),  # noqa: S704  # our own file
        )
    )
