"""The probe of every fine-tune, made before it answers anything and kept under what its finding depends on."""

import math
from collections.abc import Sequence

from aftertune.core.ids import content_key
from aftertune.core.recipe import StudyModel
from aftertune.core.records import Prompt
from aftertune.errors import ModelError
from aftertune.stages.probe import PROBES, likelihoods, probe
from aftertune.stages.served import is_served
from aftertune.workspace import Run

_NOT_FINITE = "gives no finite probabilities (NaN): its weights are broken, or too large for its number format; train or save it again"


def prove(run: Run, model: StudyModel, base: StudyModel, prompts: Sequence[Prompt]) -> None:
    """Compare a fine-tune with its base, unless that was done; the base under a second name is noted elsewhere.

    Raises:
        ModelError: the fine-tune gives exactly the probabilities of its base, so it was not measured; or one of them is
            broken and computes none.
    """
    if _same(run, model, base) or is_served(run, model) or is_served(run, base):
        return  # of endpoints `served_notes` says that they were not probed
    if probed(run, model, base, prompts) is not None:
        return
    found = probe(_base_likelihoods(run, base, prompts), run.engines.open(model.reference), prompts)
    if not math.isfinite(found.largest_change):
        raise ModelError(f"{model.name} {_NOT_FINITE}")
    if not found.changed:
        raise ModelError(
            f"{model.name} gives exactly the probabilities of its base {base.name} on {found.prompts} prompts: the fine-tune "
            "is not active or has no effect; check that the folder holds its own weights"
        )
    value = {"prompts": found.prompts, "largest_change": found.largest_change}
    run.store.set_meta(run.study.name, _name(run, prompts, base, model), value)


def probed(
    run: Run, model: StudyModel, base: StudyModel | None, prompts: Sequence[Prompt]
) -> object:
    """Return how far a fine-tune's probabilities lie from its base's, as the probe found; None where none was made."""
    if base is None or _same(run, model, base):
        return None
    return run.store.get_meta(run.study.name, _name(run, prompts, base, model))


def _base_likelihoods(run: Run, base: StudyModel, prompts: Sequence[Prompt]) -> list[float]:
    """Return the base's likelihoods, computed once: opening the base again evicts the fine-tune's weights."""
    name = _name(run, prompts, base)
    kept = run.store.get_meta(run.study.name, name)
    if isinstance(kept, list):
        return [float(value) for value in kept]
    values = likelihoods(run.engines.open(base.reference), prompts)
    if not all(map(math.isfinite, values)):
        raise ModelError(f"{base.name} {_NOT_FINITE}")
    run.store.set_meta(run.study.name, name, values)
    return values


def _name(run: Run, prompts: Sequence[Prompt], *models: StudyModel) -> str:
    """Name a finding by the weights and prompts that it was made with: names and folders may stand for others later."""
    identities = [dict(run.engines.open(model.reference).identity) for model in models]
    return f"probe:{content_key(identities, [prompt.id for prompt in prompts[:PROBES]]).hex()}"


def _same(run: Run, model: StudyModel, base: StudyModel) -> bool:
    return run.engines.open(model.reference).identity == run.engines.open(base.reference).identity
