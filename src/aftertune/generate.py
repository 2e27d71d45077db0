"""The generate stage asks every model every prompt of its cells; what is in the store is not asked again.

Before a fine-tune answers anything, a probe shows that its probabilities differ from its base's: an adapter that was never
switched on, a folder with the base's own weights or a merge that failed would each give a study full of "no change" and no
error. Comparing a few log-likelihoods catches them all.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np

from aftertune.core.keys import Key, content_key
from aftertune.core.protocols import Answer, Distribution, Engine
from aftertune.core.recipe import Cell, StudyModel
from aftertune.core.records import (
    GenerateJob,
    Intent,
    Message,
    Prompt,
    Response,
    Score,
    conversation,
)
from aftertune.core.table import DIVERGENCE_SCORE
from aftertune.errors import EngineError, KeysChanged, ModelError
from aftertune.measure.divergence import kl_divergence
from aftertune.models.reference import finished
from aftertune.models.remote import side_by_side
from aftertune.report.progress import staged
from aftertune.store import PlannedJob, Scored
from aftertune.study import cells_of
from aftertune.study.config import DecodingKeys
from aftertune.workspace import Run

PROBES = 8
"""Prompts that the probe compares likelihoods on."""
_PROBE_ANSWER = "yes"
_NOT_FINITE = "gives no finite probabilities (NaN): its weights are broken, or too large for its number format; train or save it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The calls of a study that one of several processes makes."""

    study_models: Sequence[StudyModel]
    """All models of the study, also those that are not trained yet: scores may hang on which there are."""
    takes: Callable[[StudyModel, Prompt], bool]
    """Says whether a model's calls with a prompt belong to the share."""


def generate(
    run: Run,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    before_answers: Callable[[], None] = lambda: None,
    share: Share | None = None,
) -> list[str]:
    """Ask every model every prompt of its cells; what is in the store is not asked again.

    Args:
        run: the study's.
        models: of the study, those that are there.
        prompts: those that are asked.
        before_answers: called before the first answers of each model are kept, from several threads.
        share: the calls that are made, where other processes make the rest; by default all.

    Returns:
        notes on models that are not what their names say, or cannot be seen to be.

    Raises:
        ModelError: an adapter belongs to another base, two seeds are one model, or a fine-tune gives exactly the
            probabilities of its base, so it was not measured.
    """
    by_name = {model.name: model for model in models}
    notes = early_notes(run, models)
    plan_calls = partial(_plan_share, run, prompts, share)
    planned = {model.name: plan_calls(model) for model in models}
    identities = {model.name: run.open(model).identity for model in models}
    run.store.add_models(run.study.name, models, identities)
    planning = Lock()

    def plan() -> None:
        with planning:
            run.store.plan(run.study.name, [row for rows, _ in planned.values() for row in rows])

    plan()
    missing_keys = {
        name: set(run.store.missing(job.key for job in jobs)) for name, (_, jobs) in planned.items()
    }
    missing = [
        (model, [job for job in planned[model.name][1] if job.key in missing_keys[model.name]])
        for model in models
    ]
    moved = _Moved(run, models, prompts, {model.name for model, jobs in missing if jobs}, share)
    refusals = {model.name: run.open(model).refusals for model in models}
    unanswered = sum(map(len, missing_keys.values()))
    before = sum(len({job.key for job in jobs}) for _, jobs in planned.values()) - unanswered
    with staged(run.progress, "generate", unanswered, "answers", before=before) as advance:

        def ask(model: StudyModel, jobs: Sequence[GenerateJob]) -> None:
            engine = run.open(model)
            if not engine.remote:  # these are asked side by side
                run.progress.at(model.name)
            if model.base is not None:
                prove(run, model, by_name[model.base], prompts)
            elif jobs and not engine.served:
                # Broken weights answer, too: with nothing, which would count as an answer.
                _base_likelihoods(run, model, prompts)
            if not engine.served:
                moved.look(model, planned[model.name][0])
            work = partial(_announced, engine, before_answers)
            left = _runs_of(run.study.decoding, engine)
            while left:
                # found out by this model's calls, or by those of another one behind the same address
                if engine.refusals != refusals[model.name]:
                    refusals[model.name] = engine.refusals
                    planned[model.name] = _, jobs = plan_calls(model)
                    plan()
                due = [job for job in jobs if job.decoding.replicate in left[0]]
                try:
                    run.store.complete("generate", due, work, advance)
                except KeysChanged:
                    continue
                del left[0]

        side_by_side(
            [(run.open(model), partial(ask, model, jobs)) for model, jobs in missing if jobs]
        )
    return [
        *run.engines.notes,
        *notes,
        *_served_notes(run, models),
        *_system_notes(run, models),
        *moved.notes,
        *greedy_notes(run.study.decoding),
    ]


def _runs_of(keys: DecodingKeys, engine: Engine) -> list[range]:
    """Return the replicates that are asked together: one after the other, as whole runs; by batch, which takes a day, all."""
    numbers = range(keys.replicates)
    return [numbers] if engine.by_batch else [range(n, n + 1) for n in numbers]


def _announced(
    engine: Engine, before_answers: Callable[[], None], jobs: Iterable[GenerateJob]
) -> Iterator[tuple[Key, Answer]]:
    """Yield the answers to jobs; ``before_answers`` is called before the first one that is no failed attempt."""
    answers = iter(engine.generate(jobs))
    for key, answer in answers:
        if isinstance(answer, Response):
            before_answers()
            yield key, answer
            break
        yield key, answer
    yield from answers


# The calls of a model


def calls(
    engine: Engine,
    cells: Iterable[Cell],
    prompts: Sequence[Prompt],
    systems: Mapping[str, str | None],
) -> Iterator[tuple[Cell, Prompt, GenerateJob]]:
    """Yield the calls of the cells of one model, cell by cell, sample by sample, prompt by prompt.

    The order is that of the arguments, so expanding twice gives the same calls in the same order.
    """
    for cell in cells:
        conversations = [
            conversation(prompt.text, systems[cell.system], prompt.prefill) for prompt in prompts
        ]
        for sample in range(cell.samples):
            keys = engine.keys(conversations, cell.decoding, sample)
            for prompt, messages, key in zip(prompts, conversations, keys, strict=True):
                yield (
                    cell,
                    prompt,
                    GenerateJob(key=key, messages=messages, decoding=cell.decoding, sample=sample),
                )


def plan_model(
    run: Run, model: StudyModel, prompts: Sequence[Prompt]
) -> tuple[list[PlannedJob], list[GenerateJob]]:
    """Return the calls of one model, as rows of the store's plan and as jobs of the engine; loads no weights."""
    engine, cells = run.open(model), cells_of(run.study, model.name)
    planned = list(calls(engine, cells, prompts, run.study.systems))
    rows = [
        PlannedJob(
            model=model.name,
            prompt=prompt,
            system=cell.system,
            decoding=cell.decoding,
            sample=job.sample,
            key=job.key,
        )
        for cell, prompt, job in planned
    ]
    return rows, [job for *_, job in planned]


def _plan_share(
    run: Run, prompts: Sequence[Prompt], share: Share | None, model: StudyModel
) -> tuple[list[PlannedJob], list[GenerateJob]]:
    """Return the calls of one model that are made here."""
    own = [prompt for prompt in prompts if share is None or share.takes(model, prompt)]
    return plan_model(run, model, own)


# Models that are not what their names say


def _check_seeds(run: Run, models: Sequence[StudyModel]) -> None:
    """Refuse one model under two seeds of a condition: it would count as two draws of the recipe."""
    names: dict[Key, str] = {}
    for model in models:
        key = content_key(model.condition, dict(run.open(model).identity))
        if (first := names.setdefault(key, model.name)) != model.name:
            raise ModelError(
                f"{first} and {model.name} are the same weights, so they are one training seed and not two; give each once"
            )


def early_notes(run: Run, models: Sequence[StudyModel]) -> list[str]:
    """Open the models, and return notes on those that are not what their names say or are asked in a way of their own.

    It reads files alone, and leaves out models that are still to be trained.

    Raises:
        ModelError: a model cannot be used, an adapter belongs to another base, or two seeds are one model.
    """
    there = [model for model in models if not _to_be_trained(model)]
    _check_seeds(run, there)
    return [
        *same_weights(run, there),
        *_turn_notes(run, there),
        *_dtype_notes(run, there),
        *_noise_notes(run, there),
    ]


def _to_be_trained(model: StudyModel) -> bool:
    """Return whether a model's weights are not there yet."""
    return model.recipe is not None and not finished(Path(model.reference), model.recipe)


def same_weights(run: Run, models: Sequence[StudyModel]) -> Iterator[str]:
    """Yield a note on each model that has the very weights of another one, for instance of its base."""
    names: dict[Key, str] = {}
    for model in models:
        key = content_key(dict(run.open(model).identity))
        if (first := names.setdefault(key, model.name)) != model.name:
            no_change = ", and no change can be shown" if first == model.base else ""
            yield f"{model.name} has the weights of {first}: the two are one model{no_change}"


def _turn_notes(run: Run, models: Sequence[StudyModel]) -> Iterator[str]:
    """Yield a note on the models whose template does not begin the model's own turn."""
    names = [model.name for model in models if not run.open(model).begins_turn]
    if names:
        yield (
            f"{', '.join(names)}: the chat template has no generation prompt: the model is asked without its own turn being begun, "
            "so its answer may begin with the marks of that turn; mend the template (add_generation_prompt)"
        )


def _dtype_notes(run: Run, models: Sequence[StudyModel]) -> Iterator[str]:
    """Yield a note on each model that is computed in another number format than its base."""
    by_name = {model.name: model for model in models}
    for model in models:
        if model.base in by_name:
            own = run.open(model).identity.get("dtype")
            other = run.open(by_name[model.base]).identity.get("dtype")
            if None not in (own, other) and own != other:
                yield (
                    f"{model.name} is computed in {own} and its base {model.base} in {other}; dtype: {own} computes both alike"
                )


# The probe


def prove(run: Run, model: StudyModel, base: StudyModel, prompts: Sequence[Prompt]) -> None:
    """Compare the likelihoods of a fine-tune with its base's and keep the largest change, unless that was done before.

    Endpoints give no likelihoods and are not probed (`_served_notes`), nor is a base under a second name (`same_weights`).

    Raises:
        ModelError: the fine-tune gives exactly the probabilities of its base, so it was not measured; or one of them is
            broken and computes none.
    """
    unprobed = _same(run, model, base) or _is_served(run, model) or _is_served(run, base)
    if unprobed or probed(run, model, base, prompts) is not None:
        return
    base_nll = _base_likelihoods(run, base, prompts)
    pairs, engine = _probe_pairs(prompts), run.open(model)
    tuned_nll = engine.nll(pairs)
    # The base under an adapter that is off rounds as the fine-tune does; alone it may round otherwise, and an adapter of
    # zeros would seem to change something.
    untuned_nll = engine.nll_without_adapter(pairs) or base_nll
    changes = [abs(before - after) for before, after in zip(untuned_nll, tuned_nll, strict=True)]
    largest_change = max(changes, default=0.0)
    if not math.isfinite(largest_change):
        raise ModelError(f"{model.name} {_NOT_FINITE}")
    if largest_change == 0.0:
        raise ModelError(
            f"{model.name} gives exactly the probabilities of its base {base.name} on {len(changes)} prompts: the fine-tune "
            "is not active or has no effect; check that the folder holds its own weights"
        )
    run.store.set_meta(
        run.study.name,
        _probe_name(run, prompts, base, model),
        {"prompts": len(changes), "largest_change": largest_change},
    )


def probed(
    run: Run, model: StudyModel, base: StudyModel | None, prompts: Sequence[Prompt]
) -> object:
    """Return the result of a fine-tune's probe, the largest change of the mean log-likelihood per token (nats); or None."""
    if base is None or _same(run, model, base):
        return None
    return run.store.get_meta(run.study.name, _probe_name(run, prompts, base, model))


def likelihoods(engine: Engine, prompts: Sequence[Prompt]) -> list[float]:
    """Return the negative log-likelihood of a fixed answer to the first few prompts, in nats per token."""
    return engine.nll(_probe_pairs(prompts))


def _probe_pairs(prompts: Sequence[Prompt]) -> list[tuple[tuple[Message, ...], str]]:
    return [
        (conversation(prompt.text, None), prompt.reference or _PROBE_ANSWER)
        for prompt in prompts[:PROBES]
    ]


def _base_likelihoods(run: Run, base: StudyModel, prompts: Sequence[Prompt]) -> list[float]:
    """Return the base's likelihoods, computed once: opening the base again evicts the fine-tune's weights."""
    name = _probe_name(run, prompts, base)
    kept = run.store.get_meta(run.study.name, name)
    if isinstance(kept, list):
        return [float(value) for value in kept]
    values = likelihoods(run.open(base), prompts)
    if not all(map(math.isfinite, values)):
        raise ModelError(f"{base.name} {_NOT_FINITE}")
    run.store.set_meta(run.study.name, name, values)
    return values


def _probe_name(run: Run, prompts: Sequence[Prompt], *models: StudyModel) -> str:
    """Return the name of a probe's note: a hash of weights and prompts, since names and folders may be used again."""
    identities = [dict(run.open(model).identity) for model in models]
    return f"probe:{content_key(identities, [prompt.id for prompt in prompts[:PROBES]]).hex()}"


def _same(run: Run, model: StudyModel, base: StudyModel) -> bool:
    return run.open(model).identity == run.open(base).identity


# How far a fine-tune moved

MOST_PROMPTS = 256
"""Benign prompts on which a fine-tune is compared with its base under a system prompt: what a base's answers take in memory."""
_AT_ONCE = 32
"""Prompts of a fine-tune whose probabilities are in memory at a time."""
_Place = tuple[str, str]
"""The name of a system prompt, and the id of a prompt."""


def divergence_version(run: Run, models: Sequence[StudyModel]) -> int | None:
    """Return the scorer version of the first token's divergence; None where no fine-tune can be compared with its base.

    It is a score like any other: of the fine-tune's calls, kept once, under a version that holds the bases.
    """
    bases = {
        content_key(dict(run.open(base).identity)).hex() for _, base in _comparable(run, models)
    }
    if not bases:
        return None
    version = f"kl-1 {content_key(sorted(bases)).hex()}"
    return run.store.add_scorer("scorer", DIVERGENCE_SCORE, version)


def _comparable(run: Run, models: Sequence[StudyModel]) -> Iterator[tuple[StudyModel, StudyModel]]:
    """Yield the fine-tunes with their bases that both answer here, with the same tokens."""
    by_name = {model.name: model for model in models}
    for model in models:
        base = by_name.get(model.base or "")
        if base is not None and _to_be_trained(model):  # with the base's tokenizer
            yield model, base
            continue
        if base is None or _is_served(run, model) or _is_served(run, base):
            continue
        if run.open(model).token_names == run.open(base).token_names and not _same(
            run, model, base
        ):
            yield model, base


class _Moved:
    """Compares the first token of fine-tunes with their bases', while the weights of each are in memory for its answers.

    One forward pass a prompt, for a base once for all its fine-tunes; a model that need not answer is not loaded for it.

    Args:
        run: the study's.
        models: of the study.
        prompts: those that are asked: the benign twins among them, without any all benign ones, are compared.
        answering: the names of the models that have answers to give.
        share: the calls that are made here; by default all.
    """

    def __init__(
        self,
        run: Run,
        models: Sequence[StudyModel],
        prompts: Sequence[Prompt],
        answering: set[str],
        share: Share | None,
    ) -> None:
        self._run, self._share = run, share
        self._version = divergence_version(run, models if share is None else share.study_models)
        self._base_of = {
            model.name: base for model, base in _comparable(run, models) if model.name in answering
        }
        self._models = [model for model in models if model.name in self._base_of]
        benign = [
            prompt for prompt in prompts if prompt.intent is Intent.BENIGN and not prompt.attacked
        ]
        twins = [prompt for prompt in benign if prompt.pair is not None] or benign
        # Their ids are hashes, so that the first ones are of all tasks and hazards.
        by_id = {prompt.id: prompt for prompt in sorted(twins, key=lambda prompt: prompt.id)}
        self._due = self._missing(by_id) if self._base_of else {}
        self._of_base: dict[str, dict[_Place, Distribution]] = {}
        self.notes: list[str] = []

    def look(self, model: StudyModel, rows: Sequence[PlannedJob]) -> None:
        """Keep a base's probabilities for its fine-tunes; score a fine-tune's calls by its divergence.

        Args:
            model: its weights are needed now anyway.
            rows: its calls.
        """
        try:
            if any(base.name == model.name for base in self._base_of.values()):
                self._keep(model)
            if model.name in self._base_of:
                self._score(model, rows)
        except EngineError as error:  # a table's column is no reason to end a run
            self.notes.append(f"first-token divergence not computed: {error}")

    def _missing(self, twins: Mapping[str, Prompt]) -> dict[str, dict[_Place, Prompt]]:
        """Return by fine-tune the prompts that it is still to be compared on."""
        assert self._version is not None
        table = self._run.store.table(self._run.study.name, [self._version])
        scored = ~np.isnan(table.scores[f"score:{DIVERGENCE_SCORE}"])
        columns = zip(
            *(table.columns[name][scored] for name in ("model", "system", "prompt")), strict=True
        )
        names = table.names["model"], table.names["system"], table.names["prompt"]
        done = {
            tuple(name[code] for name, code in zip(names, codes, strict=True)) for codes in columns
        }
        due: dict[str, dict[_Place, Prompt]] = {}
        for model in self._models:
            due[model.name] = {}
            for system in self._run.study.systems:
                number = sum(place[:2] == (model.name, system) for place in done)
                left = [id_ for id_ in twins if (model.name, system, id_) not in done]
                due[model.name] |= {
                    (system, id_): twins[id_]
                    for id_ in left[: max(0, MOST_PROMPTS - number)]
                    if self._share is None or self._share.takes(model, twins[id_])
                }
        return due

    def _keep(self, base: StudyModel) -> dict[_Place, Distribution]:
        kept = self._of_base.setdefault(base.name, {})
        wanted = {
            place: prompt
            for model, its_base in self._base_of.items()
            if its_base.name == base.name
            for place, prompt in self._due[model].items()
            if place not in kept
        }
        kept |= self._first_tokens(base, wanted)
        return kept

    def _score(self, model: StudyModel, rows: Sequence[PlannedJob]) -> None:
        assert self._version is not None
        due, of_base = self._due[model.name], self._keep(self._base_of[model.name])
        del self._due[model.name], self._base_of[model.name]
        places, values = list(due), {}
        for start in range(0, len(places), _AT_ONCE):
            part = {place: due[place] for place in places[start : start + _AT_ONCE]}
            for place, tuned in self._first_tokens(model, part).items():
                if place in of_base:
                    values[place] = _kept_digits(float(kl_divergence(of_base[place], tuned)))
        self._run.store.add_scores(
            self._version,
            [
                Scored(prompt=row.prompt, key=row.key, score=Score(number=values[place]))
                for row in rows
                if (place := (row.system, row.prompt.id)) in values and math.isfinite(values[place])
            ],
        )

    def _first_tokens(
        self, model: StudyModel, wanted: Mapping[_Place, Prompt]
    ) -> dict[_Place, Distribution]:
        systems, thinking = self._run.study.systems, self._run.study.decoding.thinking
        conversations = [
            conversation(prompt.text, systems[system]) for (system, _), prompt in wanted.items()
        ]
        engine = self._run.open(model)
        logprobs = engine.first_token_logprobs(conversations, thinking) if conversations else ()
        return {
            place: distribution
            for place, distribution in zip(wanted, logprobs, strict=True)
            if distribution is not None
        }


def _kept_digits(nats: float) -> float:
    """Return a divergence without the digits in which one processor differs from another."""
    return round(float(f"{nats:.4g}"), 6)


# Notes


def _noise_notes(run: Run, models: Sequence[StudyModel]) -> Iterator[str]:
    """Yield a note on the models whose noise at temperature 0 nobody measures, or on those that have none."""
    keys = run.study.decoding
    same = [model.name for model in models if run.open(model).deterministic]
    others = [model.name for model in models if model.name not in same]
    if keys.replicates == 1 and others and 0.0 in keys.temperatures:
        yield (
            f"noise unknown ({', '.join(others)}): asked again at temperature 0, a server or a GPU answers otherwise (public reports: "
            "rates move by 1.5 to 2 points); decoding.replicates: 3 (check: --replicates 3) measures it"
        )
    if keys.replicates > 1 and same:
        yield (
            f"noise 0 ({', '.join(same)}): in float32 on this machine's CPU the same call has the same answer; one call stands for all "
            f"{keys.replicates} replicates"
        )


def _is_served(run: Run, model: StudyModel) -> bool:
    return run.open(model).served


def _system_notes(run: Run, models: Sequence[StudyModel]) -> list[str]:
    """Return a note on the models whose template has no place for the system prompt."""
    with_system = any(text is not None for text in run.study.systems.values())
    names = ", ".join(
        model.name
        for model in models
        if with_system
        and (engine := run.open(model)).folds_system
        and not engine.refusals  # where a server refused it, another note says so
    )
    note = f"{names}: the chat template takes no system turn: the system prompt stands at the head of the user's turn"
    return [note] if names else []


def greedy_notes(keys: DecodingKeys) -> list[str]:
    """Return a note where several draws at temperature 0 are one answer, counted as many times."""
    draws = keys.samples * len(keys.seeds)
    if draws == 1 or 0.0 not in keys.temperatures:
        return []
    return [
        (
            f"temperature 0 draws nothing: the {draws} answers to each prompt (samples x decoding seeds) are the same, unless a server "
            "says otherwise; each is counted, so counts say more than was learnt (intervals are over behaviors). Take one sample and seed; "
            "decoding.replicates asks the same again"
        )
    ]


def _served_notes(run: Run, models: Sequence[StudyModel]) -> list[str]:
    """Return notes on the served models of a study, from what their stored answers say."""
    served = {model.name for model in models if _is_served(run, model)}
    unproved = [
        f"{model.name}: not probed, since an endpoint gives no likelihoods: that it differs from {model.base} rests on its name"
        for model in models
        if model.base is not None and served & {model.name, model.base}
    ]
    refused = [
        f"{model.name}: {refusals}" for model in models if (refusals := run.open(model).refusals)
    ]
    return [*unproved, *refused, *_origin_notes(run, served)] if served else []


def _origin_notes(run: Run, served: set[str]) -> Iterator[str]:
    """Yield notes on changed servers, seeds that were ignored and missing token counts, model by model."""
    values: dict[str, dict[str, Counter[object]]] = {name: {} for name in served}
    for model, detail, answers in run.store.answer_details(run.study.name):
        if model in served:
            for field, value in detail.items():
                values[model].setdefault(field, Counter())[value] += answers
    for name in sorted(served):
        counts = values[name]
        for field, thing in (
            ("served_model", "the served model"),
            ("system_fingerprint", "the server's fingerprint"),
        ):
            if len(counts.get(field, ())) > 1:
                listed = ", ".join(
                    f"{value} ({count:,})"
                    for value, count in sorted(counts[field].items(), key=str)
                )
                yield f"{name}: {thing} changed within the study: {listed} answers"
        for field, value, note in (
            ("seed", "ignored", "the server ignored the seed: a repeated request gave another answer; its samples cannot be drawn again"),
            ("seed", "not sent", "the server takes no seed; its samples cannot be drawn again"),
            ("usage", "missing", "came without token counts"),
        ):  # fmt: skip
            if count := counts.get(field, Counter())[value]:
                yield f"{name}: {note} ({count:,} answers)"
