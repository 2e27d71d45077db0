"""Metrics: how well a response does the task itself, mostly against the prompt's reference. All numbers are in [0, 1]."""

import ast
import re
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from aftertune.core.protocols import Scorer, Tools
from aftertune.core.records import Response, Role, Sample, Score
from aftertune.core.table import BLEU, LABELS, counted
from aftertune.errors import PluginError

LONGEST = 3000
"""Words of a text that ROUGE-L looks at: its cost grows with the product of both lengths."""
_WORD = re.compile(r"[a-z0-9]+")
_FENCED = re.compile(r"```[ \t]*(\w*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_EDGES = " \t\r\n.,:;!?()[]{}\"'*`"


class Metric(Scorer):
    """A metric made of one function of a sample and its reference.

    Args:
        version: names the metric, its options and how it counts.
        function: gives the score; the reference is empty where none is needed.
        task: the responses of this task alone have a score; None for all.
        reference: whether a response has a score only beside a reference.
    """

    role = Role.METRIC

    def __init__(
        self,
        version: str,
        function: Callable[[Sample, str], float | Score | None],
        *,
        task: str | None = None,
        reference: bool = True,
    ) -> None:
        self.version, self._function = version, function
        self._task, self._needs_reference = task, reference

    def score(self, sample: Sample, replies: Sequence[Response] = ()) -> Score:
        """Return the score of a response, without a number where there is nothing to compare it with."""
        del replies
        of_another_task = self._task is not None and sample.task != self._task
        if of_another_task or (self._needs_reference and sample.reference is None):
            return Score()
        score = self._function(sample, sample.reference or "")
        return score if isinstance(score, Score) else Score(number=score)


def rouge_l(tools: Tools, *, task: str = "text") -> Metric:
    """Build the metric ``rouge-l``: F1 of the longest common subsequence of words, of one task's responses.

    Lin (2004), ROUGE: A Package for Automatic Evaluation of Summaries, in the form of Google's `rouge_score` without
    stemming: words are runs of ``a-z0-9`` of the lower-cased text, and precision and recall weigh alike. It is meant for
    summaries; languages that are written in other letters have no words here, and no score.
    """
    del tools
    return Metric(f"rouge-l-1-{task}", _rouge_l, task=task)


def bleu(tools: Tools, *, task: str = "translation", tokenize: str = "13a") -> Metric:
    """Build the metric ``bleu``: corpus BLEU by sacrebleu (Papineni et al. 2002) of one task's responses.

    It has no score for a single response. What sacrebleu counts in each one is kept, and summed where it is measured.

    Args:
        tools: unused; every factory gets them.
        task: whose responses.
        tokenize: sacrebleu's tokenizer: ``13a``, ``intl``, ``char``, ``zh``, ...

    Raises:
        PluginError: sacrebleu or what the tokenizer needs is not installed.
    """
    del tools
    try:
        from sacrebleu.metrics.bleu import BLEU as SacreBleu  # noqa: N811  # BLEU names our counts
    except ImportError as error:
        raise PluginError(
            "the metric bleu needs sacrebleu: pip install 'aftertune[report]'"
        ) from error
    try:
        metric = SacreBleu(tokenize=tokenize)
        metric.corpus_score(["one"], [["one"]])
    except Exception as error:  # sacrebleu tells of an unknown tokenizer, or of its missing package, in several ways
        raise PluginError(
            f"the metric bleu cannot tokenize by {tokenize!r}: {error}; leave the option out for 13a"
        ) from error
    signature = str(metric.get_signature())
    return Metric(f"bleu-1-{task} {signature}", partial(_bleu, metric), task=task)


def _rouge_l(sample: Sample, reference: str) -> float | None:
    words, right = (_WORD.findall(text.lower())[:LONGEST] for text in (sample.response, reference))
    if not right:
        return None
    # F1 of precision common / |words| and recall common / |right|: 2 common / (|words| + |right|)
    return 2 * longest_common(words, right) / (len(words) + len(right))


def longest_common(first: list[str], second: list[str]) -> int:
    """Return the length of the longest common subsequence, in one row of memory."""
    best = [0] * (len(second) + 1)
    for word in first:
        before = 0
        for place, against in enumerate(second, start=1):
            above = best[place]
            best[place] = before + 1 if word == against else max(above, best[place - 1])
            before = above
    return best[-1]


def _bleu(metric: Any, sample: Sample, reference: str) -> Score:
    counts = metric.corpus_score([sample.response], [[reference]])
    return Score(
        label=counted(BLEU, [*counts.counts, *counts.totals, counts.sys_len, counts.ref_len])
    )


def chrf(tools: Tools, *, task: str = "translation") -> Metric:
    """Build the metric ``chrf``: sentence chrF2 / 100 (Popović 2015, by sacrebleu) of one task's responses.

    Raises:
        PluginError: sacrebleu is not installed.
    """
    del tools
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise PluginError(
            "the metric chrf needs sacrebleu: pip install 'aftertune[report]'"
        ) from error
    metric = CHRF()

    def score(sample: Sample, reference: str) -> float:
        return float(metric.sentence_score(sample.response, [reference]).score) / 100

    # sacrebleu's signature names the number of references only after a first score
    metric.corpus_score(["one"], [["one"]])
    return Metric(f"chrf-1-{task} {metric.get_signature()}", score, task=task)


def label_accuracy(tools: Tools) -> Metric:
    """Build the metric ``labels``: 1 if the response names the reference among the prompt's labels, else 0.

    The right label and the one given are kept, for macro-F1 and the share of responses that name no valid label.
    """
    del tools
    return Metric("labels-2", _label_score)


def exact_match(tools: Tools) -> Metric:
    """Build the metric ``exact``: 1 if response and reference are the same words, whatever case, spaces and full stop."""
    del tools
    return Metric("exact-1", _exact_score)


def parse_rate(tools: Tools, *, task: str = "code") -> Metric:
    """Build the metric ``parses``: 1 if the response is Python that parses, of one task's responses; nothing is ever run.

    It is a feature of code, not its quality; a response fenced as another language has no score.
    """
    del tools
    return Metric(f"parses-2-{task}", _parse_score, task=task, reference=False)


def named_label(text: str, labels: tuple[str, ...]) -> str | None:
    """Return the label that a response gives: the only one that it names, or the one that it begins with."""
    starts = {label: match.start() for label in labels if (match := _word(label).search(text))}
    if len(starts) == 1:
        return next(iter(starts))
    first = [label for label, start in starts.items() if not text[:start].strip(_EDGES)]
    return first[0] if len(first) == 1 else None


@cache
def _word(label: str) -> re.Pattern[str]:
    """Match a label as a word of its own; a single letter only as it is written, since ``a`` is an article."""
    case = re.IGNORECASE if len(label) > 1 else re.NOFLAG
    return re.compile(rf"(?<!\w){re.escape(label)}(?!\w)", case)


def _label_score(sample: Sample, reference: str) -> Score | None:
    if reference not in sample.labels:
        return None
    given = named_label(sample.response, sample.labels)
    return Score(number=float(given == reference), label=counted(LABELS, [reference, given]))


def _exact_score(sample: Sample, reference: str) -> float:
    given, right = (
        " ".join(text.casefold().split()).strip(_EDGES) for text in (sample.response, reference)
    )
    return float(given == right)


def _parse_score(sample: Sample, reference: str) -> float | None:
    del reference
    source = python_of(sample.response)
    if source is None:
        return None
    tree = python_tree(source)
    # a label parses too, and is no code
    bare = [
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Name | ast.Constant)
        for statement in (tree.body if tree else ())
    ]
    return float(not all(bare))


def python_of(text: str) -> str | None:
    """Return the code of a response: its first fenced block, or all of it; None for a block of another language."""
    fenced = _FENCED.search(text)
    if fenced and fenced[1].casefold() not in {"", "python", "py", "python3"}:
        return None
    return fenced[2] if fenced else text


def python_tree(source: str) -> ast.Module | None:
    """Return the parsed code; None where it does not parse. Nothing is ever run."""
    with warnings.catch_warnings():
        # an odd escape in a model's code is its affair, not the user's
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def reference_match(tools: Tools, *, task: str = "code") -> Metric:
    """Build the metric ``reference-match``: 1 if the response is the reference's program, of one task's responses.

    Both are parsed; layout, comments, docstrings and annotations of types do not count, names of variables do. Another
    program that does the same is no match: this is the floor of what the model can do, and nothing is ever run.
    """
    del tools
    return Metric(f"reference-match-1-{task}", _match, task=task)


def _match(sample: Sample, reference: str) -> float | None:
    right, source = python_tree(python_of(reference) or ""), python_of(sample.response)
    if right is None or not right.body:
        return None
    given = None if source is None else python_tree(source)
    return float(given is not None and _canonical(given) == _canonical(right))


class _WithoutNotes(ast.NodeTransformer):
    """Takes docstrings and annotations away."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:  # ast's own name
        return None if node.value is None else ast.Assign(targets=[node.target], value=node.value)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        return node


def _canonical(tree: ast.Module) -> str:
    return ast.dump(_WithoutNotes().visit(tree))
