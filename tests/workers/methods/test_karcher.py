from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from tests.workers.methods.making import EXAMPLES, angle, merge, seeds, tensors, unit
from workers.merging.merge_method import NotMergeable

weights = st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3)


def logarithm(mean: Tensor, point: Tensor) -> Tensor:
    """The tangent at a point of the sphere whose arc leads to another one."""
    away = unit(point) - (unit(point) * mean).sum() * mean
    return angle(mean, point) * unit(away)


@given(seed=seeds, weight=weights)
@EXAMPLES
def test_the_arcs_to_all_parents_balance(seed: int, weight: list[float]) -> None:
    parents = tensors(seed, 3)
    merged = merge("karcher", None, parents, weight=weight, max_iter=200, tol=1e-12)
    arcs = [w * logarithm(unit(merged), p) for w, p in zip(weight, parents, strict=True)]
    assert torch.stack(arcs).sum(0).norm() < 1e-6
    length = sum(w * float(p.norm()) for w, p in zip(weight, parents, strict=True)) / sum(weight)
    assert_close(float(merged.norm()), length)


@given(seed=seeds, share=st.floats(0.1, 0.9))
@EXAMPLES
def test_of_two_parents_it_divides_the_arc(seed: int, share: float) -> None:
    one, two = tensors(seed, 2)
    merged = merge("karcher", None, [one, two], weight=[1 - share, share], max_iter=100, tol=1e-10)
    assert angle(one, merged) == pytest.approx(share * angle(one, two), abs=1e-6)


@given(seed=seeds, weight=weights)
@EXAMPLES
def test_task_vectors_are_merged_around_the_base(seed: int, weight: list[float]) -> None:
    base, *parents = tensors(seed, 4)
    around = merge("karcher", None, [p - base for p in parents], weight=weight)
    assert_close(merge("karcher", base, parents, weight=weight), base + around)


def test_a_parent_without_a_direction_only_shortens() -> None:
    one, two = tensors(0, 2)
    merged = merge("karcher", None, [one, torch.zeros_like(one), two])
    assert_close(merged, merge("karcher", None, [one, two]) * 2 / 3)


def test_short_vectors_have_directions_too() -> None:
    base, *deltas = tensors(0, 4)
    merged = merge("karcher", torch.zeros_like(base), [1e-9 * d for d in deltas])
    assert_close(merged, 1e-9 * merge("karcher", torch.zeros_like(base), deltas))


def test_opposite_parents_leave_the_first_direction() -> None:
    one = tensors(0, 1, dtype=torch.float32)[0]
    assert_close(merge("karcher", None, [one, -3 * one]), 2 * one)
    nearly = -one.clone()
    nearly[0, 0] += 1e-6
    assert_close(merge("karcher", None, [one, nearly]).norm(), one.norm())


@pytest.mark.parametrize("turn", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 0.0])
def test_nearly_opposite_parents_have_a_mean_between_them(turn: float) -> None:
    one, other = (unit(x) for x in tensors(0, 2, dtype=torch.float32))
    two = -one + turn * other
    merged = merge("karcher", None, [one, two, one])
    assert merged.isfinite().all()
    # Their large coefficients nearly cancel, which costs digits.
    assert_close(merged.norm(), (2 * one.norm() + two.norm()) / 3, rtol=1e-4, atol=0)


def test_nothing_stays_nothing() -> None:
    zero, base = torch.zeros(3, 4), tensors(0, 1)[0]
    assert torch.equal(merge("karcher", None, [zero] * 3), zero)
    assert torch.equal(merge("karcher", base, [base] * 3), base)


def test_weights_of_nothing_are_refused() -> None:
    with pytest.raises(NotMergeable, match=r"sum to 0 at 'w'.*raise a weight"):
        merge("karcher", None, tensors(0, 2), weight=0.0)


def test_one_hot_weights_give_that_parent_exactly() -> None:
    base, *parents = tensors(0, 4, dtype=torch.float32)
    assert torch.equal(merge("karcher", base, parents, weight=[0.0, 1.0, 0.0]), parents[1])


def test_without_steps_it_is_the_normalized_mean_direction() -> None:
    parents = tensors(0, 3)
    mean = unit(torch.stack([unit(p) for p in parents]).sum(0))
    expected = mean * math.fsum(float(p.norm()) for p in parents) / 3
    assert_close(merge("karcher", None, parents, max_iter=0), expected)


@given(seed=seeds)
@EXAMPLES
def test_a_tolerance_of_nothing_takes_every_step(seed: int) -> None:
    parents = tensors(seed, 3)
    exact = merge("karcher", None, parents, max_iter=60, tol=0.0)
    assert_close(
        merge("karcher", None, parents, max_iter=60, tol=1e-7), exact, rtol=1e-5, atol=1e-6
    )
    same = merge("karcher", None, parents[:1] * 3, tol=0.0)
    assert_close(same, parents[0])
