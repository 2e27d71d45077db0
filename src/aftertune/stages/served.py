"""What a reader must know of models that somebody serves: what could not be proved, what changed, what it cost."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from aftertune.core.protocols import Engine
from aftertune.core.recipe import StudyModel
from aftertune.errors import ModelError
from aftertune.models.endpoint.batch_ledger import Step
from aftertune.score.estimate import Estimate
from aftertune.store import answer_details
from aftertune.workspace import Run

Values = Mapping[str, Counter[object]]
"""What the answers of a model say of their origin: field of `Response.detail` -> value -> answers."""


def is_served(run: Run, model: StudyModel) -> bool:
    """Return whether a model is an endpoint: it gives text, and no likelihoods to probe."""
    return run.engines.open(model.reference).served


def served_notes(run: Run, models: Sequence[StudyModel]) -> list[str]:
    """Return notes on the served models of a study, from what their stored answers say."""
    served = {model.name for model in models if is_served(run, model)}
    unproved = [
        f"{model.name}: not probed, since an endpoint gives no likelihoods: that it differs from {model.base} rests on its name"
        for model in models
        if model.base is not None and served & {model.name, model.base}
    ]
    return [*unproved, *_origins(run, served)] if served else []


def spending_notes(run: Run) -> Iterator[str]:
    """Say what all calls to endpoints came to so far, those of earlier runs in this folder included."""
    endpoints = run.engines.endpoints
    for name, account in endpoints.spending.accounts.items() if endpoints.models else ():
        cost = (
            f"about {account.cost:.4f} {endpoints.spending.prices.currency}"
            if account.cost
            else "at no known price"
        )
        yield (
            f"{name}: {account.calls:,} calls answered, {account.failures:,} failed, {account.prompt_tokens:,} tokens in, "
            f"{account.completion_tokens:,} out, {cost}"
        )


def cost_words(run: Run, found: Estimate) -> str:
    """Say what calls will cost, if somebody charges for them."""
    if not found.calls or found.money == 0:
        return ""
    engine = found.engine
    if engine is None:
        return ", no price known (it does not say what it asks)"
    if found.money is None:
        return f", no price known ({engine.price_source})"
    how = " by batch" if engine.by_batch else ""
    currency = run.engines.endpoints.prices.currency
    limit = "at most" if found.kind == "model" else "about"
    return f", {limit} {found.money:,.4f} {currency}{how} ({engine.price_source})"


def under_way(run: Run) -> Iterator[str]:
    """Say which batches of earlier runs have not ended, as far as this folder knows."""
    known = [
        batch
        for batch in run.engines.endpoints.ledger.batches.values()
        if batch.step is not Step.ENDED
    ]
    if known:
        requests = sum(len(batch.ids) for batch in known)
        yield f"batches under way: {len(known)} with {requests:,} of these calls, which are not asked or paid for again"


def warnings(engines: Sequence[Engine]) -> Iterator[str]:
    """Say before anything is asked where harmful prompts would go, and which keys are missing."""
    for engine in engines:
        try:
            engine.check_ready()
        except ModelError as error:
            yield str(error)
    for destination in sorted({engine.destination for engine in engines} - {""}):
        yield (
            f"prompts go to {destination}: harmful test prompts can get an account flagged or closed; use an account meant for "
            "this, and read the provider's terms on safety testing"
        )


def _origins(run: Run, served: set[str]) -> Iterator[str]:
    found: dict[str, dict[str, Counter[object]]] = {name: {} for name in served}
    for model, detail, answers in answer_details(run.store.path, run.study.name):
        if model in served:
            for field, value in detail.items():
                found[model].setdefault(field, Counter())[value] += answers
    for name in sorted(served):
        yield from _of_model(name, found[name])


def _of_model(name: str, values: Values) -> Iterator[str]:
    for field, what in (
        ("served_model", "the served model"),
        ("system_fingerprint", "the server's fingerprint"),
    ):
        if len(values.get(field, ())) > 1:
            each = ", ".join(
                f"{value} ({count:,})" for value, count in sorted(values[field].items(), key=str)
            )
            yield f"{name}: {what} changed within the study: {each} answers"
    for field, value, said in (
        ("seed", "ignored", "the server ignored the seed: a repeated request gave another answer; its samples cannot be drawn again"),
        ("seed", "not sent", "the server takes no seed; its samples cannot be drawn again"),
        ("usage", "missing", "came without token counts"),
    ):  # fmt: skip
        if count := values.get(field, Counter())[value]:
            yield f"{name}: {said} ({count:,} answers)"
