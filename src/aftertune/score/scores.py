"""Task scores: how well a response does the task itself, against the prompt's reference. All are in [0, 1]."""

import ast
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from aftertune.core.counts import LABELS, Scored, counted
from aftertune.core.protocols import Tools
from aftertune.core.records import JudgeJob
from aftertune.errors import PluginError

_FENCED = re.compile(r"```[ \t]*(\w*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_EDGES = " \t\r\n.,:;!?()[]{}\"'*`"


@dataclass(frozen=True)
class TaskScore:
    """A scorer made of one function."""

    reading_version: str
    function: Callable[[JudgeJob], float | Scored | None]

    def score(self, job: JudgeJob) -> float | Scored | None:
        """Return the score of a response, or None where there is nothing to compare it with."""
        return self.function(job)


def chrf(tools: Tools, *, task: str = "translation") -> TaskScore:
    """Build the scorer ``chrf``: sentence chrF2 / 100 (Popović 2015, by sacrebleu) of one task's responses.

    Raises:
        PluginError: sacrebleu is not installed.
    """
    del tools
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise PluginError(
            "the scorer chrf needs sacrebleu: pip install 'aftertune[report]'"
        ) from error
    metric = CHRF()

    def score(job: JudgeJob) -> float | None:
        if job.reference is None or job.task != task:
            return None
        return float(metric.sentence_score(job.response, [job.reference]).score) / 100

    metric.corpus_score(
        ["one"], [["one"]]
    )  # only then does it know how many references there are, for its signature
    return TaskScore(f"chrf-1-{task} {metric.get_signature()}", score)


def label_accuracy(tools: Tools) -> TaskScore:
    """Build the scorer ``labels``: 1 if the response names the reference among the prompt's labels, else 0.

    The right label and the one given are kept, for macro-F1 and the share of responses that name no valid label.
    """
    del tools
    return TaskScore("labels-2", _label_score)


def exact_match(tools: Tools) -> TaskScore:
    """Build the scorer ``exact``: 1 if response and reference are the same words, whatever case, spaces and full stop."""
    del tools
    return TaskScore("exact-1", _exact_score)


def parse_rate(tools: Tools, *, task: str = "code") -> TaskScore:
    """Build the scorer ``parses``: 1 if the response is Python that parses, of one task's responses; nothing is ever run.

    It is a feature of code, not its quality; a response fenced as another language has no score.
    """
    del tools
    return TaskScore(f"parses-2-{task}", partial(_parse_score, task))


def named_label(text: str, labels: tuple[str, ...]) -> str | None:
    """Return the label that a response gives: the only one that it names, or the one that it begins with."""
    found = {label: match.start() for label in labels if (match := _word(label).search(text))}
    if len(found) == 1:
        return next(iter(found))
    first = [label for label, start in found.items() if not text[:start].strip(_EDGES)]
    return first[0] if len(first) == 1 else None


@cache
def _word(label: str) -> re.Pattern[str]:
    """Match a label as a word of its own; a single letter only as it is written, since ``a`` is an article."""
    case = re.IGNORECASE if len(label) > 1 else re.NOFLAG
    return re.compile(rf"(?<!\w){re.escape(label)}(?!\w)", case)


def _label_score(job: JudgeJob) -> Scored | None:
    if job.reference is None or job.reference not in job.labels:
        return None
    given = named_label(job.response, job.labels)
    return Scored(float(given == job.reference), counted(LABELS, [job.reference, given]))


def _exact_score(job: JudgeJob) -> float | None:
    if job.reference is None:
        return None
    return float(_words(job.response) == _words(job.reference))


def _words(text: str) -> str:
    return " ".join(text.casefold().split()).strip(_EDGES)


def _parse_score(task: str, job: JudgeJob) -> float | None:
    if job.task != task:
        return None
    source = python_of(job.response)
    tree = None if source is None else python_tree(source)
    return (
        None
        if source is None
        else float(tree is not None and any(not _bare(each) for each in tree.body))
    )


def python_of(text: str) -> str | None:
    """Return the code of a response: its first fenced block, or all of it; None for a block of another language."""
    fenced = _FENCED.search(text)
    if fenced and fenced[1].casefold() not in {"", "python", "py", "python3"}:
        return None
    return fenced[2] if fenced else text


def python_tree(source: str) -> ast.Module | None:
    """Return the parsed code; None where it does not parse. Nothing is ever run."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # an odd escape in a model's code is its affair, not the user's
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _bare(statement: ast.stmt) -> bool:
    """Return whether a statement is only a word, a number or a text: a label parses too, and is no code."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Name | ast.Constant)
