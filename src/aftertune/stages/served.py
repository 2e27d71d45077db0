"""Notes on served models: their cost, batches under way, and where harmful prompts would go."""

from collections.abc import Iterator, Sequence

from aftertune.core.protocols import Engine
from aftertune.errors import ModelError
from aftertune.models.endpoint.batch import Step
from aftertune.score.estimate import Estimate
from aftertune.workspace import Run


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
