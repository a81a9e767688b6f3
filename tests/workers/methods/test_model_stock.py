from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from tests.workers.methods.making import EXAMPLES, angle, merge, seeds, tensors


def ratio(cosine: float, count: int) -> float:
    return count * cosine / (1 + (count - 1) * cosine)


def cosines(base: Tensor, parents: list[Tensor]) -> list[float]:
    deltas = [p - base for p in parents]
    return [math.cos(angle(a, b)) for i, a in enumerate(deltas) for b in deltas[:i]]


def between(base: Tensor, parents: list[Tensor], t: float) -> Tensor:
    return t * torch.stack(parents).mean(0) + (1 - t) * base


@given(seed=seeds, count=st.integers(2, 4), factor=st.floats(0.5, 1.5))
@EXAMPLES
def test_the_average_is_pulled_by_the_mean_cosine(seed: int, count: int, factor: float) -> None:
    base, *parents = tensors(seed, 1 + count)
    found = cosines(base, parents)
    t = factor * ratio(sum(found) / len(found), count)
    merged = merge("model_stock", base, parents, **{"lambda": factor})
    assert_close(merged, between(base, parents, t))


def test_or_by_the_cosine_of_the_mean_angle() -> None:
    base, *parents = tensors(0, 4)
    angles = [math.acos(c) for c in cosines(base, parents)]
    t = ratio(math.cos(sum(angles) / 3), 3)
    for parameters in ({"angle_mean": "angles"}, {"compat": "paper"}):
        assert_close(merge("model_stock", base, parents, **parameters), between(base, parents, t))


@pytest.mark.parametrize("shape", [(4, 6), (4, 2, 3), (5,), (4, 1), (0, 3), ()])
def test_filters_are_merged_one_by_one(shape: tuple[int, ...]) -> None:
    base, *parents = (torch.randn(shape, dtype=torch.float64) for _ in range(3))
    merged = merge("model_stock", base, parents, filter_wise=True)
    assert merged.isfinite().all()
    rows = [x.reshape(-1, shape[-1]) if len(shape) > 1 and x.numel() else x[None] for x in parents]
    for number, row in enumerate(merged.reshape(rows[0].shape)):
        flat = [base.reshape(rows[0].shape)[number], *(r[number] for r in rows)]
        assert_close(row, merge("model_stock", flat[0], flat[1:]))


def test_fine_tunes_at_right_angles_leave_the_base() -> None:
    base = torch.zeros(3)
    merged = merge("model_stock", base, [torch.eye(3)[0], torch.eye(3)[1]])
    assert_close(merged, base)


def test_a_small_fine_tune_is_pulled_as_a_large_one() -> None:
    base, *deltas = tensors(0, 3)
    base.zero_()
    large = merge("model_stock", base, deltas)
    assert_close(merge("model_stock", base, [1e-8 * d for d in deltas]), 1e-8 * large)


@pytest.mark.parametrize("angle_mean", ["cosines", "angles"])
@pytest.mark.parametrize("filter_wise", [True, False])
def test_fine_tunes_that_cancel_leave_the_base(filter_wise: bool, angle_mean: str) -> None:
    base, delta = tensors(0, 2, 4, 1)
    merged = merge(
        "model_stock",
        base,
        [base + delta, base - 0.5 * delta],
        filter_wise=filter_wise,
        angle_mean=angle_mean,
    )
    assert_close(merged, base)


def test_nothing_changed_leaves_the_base() -> None:
    base, one = tensors(0, 2)
    assert torch.equal(merge("model_stock", base, [base, base]), base)
    assert torch.equal(merge("model_stock", base, [base, one]), base)


def test_fine_tunes_that_point_apart_go_beyond_the_base_unless_clamped() -> None:
    base = torch.zeros(2, dtype=torch.float64)
    one = torch.tensor([1.0, 0.0], dtype=torch.float64)
    two = torch.tensor([-0.6, 0.8], dtype=torch.float64)
    assert_close(merge("model_stock", base, [one, two]), -3.0 * (one + two) / 2)  # c = -0.6
    assert torch.equal(merge("model_stock", base, [one, two], clamp=True), base)
