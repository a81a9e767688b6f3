from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from tests.workers.methods.making import EXAMPLES, merge, seeds, tensors, unit
from workers.merging.merge_method import NotMergeable

weights = st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3)


def walk(points: list[Tensor], weight: list[float]) -> Tensor:
    """As mergekit has it: along the mean tangent at the mean direction."""
    share = [w / sum(weight) for w in weight]
    units = [unit(x) for x in points]
    mean = unit(torch.stack([s * u for s, u in zip(share, units, strict=True)]).sum(0))
    step = torch.stack(
        [s * (u - (u * mean).sum() * mean) for s, u in zip(share, units, strict=True)]
    ).sum(0)
    length = step.norm() + 1e-8
    radius = sum(s * float(x.norm()) for s, x in zip(share, points, strict=True))
    return radius * (torch.cos(length) * mean + torch.sin(length) / length * step)


@given(seed=seeds, weight=weights)
@EXAMPLES
def test_the_walk_from_the_mean_direction_leads_nowhere(seed: int, weight: list[float]) -> None:
    base, *parents = tensors(seed, 4)
    expected = base + walk([p - base for p in parents], weight)
    assert_close(merge("multislerp", base, parents, weight=weight), expected, rtol=1e-6, atol=1e-6)
    expected = walk(parents, weight)
    assert_close(merge("multislerp", None, parents, weight=weight), expected, rtol=1e-6, atol=1e-6)


@given(seed=seeds, weight=weights, factor=st.floats(1e-3, 1e3))
@EXAMPLES
def test_longer_parents_make_it_longer(seed: int, weight: list[float], factor: float) -> None:
    parents = tensors(seed, 3)
    merged = merge("multislerp", None, parents, weight=weight)
    scaled = merge("multislerp", None, [factor * p for p in parents], weight=weight)
    assert_close(scaled, factor * merged)


def test_normalized_or_not_weights_only_change_the_length() -> None:
    base, *parents = tensors(0, 4)
    weight = [0.5, 0.3, 0.4]
    normalized = merge("multislerp", base, parents, weight=weight) - base
    plain = merge("multislerp", base, parents, weight=weight, normalize_weights=False) - base
    assert_close(plain, 1.2 * normalized)


def test_directions_that_cancel_leave_the_weighted_sum() -> None:
    one = tensors(0, 1, dtype=torch.float32)[0]
    merged = merge("multislerp", None, [one, one * -0.3], weight=[1.0, 1.0])
    assert_close(merged, 0.35 * one)
    # Three vectors at 120 degrees of each other, of different lengths.
    corners = torch.tensor([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    parents = [corners[0], 2 * corners[1], 3 * corners[2]]
    merged = merge("multislerp", None, parents)
    assert_close(merged, torch.stack(parents).mean(0))


def test_a_parent_without_a_direction_only_shortens() -> None:
    base, one, two = tensors(0, 3)
    merged = merge("multislerp", base, [one, base, two], weight=[1.0, 2.0, 1.0]) - base
    without = merge("multislerp", base, [one, two], weight=[1.0, 1.0]) - base
    assert_close(merged, without / 2)


def test_nothing_stays_nothing() -> None:
    zero, base = torch.zeros(3, 4), tensors(0, 1)[0]
    assert torch.equal(merge("multislerp", None, [zero] * 3), zero)
    assert torch.equal(merge("multislerp", base, [base] * 3), base)


def test_weights_that_cancel_cannot_be_normalized() -> None:
    with pytest.raises(NotMergeable, match=r"sum to 0 at 'w'.*turn normalize_weights off"):
        merge("multislerp", None, tensors(0, 2), weight=[1.0, -1.0])
    merged = merge("multislerp", None, tensors(0, 2), weight=[1.0, -1.0], normalize_weights=False)
    assert merged.isfinite().all()


@pytest.mark.parametrize("normalize", [True, False])
def test_one_hot_weights_give_that_parent_exactly(normalize: bool) -> None:
    base, *parents = tensors(0, 4, dtype=torch.float32)
    merged = merge("multislerp", base, parents, weight=[0.0, 1.0, 0.0], normalize_weights=normalize)
    assert torch.equal(merged, parents[1])
