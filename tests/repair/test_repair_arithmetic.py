"""Each equation against values worked out by hand on 2 x 2 matrices."""

import math

import pytest

from aftertune.repair import arithmetic as eq

torch = pytest.importorskip("torch")

BASE = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
TUNED = torch.tensor([[3.0, 2.0], [3.0, 0.0]])
UNALIGNED = torch.tensor([[0.0, 2.0], [3.0, 2.0]])
"""D = [[2, 0], [0, -4]]; V = [[1, 0], [0, 2]]."""


def same(result, rows):
    return torch.allclose(result, torch.tensor(rows), atol=1e-5)


@pytest.mark.parametrize(
    ("alpha", "rows"), [(0.0, [[1.0, 2], [3, 4]]), (0.25, [[1.5, 2], [3, 3]]), (1.0, [[3.0, 2], [3, 0]])]
)  # fmt: skip
def test_scaling_lies_between_base_and_fine_tune(alpha, rows):
    assert same(eq.scaled(BASE, TUNED, alpha), rows)


def test_a_soup_is_the_mean_of_the_changes():
    other = torch.tensor([[1.0, 6.0], [3.0, 4.0]])  # D = [[0, 4], [0, 0]]
    assert same(eq.averaged(BASE, [TUNED, other], 1.0), [[2.0, 4], [3, 2]])
    assert same(eq.averaged(BASE, [TUNED, other], 0.5), [[1.5, 3], [3, 3]])


def test_an_intruder_is_a_leading_direction_that_the_base_does_not_have():
    # W0 has the singular vectors e1 and e2; W1 = 6 u u' + W0's weaker part, with u = e3.
    base = torch.diag(torch.tensor([3.0, 2.0, 0.0]))[:, :2]
    tuned = torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 6.0]])  # 6 e3 e2' + 3 e1 e1'
    assert same(eq.without_intruders(base, tuned, 1.0), [[3.0, 0], [0, 0], [0, 0]])
    assert same(eq.without_intruders(base, tuned, 0.25), [[3.0, 0], [0, 0], [0, 4.5]])
    assert same(eq.without_intruders(base, 2 * base, 1.0), [[6.0, 0], [0, 4], [0, 0]])


def test_safe_lora_projects_as_in_its_equation():
    # C = V V' / ||V||_F = diag(1, 4) / sqrt(5); D = diag(2, -4)
    root = math.sqrt(5)
    part = eq.aligned_part(BASE - UNALIGNED, TUNED - BASE)
    assert same(part, [[2 / root, 0], [0, -16 / root]])
    # Of D and sqrt(5) C D = diag(2, -16), the inner product is 68.
    assert eq.likeness(TUNED - BASE, part) == pytest.approx(68 / math.sqrt(20 * 260))
    assert eq.aligned_part(torch.zeros(2, 2), TUNED).count_nonzero() == 0


@pytest.mark.parametrize(
    ("share", "places"), [(0.1, {2}), (0.5, {2, 0}), (0.6, {2, 0, 3}), (1.0, {0, 1, 2, 3})]
)
def test_the_least_aligned_modules_come_first(share, places):
    assert eq.lowest([0.2, 0.9, -0.1, 0.5], share) == places


def test_resta_adds_the_safety_vector():
    assert same(eq.with_safety_vector(BASE, TUNED, UNALIGNED, 0.5), [[3.5, 2], [3, 1]])


def test_lox_adds_the_leading_directions_alone():
    # V has 7 singular values, 7 to 1; k = 6 leaves out the last one.
    size = eq.RANK + 1
    values = torch.arange(size, 0, -1).float()
    base, before = torch.diag(values), torch.zeros(size, size)
    extrapolated = eq.extrapolated(base, base, before, 0.5)
    assert torch.allclose(
        extrapolated.diag(), values * torch.tensor([1.5] * eq.RANK + [1.0]), atol=1e-4
    )


def test_the_change_along_a_direction_is_taken_back():
    change, direction = torch.tensor([[2.0, 0.0], [0.0, -4.0]]), torch.tensor([0.6, 0.8])
    # r' D = (1.2, -3.2); D - r r' D
    assert same(eq.restored(change, direction, 1.0), [[1.28, 1.92], [-0.96, -1.44]])
    assert same(eq.restored(change, direction, 0.5), [[1.64, 0.96], [-0.48, -2.72]])
    assert same(direction @ eq.restored(change, direction, 1.0), [0.0, 0.0])


def test_the_changes_that_matter_most_go_back_to_the_base():
    tuned = torch.tensor([[2.0, 2.5], [6.0, 4.1]])  # |D| = [[1, .5], [3, .1]]
    norms = torch.tensor([1.0, 10.0])  # scores [[1, 5], [3, 1]]
    assert same(eq.reverted(BASE, tuned, norms, 0.25), [[2.0, 2], [6, 4.1]])
    assert same(eq.reverted(BASE, tuned, norms, 0.5), [[2.0, 2], [3, 4.1]])
    assert same(eq.reverted(BASE, tuned, norms, 0.01), tuned.tolist())
