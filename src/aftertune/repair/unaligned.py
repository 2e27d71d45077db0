"""Repairs with the pretrained model before its alignment: Safe LoRA, RESTA, LoX.

The alignment of a weight is V = W0 - Wu. Tensors are matched by name, and checkpoints that do not have the same ones are an
error: a repair of half the layers would look like one of all.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from aftertune.models.reference import Checkpoint, vocabulary
from aftertune.repair.arithmetic import (
    aligned_part,
    extrapolated,
    likeness,
    lowest,
    with_safety_vector,
)
from aftertune.repair.data_free import Make
from aftertune.repair.weights import (
    Factors,
    FineTune,
    Tensors,
    factors_of,
    inner_matrices,
    matched,
    write_adapter,
    write_full,
)

if TYPE_CHECKING:
    from torch import Tensor


def project(tune: FineTune, unaligned: Checkpoint) -> Make:
    """Return what writes the fine-tune with the change of its least aligned modules projected: Safe LoRA.

    A module is the less aligned, the lower the cosine between its change D and the part C D of it in the alignment's subspace
    (`arithmetic.aligned_part`); the strength is the share of the modules that are projected, lowest first. Of an adapter B
    alone is projected, as in the paper. Of a full fine-tune the matrices inside the layers are the modules.

    Raises:
        ModelError: the un-aligned model has other tensors.
    """
    base, before = _pair(tune, unaligned)

    def alignment(module: str) -> "Tensor":
        return base.weight(module) - before.weight(module)

    cosines = _cosines(tune, base, alignment)
    modules = list(cosines)

    def write(share: float, out: Path) -> None:
        projected = {modules[place] for place in lowest(list(cosines.values()), share)}

        def of_weight(name: str, base_weight: "Tensor", tuned: "Tensor") -> "Tensor":
            module = name.removesuffix(".weight")
            if module not in projected:
                return tuned
            return base_weight + aligned_part(alignment(module), tuned - base_weight)

        def of_factors(factors: Factors) -> tuple["Tensor", "Tensor"]:
            if factors.module not in projected:
                return factors.down, factors.up
            return factors.down, aligned_part(alignment(factors.module), factors.up)

        if tune.adapter is None:
            write_full(tune, out, of_weight)
        else:
            write_adapter(tune, out, of_factors)

    return write


def _cosines(
    tune: FineTune, base: Tensors, alignment: Callable[[str], "Tensor"]
) -> Mapping[str, float]:
    """Return for each module the cosine between its change and the change's aligned part."""
    if tune.adapter is not None:
        return {
            factors.module: likeness(
                factors.up @ factors.down,
                aligned_part(alignment(factors.module), factors.up) @ factors.down,
            )
            for factors in factors_of(tune.adapter)
        }
    own = Tensors(tune.reference, tune.folder)
    cosines = {}
    for module in inner_matrices(own, vocabulary(tune.base.name, tune.base.folder)):
        change = own.weight(module) - base.weight(module)
        cosines[module] = likeness(change, aligned_part(alignment(module), change))
    return cosines


def add_safety_vector(tune: FineTune, unaligned: Checkpoint) -> Make:
    """Return what writes the fine-tune with the safety vector added (`arithmetic.with_safety_vector`): RESTA.

    Raises:
        ModelError: the un-aligned model has other tensors.
    """
    _, before = _pair(tune, unaligned)

    def write(gamma: float, out: Path) -> None:
        write_full(
            tune,
            out,
            lambda name, base, tuned: with_safety_vector(base, tuned, before[name].float(), gamma),
        )

    return write


def extrapolate(tune: FineTune, unaligned: Checkpoint) -> Make:
    """Return what writes the fine-tune with the alignment's leading directions added (`arithmetic.extrapolated`): LoX.

    The matrices inside the layers are mended; all other tensors stay.

    Raises:
        ModelError: the un-aligned model has other tensors.
    """
    base, before = _pair(tune, unaligned)
    inner = set(inner_matrices(base, vocabulary(tune.base.name, tune.base.folder)))

    def write(gamma: float, out: Path) -> None:
        def of_weight(name: str, base_weight: "Tensor", tuned: "Tensor") -> "Tensor":
            if name.removesuffix(".weight") not in inner:
                return tuned
            return extrapolated(base_weight, tuned, before[name].float(), gamma)

        write_full(tune, out, of_weight)

    return write


def _pair(tune: FineTune, unaligned: Checkpoint) -> tuple[Tensors, Tensors]:
    """Return the tensors of the base and of the un-aligned model, which must be the same by name and shape."""
    base = Tensors(tune.base.name, tune.base.folder)
    before = Tensors(unaligned.name, unaligned.folder)
    matched(before, base)
    return base, before
