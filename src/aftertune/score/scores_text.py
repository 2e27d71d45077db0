"""Scores of texts against a reference: ROUGE-L of summaries, BLEU of translations."""

import re
from functools import partial
from typing import Any

from aftertune.core.counts import BLEU, Scored, counted
from aftertune.core.protocols import Tools
from aftertune.core.records import JudgeJob
from aftertune.errors import PluginError
from aftertune.score.scores import TaskScore

_WORD = re.compile(r"[a-z0-9]+")
LONGEST = 3000
"""Words of a text that ROUGE-L looks at: its cost grows with the product of both lengths."""


def rouge_l(tools: Tools, *, task: str = "text") -> TaskScore:
    """Build the scorer ``rouge-l``: F1 of the longest common subsequence of words, of one task's responses.

    Lin (2004), ROUGE: A Package for Automatic Evaluation of Summaries, in the form of Google's `rouge_score` without
    stemming: words are runs of ``a-z0-9`` of the lower-cased text, and precision and recall weigh alike. It is meant for
    summaries; languages that are written in other letters have no words here, and no score.
    """
    del tools
    return TaskScore(f"rouge-l-1-{task}", partial(_rouge_l, task))


def bleu(tools: Tools, *, task: str = "translation", tokenize: str = "13a") -> TaskScore:
    """Build the scorer ``bleu``: corpus BLEU by sacrebleu (Papineni et al. 2002) of one task's responses.

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
        from sacrebleu.metrics.bleu import BLEU as Metric  # noqa: N811  # its own name is that of our counts
    except ImportError as error:
        raise PluginError(
            "the scorer bleu needs sacrebleu: pip install 'aftertune[report]'"
        ) from error
    try:
        metric = Metric(tokenize=tokenize)
        metric.corpus_score(["one"], [["one"]])
    except Exception as error:  # sacrebleu tells of an unknown tokenizer, or of its missing package, in several ways
        raise PluginError(
            f"the scorer bleu cannot tokenize by {tokenize!r}: {error}; leave the option out for 13a"
        ) from error
    signature = str(metric.get_signature())
    return TaskScore(f"bleu-1-{task} {signature}", partial(_bleu, task, metric))


def _rouge_l(task: str, job: JudgeJob) -> float | None:
    if job.reference is None or job.task != task:
        return None
    said, right = (_WORD.findall(text.lower())[:LONGEST] for text in (job.response, job.reference))
    if not right:
        return None
    common = longest_common(said, right)
    return 2 * common / (len(said) + len(right))


def longest_common(one: list[str], other: list[str]) -> int:
    """Return the length of the longest common subsequence, in one row of memory."""
    best = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for place, against in enumerate(other, start=1):
            above = best[place]
            best[place] = before + 1 if word == against else max(above, best[place - 1])
            before = above
    return best[-1]


def _bleu(task: str, metric: Any, job: JudgeJob) -> Scored | None:
    if job.reference is None or job.task != task:
        return None
    found = metric.corpus_score([job.response], [[job.reference]])
    return Scored(None, counted(BLEU, [*found.counts, *found.totals, found.sys_len, found.ref_len]))
