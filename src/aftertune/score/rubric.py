"""Judges that put a rubric to a model and read a structured reply: ours by task, and published scales in our own words."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from aftertune.core.foreign import filled, marker_pattern, neutralised
from aftertune.core.ids import Key, content_key
from aftertune.core.protocols import Answer, Engine, Tools
from aftertune.core.records import (
    TASKS,
    Decoding,
    JudgeJob,
    Message,
    Question,
    Response,
    Verdict,
    VerdictValue,
)
from aftertune.errors import PluginError
from aftertune.models.asking import ask
from aftertune.models.wordings import from_file
from aftertune.score.replies import VERSION, labelled, strongreject, undecided

RUBRICS = Path(__file__).with_name("rubrics")
OTHER = "other"
"""The rubric of tasks that have none of their own."""
SHOWN = 12_000
"""Characters of a response that a judge is shown; longer ones are cut in the middle, and told to be."""
NAMES = ("prompt", "response")
_MARKERS = marker_pattern()
_LABELS = {value.value: value for value in VerdictValue if value is not VerdictValue.UNDECIDED}
_ANSWERED = {"answered": VerdictValue.COMPLIED, "refused": VerdictValue.REFUSED}
_RETRY_TEMPERATURE = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a judge asks, and how it reads the reply."""

    name: str
    question: Mapping[str, str]
    """By task: the question with ``{prompt}`` and ``{response}``; the task ``other`` stands for the rest."""
    read: Callable[[Response], Verdict]
    parser: str
    max_new_tokens: int = 400


class RubricJudge:
    """See `aftertune.core.protocols.Judge`.

    A reply that cannot be read is asked for again, ``retries`` times, drawn at temperature 0.7; the first that can be read
    counts, and that no reply can be read is the verdict ``undecided``. The rule is part of the call's identity.
    """

    kind = "rubric"

    def __init__(self, engine: Engine, form: Form, retries: int) -> None:
        self.engine, self.form, self.max_new_tokens = engine, form, form.max_new_tokens
        self._decodings = tries(form, retries)
        self.reading_version = f"{form.name} {form.parser}"
        self.call_identity: Mapping[str, object] = {
            "judge": form.name,
            "question": content_key(dict(form.question)).hex(),
            "retries": [retries, _RETRY_TEMPERATURE, form.parser],
            "max_new_tokens": form.max_new_tokens,
            "shown": SHOWN,
            "model": dict(engine.identity),
        }

    def ask(self, jobs: Iterable[JudgeJob]) -> Iterator[tuple[Key, Answer]]:
        """Put the question to the model; what cannot be read is asked again."""
        asked = ((job.key, self.question(job)) for job in jobs)
        return ask(self.engine, asked, self._decodings, self._readable)

    def read(self, job: JudgeJob, reply: Response | None) -> Verdict:
        """Read the reply; what a response says of itself is never looked at."""
        del job
        return undecided("no reply") if reply is None else self.form.read(reply)

    def question(self, job: JudgeJob) -> Question:
        """Return the question about a job."""
        return question_about(self.form, job)

    def questions(self, job: JudgeJob) -> tuple[Question, ...]:
        """Return what is asked about a job; see `aftertune.core.protocols.Foreseeable`."""
        return (self.question(job),)

    def _readable(self, reply: Response) -> bool:
        return self.form.read(reply).value is not VerdictValue.UNDECIDED


def tries(form: Form, retries: int) -> tuple[Decoding, ...]:
    """Return the decodings under which a question is asked until its reply can be read."""
    first = Decoding(max_new_tokens=form.max_new_tokens)
    again = (
        replace(first, temperature=_RETRY_TEMPERATURE, seed=number)
        for number in range(1, retries + 1)
    )
    return first, *again


def question_about(form: Form, job: JudgeJob) -> Question:
    """Return the question about a job: its texts stand between lines that nobody can have foreseen, markers broken."""
    pattern = form.question.get(job.task, form.question[OTHER])
    parts = {
        "mark": content_key("mark", job.prompt, job.response).hex()[:8],
        "prompt": neutralised(shortened(job.prompt), _MARKERS),
        "response": neutralised(shortened(job.response), _MARKERS),
    }
    return Question(messages=(Message(role="user", content=filled(pattern, parts)),))


def rubric(
    tools: Tools,
    *,
    model: str,
    rubrics: str | None = None,
    prompt: str | None = None,
    retries: int = 2,
) -> RubricJudge:
    """Build the judge ``rubric``: complied, refused or deflected by the rubric of the task, with a harm score.

    Args:
        tools: opens the model.
        model: any model: hub id, folder relative to the study's, or endpoint.
        rubrics: a folder with ``TASK.txt`` files that take the place of the shipped ones, or add tasks.
        prompt: a file with the whole question (``{rubric}``, ``{prompt}``, ``{response}``) in place of the shipped one.
        retries: how often an unreadable reply is asked for again.

    Raises:
        PluginError: a file or folder is missing.
    """
    return _made(tools, model, rubric_form(tools, rubrics, prompt), retries)


def rubric_form(tools: Tools, rubrics: str | None = None, prompt: str | None = None) -> Form:
    """Return what the judge ``rubric`` asks and how it reads the reply; see `rubric` for the arguments.

    Raises:
        PluginError: a file or folder is missing.
    """
    whole = (
        _shipped("question")
        if prompt is None
        else from_file(tools.folder / prompt, ("rubric", *NAMES), "judge rubric")
    )
    texts = {task: _shipped(task) for task in (*TASKS, OTHER)} | _own_rubrics(tools, rubrics)
    return Form(
        name="rubric",
        question={task: filled(whole, {"rubric": text.strip()}) for task, text in texts.items()},
        read=partial(labelled, labels=_LABELS, score="harm"),
        parser=f"{VERSION} label harm",
    )


def multitask_bench(
    tools: Tools, *, model: str, prompt: str | None = None, retries: int = 2
) -> RubricJudge:
    """Build the judge ``multitask-bench``: its binary scale, answered or refused (COLING 2025), in our own words.

    Args:
        tools: opens the model.
        model: any model; the paper used GPT-4o.
        prompt: a file with another question (``{prompt}``, ``{response}``) whose reply has the same form.
        retries: how often an unreadable reply is asked for again.
    """
    question = _question(tools, prompt, "answered", "judge multitask-bench")
    read = partial(labelled, labels=_ANSWERED)
    form = Form(
        name="multitask-bench", question={OTHER: question}, read=read, parser=f"{VERSION} answered"
    )
    return _made(tools, model, form, retries)


def strong_reject(
    tools: Tools, *, model: str, prompt: str | None = None, retries: int = 2
) -> RubricJudge:
    """Build the judge ``strongreject``: refused, convincing, specific, and their score, asked for in our own words.

    Args:
        tools: opens the model.
        model: any model; the paper used GPT-4o-mini among others.
        prompt: a file with another question (``{prompt}``, ``{response}``) whose reply has the same form.
        retries: how often an unreadable reply is asked for again.
    """
    question = _question(tools, prompt, "strongreject", "judge strongreject")
    form = Form(
        name="strongreject",
        question={OTHER: question},
        read=strongreject,
        parser=f"{VERSION} strongreject",
    )
    return _made(tools, model, form, retries)


def checked_retries(retries: int, who: str) -> int:
    """Return how often an unreadable reply is asked for again.

    Raises:
        PluginError: not a whole number from 0 to 10.
    """
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= 10:
        raise PluginError(f"{who}: retries {retries!r}; give a whole number from 0 to 10")
    return retries


def _made(tools: Tools, model: str, form: Form, retries: int) -> RubricJudge:
    tries = checked_retries(retries, f"judge {form.name}")
    return RubricJudge(tools.open_model(tools.reference(model)), form, tries)


def _question(tools: Tools, prompt: str | None, name: str, who: str) -> str:
    return _shipped(name) if prompt is None else from_file(tools.folder / prompt, NAMES, who)


def _shipped(name: str) -> str:
    return (RUBRICS / f"{name}.txt").read_text(encoding="utf-8")


def _own_rubrics(tools: Tools, folder: str | None) -> dict[str, str]:
    if folder is None:
        return {}
    files: Sequence[Path] = sorted((tools.folder / folder).glob("*.txt"))
    if not files:
        raise PluginError(
            f"judge rubric: no TASK.txt in {tools.folder / folder}; name a folder with rubrics"
        )
    return {file.stem: from_file(file, (), "judge rubric") for file in files}


def shortened(text: str) -> str:
    """Return a text as a judge is shown it: cut in the middle where it is longer than `SHOWN`."""
    if len(text) <= SHOWN:
        return text
    half = SHOWN // 2
    return f"{text[:half]}\n[{len(text) - SHOWN:,} characters left out]\n{text[-half:]}"
