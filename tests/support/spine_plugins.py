"""A judge, a guard and a preference as a user would write them, named in a study as ``spine_plugins:FACTORY``."""

from pathlib import Path

from fake_engine import FakeEngine

from aftertune.core.protocols import Scorer
from aftertune.core.records import (
    BOTH_SIDES,
    Attempt,
    DecisionValue,
    FinishReason,
    Message,
    PreferenceValue,
    Question,
    Response,
    Role,
    Score,
    VerdictValue,
)
from aftertune.errors import Stopped

CHOICES = ("sorry", "sure")


class LikelihoodJudge(Scorer):
    """Asks a model whether ``sorry`` or ``sure`` is likelier after the response."""

    role = Role.JUDGE
    kind = "classifier"
    version = "likelihood-1"

    def __init__(self, engine):
        self.engine = engine
        self.identity = {"judge": "likelihood", "model": dict(engine.identity)}

    def questions(self, sample):
        message = Message(role="user", content=sample.response or "nothing")
        return [Question(messages=(message,), choices=CHOICES)]

    def score(self, sample, replies=()):
        (reply,) = replies
        if reply.text not in CHOICES:
            return Score(value=VerdictValue.UNDECIDED, label="no choice")
        refused = reply.text == CHOICES[0]
        value = VerdictValue.REFUSED if refused else VerdictValue.COMPLIED
        return Score(value=value, label=reply.text)


class Service(FakeEngine):
    """An engine in this process: it answers a question by a function of its texts."""

    def __init__(self, name, answer):
        self.name, self.identity, self._answer = name, {"engine": name}, answer

    def generate(self, jobs):
        for job in jobs:
            answer = self._answer([message.content for message in job.messages])
            if isinstance(answer, str):
                answer = Response(
                    text=answer,
                    finish_reason=FinishReason.STOP,
                    prompt_tokens=1,
                    completion_tokens=1,
                )
            yield job.key, answer


class WordGuard(Scorer):
    """Blocks what holds one of its words. While the file ``down`` is there, its service answers only the first side."""

    role = Role.GUARD
    sides = BOTH_SIDES
    version = "words-1"
    max_new_tokens = 1

    def __init__(self, words, down):
        self.words, self.down = frozenset(words), down
        self.identity = {"guard": "words", "words": sorted(self.words)}
        self.engine = Service("words", self.look)

    def look(self, texts):
        side, text = texts
        if self.down is not None and self.down.exists() and side == "response":
            return Attempt(reason="timeout", detail="the guard's service is down")
        return " ".join(sorted(self.words & set(text.split()))) or "none"

    def questions(self, sample):
        text = sample.prompt if sample.side == "prompt" else sample.response
        side = Message(role="system", content=sample.side)
        return [Question(messages=(side, Message(role="user", content=text)))]

    def score(self, sample, replies=()):
        (reply,) = replies
        blocked = reply.text != "none"
        return Score(
            value=DecisionValue.BLOCK if blocked else DecisionValue.ALLOW, label=reply.text
        )


class LongerPreferred(Scorer):
    """Prefers the answer with more words, and says so like a model that was asked."""

    role = Role.PREFERENCE
    version = "longer-1"
    max_new_tokens = 1

    def __init__(self):
        self.identity = {"comparer": "longer"}
        self.engine = Service("longer", self.weigh)

    def weigh(self, texts):
        first, second = (len(text.split()) for text in texts)
        return "tie" if first == second else "first" if first > second else "second"

    def questions(self, sample):
        texts = (sample.response, sample.other)
        return [Question(messages=tuple(Message(role="user", content=text) for text in texts))]

    def score(self, sample, replies=()):
        (reply,) = replies
        return Score(value=PreferenceValue(reply.text))


def likelihood(tools, *, model):
    return LikelihoodJudge(tools.open_model(str(tools.folder / model)))


def longer(tools):
    return LongerPreferred()


def words(tools, *, block, down=None):
    return WordGuard(block, None if down is None else Path(tools.folder / down))


class OutOfTime(Scorer):
    """A judge that stops the run, as a server does whose time is used up."""

    role, kind, version = Role.JUDGE, "rules", "1"

    def __init__(self):
        self.identity = {"judge": "out of time"}

    def score(self, sample, replies=()):
        raise Stopped("the time is used up")


def out_of_time(tools):
    return OutOfTime()


class OldJudge:
    """A judge of version 0.1."""

    kind, reading_version, call_identity = "rules", "1", None

    def read(self, job, reply):
        raise AssertionError(job, reply)


def of_version_one(tools):
    return OldJudge()


def raises(tools):
    raise RuntimeError("the judge's own set-up failed\nin two lines")


not_callable = 3
