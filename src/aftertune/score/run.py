"""The one loop over scorers: skip what has a score of this version, ask what has no call, score, store.

Judges, guards, metrics, preferences and the coherence detectors all pass through it; they differ in what they are shown
(`sample_of`, `pairs_of`) and in the key of their calls (`call_key`).
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np

from aftertune.core.keys import Key, content_key
from aftertune.core.protocols import Answer, Scorer, Tools
from aftertune.core.recipe import StudyModel
from aftertune.core.records import (
    Decoding,
    GenerateJob,
    Intent,
    PreferenceValue,
    Prompt,
    Question,
    Response,
    Role,
    Sample,
    Score,
    Side,
    StoredJob,
    whole_answer,
)
from aftertune.core.registry import Kind, find
from aftertune.core.table import NONE, WINS, Table, counted
from aftertune.errors import AftertuneError, KeysChanged, PluginError
from aftertune.models.asking import Asking, Call, ask, probe_sample, replies_of
from aftertune.models.remote import side_by_side
from aftertune.report.progress import Progress, staged
from aftertune.score.coherence import Coherence, Thresholds
from aftertune.score.likelihood import Likelihood, Place, score_likelihood
from aftertune.store import Backlog, Scored, Store, Unscored
from aftertune.store.calls import Kind as CallKind
from aftertune.store.scores import ScorerKind
from aftertune.study.config import ScorerKeys
from aftertune.workspace import Run

CHUNK = 4096
"""Samples that are in memory at a time."""
BATCH_CHUNK = 50_000
"""The same where a provider answers by batch: every chunk may be a day's wait."""
Scorers = Mapping[Role, Mapping[str, Scorer]]
"""The scorers of a study by role and name, in the order of the study."""
STORED_KINDS: Mapping[Role, ScorerKind] = {
    Role.COHERENCE: "coherence",
    Role.GUARD: "guard",
    Role.JUDGE: "judge",
    Role.METRIC: "scorer",
    Role.PREFERENCE: "scorer",
    Role.REASONING: "judge",
}
UNDER_ATTACK = frozenset({Role.COHERENCE, Role.GUARD, Role.JUDGE})
"""The roles that score responses under attacks, too; scores against a reference or a rival answer are for
prompts as they were posed."""
NO_CALL: Key = b""
"""Stands for the key of a call where a sample needs none."""
_WON = {
    PreferenceValue.FIRST: (1.0, 0.0),
    PreferenceValue.SECOND: (0.0, 1.0),
    PreferenceValue.TIE: (0.5, 0.5),
}
"""The fine-tune's win where it stands first, and where it stands second."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A score that is still to be given: the response (or prompt) that it belongs to, and the samples that it is made from."""

    prompt: Prompt
    key: Key | None
    """The call that gave the response; None where the prompt is screened."""
    samples: tuple[Sample, ...]
    """One; of a pair of answers both orders, or none where the two answers are equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringResult:
    """The scorer versions whose scores a study is measured by, and notes for its readers."""

    versions: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scoring:
    """One scorer on one side, with its version in the store."""

    name: str
    scorer: Scorer
    side: Side
    version: int

    @property
    def title(self) -> str:
        if self.scorer.role is Role.COHERENCE:
            return "coherence"
        if self.scorer.role is Role.REASONING:
            return f"judge {self.name} on the reasoning"
        sided = f" on {self.side}s" if self.scorer.role is Role.GUARD else ""
        return f"{self.scorer.role} {self.name}{sided}"

    @property
    def by_batch(self) -> bool:
        return self.scorer.engine is not None and self.scorer.engine.by_batch


def score_responses(
    run: Run,
    scorers: Scorers,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    screens: Callable[[Prompt], bool] | None = None,
) -> ScoringResult:
    """Let every scorer score what it has not scored.

    Args:
        run: the study's.
        scorers: of the study, by role and name.
        models: of the study, those that are there.
        prompts: those that are asked.
        screens: says of a prompt whether guards screen it here, where other processes screen the rest; by default all are.

    Raises:
        PluginError: a scorer fails; what it scored before is kept.
    """
    keys = run.study.coherence
    likelihood = (
        score_likelihood(run, models, [prompt for prompt in prompts if not prompt.attacked])
        if keys.nll
        else Likelihood(limits={}, outside=frozenset(), notes=())
    )
    limits = {base: dict(of_base) for base, of_base in likelihood.limits.items()}
    scorings = _scorings(run, scorers, models, content_key(limits).hex() if keys.nll else "")
    works = [
        _Work(run, scoring, *_items_of(run, scoring, models, prompts, likelihood.outside, screens))
        for scoring in scorings
    ]
    for work in works:
        if not work.scoring.by_batch:
            title = work.scoring.title
            with staged(run.progress, title, work.total, f"scores ({title})") as advance:
                work.do(advance)
    by_batch = [work for work in works if work.scoring.by_batch]
    # side by side, so that all their batches are under way together
    total = sum(work.total for work in by_batch)
    with staged(run.progress, "scores by batch", total, "scores by batch") as advance:
        side_by_side(
            [
                (engine, partial(work.do, advance))
                for work in by_batch
                if (engine := work.scoring.scorer.engine) is not None
            ]
        )
    refused = (
        f"{scoring.scorer.role} {scoring.name}: {engine.refusals}"
        for scoring in scorings
        if (engine := scoring.scorer.engine) is not None and engine.refusals
    )
    return ScoringResult(
        versions=tuple(scoring.version for scoring in scorings),
        notes=(*likelihood.notes, *scorer_notes(scorers), *dict.fromkeys(refused)),
    )


def scorer_notes(scorers: Scorers) -> Iterator[str]:
    """Yield what has to be known about how scorers were built."""
    for role, named in scorers.items():
        for name, scorer in named.items():
            yield from (f"{role} {name}: {note}" for note in scorer.notes)


def _scorings(run: Run, scorers: Scorers, models: Sequence[StudyModel], nll: str) -> list[_Scoring]:
    """Return all scorers of a study on their sides, and the detectors of incoherence, with their versions in the store.

    Args:
        run: the study's.
        scorers: of the study.
        models: of the study.
        nll: stands for the limits of likelihoods in the version of the detectors; empty for none.
    """
    keys = run.study.coherence.model_dump(exclude={"nll"})
    coherence = Coherence(Thresholds(**keys, nll=nll))
    with_coherence: Scorers = {Role.COHERENCE: {"coherence": coherence}, **scorers}
    return [
        _Scoring(
            name=name,
            scorer=scorer,
            side=side,
            version=run.store.add_scorer(
                STORED_KINDS[role], name, stored_version(run, scorer, models), side
            ),
        )
        for role in Role
        for name, scorer in with_coherence.get(role, {}).items()
        for side in scorer.sides
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The scores that are still to be given."""

    scores: int
    answers: frozenset[Key]
    """Calls whose answers are still to be scored."""
    calls: frozenset[Key]
    """Calls of scorers about them, made or not."""


def pending_scores(
    run: Run,
    scorers: Scorers,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    screens: Callable[[Prompt], bool],
) -> Pending:
    """Return what `score_responses` would score, of a study without the bound on unlikely text; the arguments are its."""
    count, answers, calls = 0, set[Key](), set[Key]()
    for scoring in _scorings(run, scorers, models, ""):
        _, chunks = _items_of(run, scoring, models, prompts, frozenset(), screens)
        for _, items in chunks:
            count += len(items)
            answers |= {item.key for item in items if item.key is not None}
            for item in items:
                calls |= keyed(scoring.scorer, item.samples).keys()
    return Pending(scores=count, answers=frozenset(answers), calls=frozenset(calls))


def stored_version(run: Run, scorer: Scorer, models: Sequence[StudyModel]) -> str:
    """Return a scorer's version as the store holds it: with the identity of its calls.

    The scores of a preference hang on the bases as well, so another base makes another version.
    """
    if scorer.identity is None or scorer.role is not Role.PREFERENCE:
        return version_of(scorer)
    references = {model.name: model.reference for model in models}
    bases = {
        model.name: dict(run.engines.open(references[model.base]).identity)
        for model in models
        if model.base is not None
    }
    return f"{scorer.version} {content_key('comparer', dict(scorer.identity), bases).hex()}"


def version_of(scorer: Scorer) -> str:
    """Return the version of a scorer of single responses with the identity of its calls: whatever decides its scores."""
    if scorer.identity is None:
        return scorer.version
    return f"{scorer.version} {content_key('reader', dict(scorer.identity)).hex()}"


@dataclass(frozen=True, slots=True)
class _Work:
    """The scores that one scorer on one side has still to give, a chunk at a time."""

    run: Run
    scoring: _Scoring
    total: int
    """Units of progress: samples, or benign prompts whose answers are compared."""
    chunks: Iterable[tuple[int, list[Item]]]

    def do(self, advance: Callable[[int], object]) -> None:
        for units, items in self.chunks:
            try:
                scores = _score_items(self.run.store, self.scoring, items)
            except (AftertuneError, OSError):
                raise
            except (Exception, SystemExit) as error:  # other people's code may raise anything
                raise _failed(self.scoring.title, error) from error
            self.run.store.add_scores(self.scoring.version, scores)
            advance(units)


def _items_of(
    run: Run,
    scoring: _Scoring,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    outside: frozenset[Place],
    screens: Callable[[Prompt], bool] | None,
) -> tuple[int, Iterator[tuple[int, list[Item]]]]:
    """Return what a scorer has not scored: the units of progress, and the items by chunks, each with its units."""
    size = BATCH_CHUNK if scoring.by_batch else CHUNK
    role = scoring.scorer.role
    if role is not Role.PREFERENCE:
        unscored: Backlog | list[Unscored] = run.store.unscored(
            run.study.name, scoring.version, attacks=role in UNDER_ATTACK
        )
        if scoring.side == "prompt" and screens is not None:
            unscored = [place for place in unscored if screens(place.prompt)]
        # no key of a call holds `unlikely`, so no scorer with calls may see it
        unlikely = outside if role is Role.COHERENCE else frozenset()
        items = (_item(role, place, unlikely) for place in unscored)
        return len(unscored), ((len(chunk), chunk) for chunk in _chunks(items, size))
    benign = [
        prompt for prompt in prompts if prompt.intent is Intent.BENIGN and not prompt.attacked
    ]
    keys = run.study.decoding
    draws = keys.samples * len(keys.temperatures) * len(keys.seeds) * keys.replicates
    pairs = (
        (len(chunk), _unscored_pairs(run, scoring, models, chunk))
        for chunk in _chunks(
            benign, max(1, 2 * size // (len(models) * len(run.study.systems) * draws))
        )
    )
    return len(benign), pairs


def _item(role: Role, place: Unscored, unlikely: frozenset[Place]) -> Item:
    far = (place.key, place.prompt.id) in unlikely
    sample = sample_of(role, place.prompt, place.response, unlikely=far)
    return Item(prompt=place.prompt, key=place.key, samples=(sample,))


def _unscored_pairs(
    run: Run, scoring: _Scoring, models: Sequence[StudyModel], prompts: Sequence[Prompt]
) -> list[Item]:
    bases = {model.name: model.base for model in models if model.base is not None}
    jobs = list(run.store.responses(run.study.name, [scoring.version], prompts))
    unscored = [job for job in jobs if f"score:{scoring.name}" not in job.scores]
    return list(pairs_of(jobs, unscored, bases))


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


# What a scorer is shown


def sample_of(
    role: Role, prompt: Prompt, response: Response | None, *, unlikely: bool = False
) -> Sample:
    """Return what a scorer of a role sees of a response, or (``response`` None) of a prompt.

    Under an attack a guard sees what the model was sent, others the prompt as it was posed. The beginning of an answer that an
    attack put into the model's mouth is part of the response, but for coherence: there the model's own text counts.
    """
    whole = "" if response is None else whole_answer(prompt.prefill, response.text)
    if role is Role.GUARD:
        # the key of a guard's call holds the texts alone, so the texts are all that it may see
        if response is None:
            return Sample(side="prompt", prompt=prompt.text)
        return Sample(prompt=prompt.text, response=whole)
    assert response is not None
    own = {Role.COHERENCE: response.text, Role.REASONING: response.reasoning}
    shown = own.get(role, whole)
    return Sample(
        prompt=prompt.unwrapped,
        response=shown,
        begun=prompt.prefill if role not in own else "",
        finish_reason=response.finish_reason,
        behavior=prompt.behavior,
        task=prompt.task,
        intent=prompt.intent,
        reference=prompt.reference,
        labels=prompt.labels,
        language=prompt.language,
        unlikely=unlikely,
    )


def pairs_of(
    jobs: Sequence[StoredJob], unscored: Sequence[StoredJob], bases: Mapping[str, str]
) -> Iterator[Item]:
    """Yield the answers of fine-tunes that can be compared with the base's answer to the same prompt, decoded alike.

    An answer that several models share by their very weights comes once.

    Args:
        jobs: all jobs of some benign prompts.
        unscored: those whose answers are to be compared.
        bases: the base of every fine-tune.
    """
    by_place = {(job.model, *place_of(job)): job.response for job in jobs}
    done = set()
    for job in unscored:
        base = by_place.get((bases.get(job.model, ""), *place_of(job)))
        if job.response is None or base is None or (job.key, job.prompt.id) in done:
            continue
        done.add((job.key, job.prompt.id))
        texts = (job.response.text, base.text)
        # both orders, since models prefer a place; none for equal answers, which are a tie
        orders = () if texts[0] == texts[1] else (texts, texts[::-1])
        samples = tuple(
            Sample(prompt=job.prompt.text, task=job.prompt.task, response=first, other=second)
            for first, second in orders
        )
        yield Item(prompt=job.prompt, key=job.key, samples=samples)


def place_of(job: StoredJob) -> tuple[str, str, str, int]:
    """Return what a fine-tune's job and its base's have in common: prompt, system prompt, decoding and sample number."""
    return job.prompt.id, job.system, job.decoding, job.sample


# Asking


def call_key(scorer: Scorer, sample: Sample) -> Key:
    """Return the key of the call about a sample: the scorer's identity and every text and fact that the scorer is shown.

    What the server refuses in the first request about the sample is part of it.
    """
    identity = dict(scorer.identity or {})
    if altered := _altered(scorer, sample):
        identity["request"] = altered
    text = _classified(scorer, sample)
    if text is not None:
        return content_key("classify", identity, text)
    if scorer.role is Role.GUARD:
        response = None if sample.side == "prompt" else sample.response
        return content_key("guard", identity, sample.side, sample.prompt, response)
    if scorer.role is Role.PREFERENCE:
        pair = [sample.task, sample.prompt, sample.response, sample.other]
        return content_key("compare", identity, pair)
    return content_key(
        "judge",
        identity,
        [
            [
                sample.behavior,
                sample.task,
                sample.intent,
                sample.prompt,
                sample.reference,
                sample.labels,
                sample.language,
            ],
            [sample.response, sample.finish_reason],
        ],
    )


def _classified(scorer: Scorer, sample: Sample) -> str | None:
    """Return the text that a metric's classifier is given: equal texts are one call, whatever prompt they answer."""
    if scorer.role is not Role.METRIC:
        return None
    question = next(iter(scorer.questions(sample)), None)
    return None if question is None else question.classified


def _altered(scorer: Scorer, sample: Sample) -> Mapping[str, object]:
    engine = scorer.engine
    if engine is None or not engine.refusals:
        return {}
    question = next(iter(scorer.questions(sample)), None)
    if question is None:
        return {}
    decoding = Decoding(max_new_tokens=scorer.max_new_tokens)
    altered = engine.altered(
        GenerateJob(key=NO_CALL, messages=(), decoding=decoding, question=question)
    )
    # the words of a folded question follow from the sample, which is in the key
    return {name: name if name == "messages" else value for name, value in altered.items()}


def unanswered(store: Store | None, scorer: Scorer, samples: Mapping[Key, Sample]) -> list[Call]:
    """Return the calls that are still to be made about some samples, given by the keys of their calls.

    Args:
        store: holds the answers to calls that were made; None counts every call as still to be made.
        scorer: asks.
        samples: by `call_key`; a sample about which the scorer asks nothing needs no call.
    """
    keys = list(samples) if store is None else store.missing(samples)
    calls = (Call(key=key, questions=tuple(scorer.questions(samples[key]))) for key in keys)
    return [call for call in calls if call.questions]


def keyed(scorer: Scorer, samples: Iterable[Sample]) -> dict[Key, Sample]:
    """Return samples by the keys of their calls; nothing for a scorer that makes no calls."""
    return {} if scorer.identity is None else {call_key(scorer, s): s for s in samples}


def ask_calls(
    scorer: Scorer, calls: Sequence[Call], samples: Mapping[Key, Sample]
) -> Iterator[tuple[Key, Answer]]:
    """Make calls about samples of one side, and yield their answers in any order.

    Raises:
        PluginError: the scorer asks questions and has no engine.
    """
    if scorer.engine is None:
        raise PluginError(f"{scorer.role}: asks questions and has no engine; give it one")
    side = next(iter(samples.values())).side
    how = Asking(
        max_new_tokens=scorer.max_new_tokens,
        retries=scorer.retries,
        readable=lambda call, reply: not scorer.score(samples[call.key], (reply,)).undecided,
        probe=next(iter(scorer.questions(probe_sample(side))), None),
    )
    return ask(scorer.engine, calls, how)


# Scoring


def _score_items(store: Store, scoring: _Scoring, items: Sequence[Item]) -> list[Scored]:
    """Return the scores of some items; an item stays unscored while a call about it has no answer."""
    scorer = scoring.scorer
    shown = [sample for item in items for sample in item.samples]
    _check_identity(scorer, scoring.title, shown)
    keys, answers, failed = _answers(store, scorer, shown)
    scored = []
    for item in items:
        item_keys = [keys.get(sample, NO_CALL) for sample in item.samples]
        if failed.intersection(item_keys):
            continue
        scores = [
            scorer.score(sample, replies_of(answers[key]) if key in answers else ())
            for sample, key in zip(item.samples, item_keys, strict=True)
        ]
        pair = scorer.role is Role.PREFERENCE
        source = None if pair or item_keys[0] not in answers else item_keys[0]
        scored.append(
            Scored(
                prompt=item.prompt,
                key=item.key,
                score=share_won(scores) if pair else scores[0],
                source=source,
            )
        )
    return scored


def _check_identity(scorer: Scorer, title: str, shown: Sequence[Sample]) -> None:
    if scorer.identity is None and shown and scorer.questions(shown[0]):
        raise PluginError(
            f"{title} asks questions and has no identity, so that no reply could be kept; give it one"
        )


def _answers(
    store: Store | None,
    scorer: Scorer,
    shown: Sequence[Sample],
    on_progress: Callable[[int], None] | None = None,
) -> tuple[dict[Sample, Key], Mapping[Key, Response], set[Key]]:
    """Make the calls about samples that have no answer yet, and keep the answers as they come.

    Returns:
        the key of the call about each sample, the answers by key, and the keys of the calls that failed.
    """
    while True:
        keys = {} if scorer.identity is None else {s: call_key(scorer, s) for s in shown}
        samples = {key: sample for sample, key in keys.items()}
        calls = unanswered(store, scorer, samples)
        kind: CallKind = "guard" if scorer.role is Role.GUARD else "judge"
        try:
            if store is not None and calls:
                store.append(kind, ask_calls(scorer, calls, samples), on_progress)
        except KeysChanged:
            continue
        answers = {} if store is None else store.calls(list(samples))
        return keys, answers, {call.key for call in calls} - answers.keys()


def score_samples(
    store: Store | None, scorer: Scorer, title: str, samples: Sequence[Sample], progress: Progress
) -> list[Score | None]:
    """Return the score of each sample, of responses that belong to no study; None where a call about it failed.

    Args:
        store: keeps the answers to calls; None for a scorer that makes none.
        scorer: a judge, guard or metric.
        title: what it is called in progress and errors.
        samples: what it is shown.
        progress: shows its calls.

    Raises:
        PluginError: the scorer fails; what was answered is kept.
    """
    try:
        _check_identity(scorer, title, samples)
        total = len(unanswered(store, scorer, keyed(scorer, samples)))
        with progress.stage(title, 0 if store is None else total) as advance:
            keys, answers, failed = _answers(store, scorer, samples, advance)
        scores: list[Score | None] = []
        for sample in samples:
            key = keys.get(sample, NO_CALL)
            replies = replies_of(answers[key]) if key in answers else ()
            scores.append(None if key in failed else scorer.score(sample, replies))
    except (AftertuneError, OSError):
        raise
    except (Exception, SystemExit) as error:  # other people's code may raise anything
        raise _failed(title, error) from error
    return scores


def _failed(title: str, error: BaseException) -> PluginError:
    return PluginError(f"{title} failed: {type(error).__name__}: {error}; mend it and run again")


def share_won(scores: Sequence[Score]) -> Score:
    """Return the share of both orders that the fine-tune won; no scores stand for two equal answers, which tie.

    An order that was not decided counts half, and its bounds are 0 and 1.
    """
    values = [score.value for score in scores] or [PreferenceValue.TIE, PreferenceValue.TIE]
    won = [
        _WON[value][order]
        for order, value in enumerate(values)
        if isinstance(value, PreferenceValue) and value is not PreferenceValue.UNDECIDED
    ]
    undecided = len(values) - len(won)
    low, high = sum(won) / len(values), (sum(won) + undecided) / len(values)
    label = counted(WINS, [low, high, int(undecided > 0)])
    return Score(number=(low + high) / 2, label=label)


def uncompared(
    table: Table, models: Sequence[StudyModel], preferences: Iterable[str]
) -> Iterator[str]:
    """Yield a note on answers that could not be compared, so that nobody takes their absence for a choice."""
    tuned = [table.names["model"].index(model.name) for model in models if model.base is not None]
    benign = table.columns["intent"] == list(Intent).index(Intent.BENIGN)
    due = benign & np.isin(table.columns["model"], tuned) & (table.columns["finish"] != NONE)
    for name in preferences:
        if missing := int((due & np.isnan(table.scores[f"score:{name}"])).sum()):
            yield (
                f"preference {name}: {missing:,} of {int(due.sum()):,} answers were not compared (its calls failed, or the "
                "base has no answer); run again to ask it again"
            )


# Building


def build_scorers(run: Run) -> Scorers:
    """Build every scorer of the study before any work: a mistyped name must not be found out after training.

    Raises:
        PluginError: one of them cannot be found, does not take its options, fails while it is built, or is of another
            role; or a guard is a judge as well.
    """
    study = run.study
    named: Mapping[Kind, Sequence[ScorerKeys]] = {
        "guard": study.guards,
        "judge": study.judges,
        "metric": study.metrics,
        "preference": study.preferences,
    }
    scorers: dict[Role, dict[str, Scorer]] = {
        Role(kind): {keys.name: build_scorer(run.tools, kind, keys) for keys in entries}
        for kind, entries in named.items()
    }
    scorers[Role.REASONING] = {
        keys.name: ReasoningJudge(build_scorer(run.tools, "judge", keys))
        for keys in study.reasoning_judges
    }
    check_apart(scorers)
    return scorers


class ReasoningJudge(Scorer):
    """A judge that is shown the thinking before a response in place of the response."""

    role = Role.REASONING
    sides = ("reasoning",)

    def __init__(self, judge: Scorer) -> None:
        self._judge = judge
        self.version, self.identity, self.kind = judge.version, judge.identity, judge.kind
        self.engine, self.max_new_tokens = judge.engine, judge.max_new_tokens
        self.retries = judge.retries

    def questions(self, sample: Sample) -> Sequence[Question]:
        """Return the judge's questions about a thinking block."""
        return self._judge.questions(sample)

    def score(self, sample: Sample, replies: Sequence[Response] = ()) -> Score:
        """Return the judge's verdict on a thinking block."""
        return self._judge.score(sample, replies)


def check_apart(scorers: Scorers) -> None:
    """See that no guard is a judge as well: a model finds nothing harmful in what it has itself let through.

    Raises:
        PluginError: a guard and a judge are the same weights, or the same served model.
    """
    for judge_name, judge in scorers.get(Role.JUDGE, {}).items():
        for guard_name, guard in scorers.get(Role.GUARD, {}).items():
            model = _model_of(judge.identity)
            if model is not None and model == _model_of(guard.identity):
                raise PluginError(
                    f"guard {guard_name} and judge {judge_name} are the same model: what a guard lets through must be found "
                    "by another one; name another model for one of them"
                )


def _model_of(identity: Mapping[str, object] | None) -> tuple[object, ...] | None:
    """Return what tells the model of a judge or guard, from the key ``model`` of its identity; None where it has none."""
    model = None if identity is None else identity.get("model")
    if not isinstance(model, Mapping):
        return None
    deciding = ("weights", "adapter") if "weights" in model else ("url", "model")
    return tuple(model.get(key) for key in deciding)


def build_scorer(tools: Tools, kind: Kind, keys: ScorerKeys) -> Scorer:
    """Build a scorer from its entry in a study.

    Raises:
        PluginError: it cannot be found, does not take its options, fails while it is built, or is of another role.
    """
    who = f"{kind} {keys.name}"
    try:
        factory = find(kind, keys.use, tools.folder)
        signature = inspect.signature(factory)
        try:
            signature.bind(tools, **keys.options)
        except TypeError as error:
            model = signature.parameters.get("model")
            unnamed = (
                model is not None and model.default is model.empty and "model" not in keys.options
            )
            remedy = (
                f"name one: options: {{model: MODEL}} in the file, or --{kind} {keys.use}=MODEL of check"
                if unnamed and kind in ("judge", "guard")
                else "check its options"
            )
            raise PluginError(f"{who}: {error}; {remedy}") from error
        scorer: Scorer = factory(tools, **keys.options)
    except AftertuneError:
        raise
    except (Exception, SystemExit) as error:  # other people's code may raise anything
        raise PluginError(
            f"{who} ({keys.use}) cannot be built: {type(error).__name__}: {error}"
        ) from error
    if getattr(scorer, "role", None) != kind:
        raise PluginError(
            f"{who}: {keys.use} makes no scorer of the role {kind}; inherit from aftertune.Scorer and set role, version and "
            "score (docs/extending.md; before version 0.2 judges and guards had ask and read)"
        )
    return scorer
