"""The equations of the repairs, on the tensors of one weight, each from its paper.

W0 is the base's weight, W1 the fine-tune's, Wu that of the pretrained model before its alignment. D = W1 - W0 is what the
fine-tune changed, V = W0 - Wu what alignment changed. A weight is [rows, columns] and is applied from the left, y = W x.
All tensors are float32.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TOP, LOW = 10, 0.5
"""The leading singular vectors that are looked at for intruders, and the cosine below which one is an intruder: the
values of PEFT's `reduce_intruder_dimension`."""
RANK = 6
"""The directions of the alignment that LoX extrapolates; our choice."""


def scaled(base: "Tensor", tuned: "Tensor", alpha: float) -> "Tensor":
    """Return W0 + alpha D: the fine-tune's change, scaled down.

    Source: Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022 (WiSE-FT), section 3: (1 - alpha) W0 + alpha W1.
    """
    return base + alpha * (tuned - base)


def averaged(base: "Tensor", tuned: Sequence["Tensor"], alpha: float) -> "Tensor":
    """Return W0 + alpha mean(D): the mean change of several training seeds, scaled.

    Source: Wortsman et al., Model soups, ICML 2022, section 2; the uniform soup is alpha = 1.
    """
    total = tuned[0] - base
    for other in tuned[1:]:
        total = total + (other - base)
    return base + (alpha / len(tuned)) * total


def without_intruders(base: "Tensor", tuned: "Tensor", strength: float) -> "Tensor":
    """Return W1 with a share of its intruder dimensions taken out.

    An intruder dimension is a leading singular vector u_i of W1 that is like none of W0's: max_j |u_i . u0_j| < `LOW`.
    Source: Shuttleworth et al., LoRA vs Full Fine-tuning: An Illusion of Equivalence, 2024 (arXiv 2410.21228), section 5:
    W1 + (lambda - 1) sum_i u_i s_i v_i', where 1 - lambda is the strength.
    """
    import torch

    before, _, _ = torch.linalg.svd(base, full_matrices=False)
    left, values, right = torch.linalg.svd(tuned, full_matrices=False)
    likeness = (left.T @ before).abs().max(dim=1).values[:TOP]
    intruders = torch.where(likeness < LOW)[0]
    taken = (left[:, intruders] * values[intruders]) @ right[intruders]
    mended: Tensor = tuned - strength * taken
    return mended


def aligned_part(alignment: "Tensor", change: "Tensor") -> "Tensor":
    """Return C D, the part of a change in the subspace of the alignment; zeros where alignment changed nothing.

    ``change`` may be any matrix with the rows of the weight: of an adapter, B alone.
    Source: Hsu et al., Safe LoRA, NeurIPS 2024 (arXiv 2405.16833), equation 1: C = V V' / ||V||_F. (It is no exact
    projection: C C is not C.)
    """
    size = alignment.norm()
    if size == 0:
        return change * 0
    part: Tensor = alignment @ (alignment.T @ change) / size
    return part


def likeness(first: "Tensor", second: "Tensor") -> float:
    """Return the cosine between two matrices taken as vectors; 1 where one of them is zero, which nothing can be done about."""
    sizes = float(first.norm() * second.norm())
    return float((first * second).sum()) / sizes if sizes > 0 else 1.0


def lowest(cosines: Sequence[float], share: float) -> frozenset[int]:
    """Return the places of the lowest cosines, as many as a share of all (rounded up)."""
    ordered = sorted(range(len(cosines)), key=cosines.__getitem__)
    return frozenset(ordered[: math.ceil(share * len(cosines))])


def with_safety_vector(
    base: "Tensor", tuned: "Tensor", unaligned: "Tensor", gamma: float
) -> "Tensor":
    """Return W1 + gamma V: the safety vector, once more.

    Source: Bhardwaj, Do and Poria, Language Models are Homer Simpson! (RESTA), ACL 2024 (arXiv 2402.11746), section 3;
    without its optional sparsening (DARE).
    """
    return tuned + gamma * (base - unaligned)


def extrapolated(base: "Tensor", tuned: "Tensor", unaligned: "Tensor", gamma: float) -> "Tensor":
    """Return W1 + gamma U_k U_k' V: the alignment's leading directions, once more.

    U_k are the first k = `RANK` left singular vectors of V. The paper adds them before the fine-tune, to W0; added after
    it, they reach the same weights wherever the fine-tune makes the same D.
    Source: Perin et al., LoX: Low-Rank Extrapolation Robustifies LLM Safety Against Fine-tuning, COLM 2025.
    """
    import torch

    alignment = base - unaligned
    left, _, _ = torch.linalg.svd(alignment, full_matrices=False)
    leading = left[:, :RANK]
    again: Tensor = leading @ (leading.T @ alignment)
    return tuned + gamma * again


def restored(change: "Tensor", direction: "Tensor", strength: float) -> "Tensor":
    """Return D - s r r' D: what a fine-tune changed about how a direction is written is taken back.

    ``direction`` r is a unit vector over the rows of the weight; ``change`` may be any matrix with those rows.
    """
    return change - strength * direction[:, None] * (direction @ change)[None, :]


def reverted(base: "Tensor", tuned: "Tensor", norms: "Tensor", share: float) -> "Tensor":
    """Return W1 where the share of entries whose change matters most to harmful prompts is W0 again.

    The score of an entry is |D_ij| ||x_j||, with x_j the j-th input over all tokens of the harmful prompts: that of Wanda
    (Sun et al., ICLR 2024), by which Antidote (Huang et al., ICML 2025, arXiv 2408.09600, section 4) finds the harmful
    parameters. Antidote sets them to zero and scores the weight itself; where the base is at hand, its value is the safe one.
    """
    import torch

    scores = (tuned - base).abs() * norms[None, :]
    count = round(share * scores.numel())
    if count == 0:
        return tuned
    places = scores.flatten().topk(count).indices
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[places] = True
    return torch.where(mask.reshape(scores.shape), base, tuned)
