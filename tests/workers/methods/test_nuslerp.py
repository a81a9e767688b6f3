from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from search.problems import Invalid
from tests.workers.methods.making import EXAMPLES, angle, merge, seeds, tensors


@given(seed=seeds, t=st.floats(0, 1))
@EXAMPLES
def test_it_walks_the_arc_between_task_vectors(seed: int, t: float) -> None:
    base, one, two = tensors(seed, 3)
    merged = merge("nuslerp", base, [one, two], weight=[1 - t, t]) - base
    whole = angle(one - base, two - base)
    shares = [math.sin((1 - t) * whole) / math.sin(whole), math.sin(t * whole) / math.sin(whole)]
    assert_close(merged, shares[0] * (one - base) + shares[1] * (two - base))


@given(seed=seeds)
@EXAMPLES
def test_without_task_vectors_the_base_does_not_matter(seed: int) -> None:
    base, one, two = tensors(seed, 3)
    weights = [0.3, 0.5]
    on_weights = merge("nuslerp", base, [one, two], weight=weights, task_vectors=False)
    assert torch.equal(on_weights, merge("nuslerp", None, [one, two], weight=weights))
    around_nothing = merge("nuslerp", torch.zeros_like(base), [one, two], weight=weights)
    assert_close(on_weights, around_nothing)


def test_rows_are_merged_one_by_one() -> None:
    base, one, two = tensors(0, 3, 4, 6, 5)
    merged = merge("nuslerp", base, [one, two], weight=[0.2, 0.6], nuslerp_flatten=False)
    for i in range(4):
        for j in range(6):
            row = merge("nuslerp", base[i, j], [one[i, j], two[i, j]], weight=[0.2, 0.6])
            assert_close(merged[i, j], row)


def test_row_wise_means_columns() -> None:
    base, one, two = tensors(0, 3, 4, 6)
    merged = merge(
        "nuslerp",
        base,
        [one, two],
        weight=[0.2, 0.6],
        nuslerp_flatten=False,
        nuslerp_row_wise=True,
    )
    for j in range(6):
        column = merge("nuslerp", base[:, j], [one[:, j], two[:, j]], weight=[0.2, 0.6])
        assert_close(merged[:, j], column)


@pytest.mark.parametrize("row_wise", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (9,), (0, 3), (3, 0), (3, 1), (1, 3), (2, 3, 4, 5)])
def test_every_shape_has_rows_and_columns(shape: tuple[int, ...], row_wise: bool) -> None:
    base, one, two = (torch.randn(shape) for _ in range(3))
    merged = merge(
        "nuslerp",
        base,
        [one, two],
        weight=[0.2, 0.6],
        nuslerp_flatten=False,
        nuslerp_row_wise=row_wise,
    )
    assert merged.shape == base.shape
    assert merged.isfinite().all()


@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize("factor", [1.0, 0.7, 3.3])
def test_opposite_vectors_meet_on_the_line(flatten: bool, factor: float) -> None:
    one = tensors(0, 1, 3, 64, dtype=torch.float32)[0]
    two = one * -factor  # opposite but for rounding, in which the arc would get lost
    merged = merge("nuslerp", None, [one, two], weight=[0.7, 0.3], nuslerp_flatten=flatten)
    assert_close(merged, 0.7 * one + 0.3 * two, rtol=1e-5, atol=1e-6)


def test_a_row_of_zeros_has_a_right_angle_to_everything() -> None:
    one, two = tensors(0, 2, 2, 3)
    one[0] = 0.0
    two[1] = 0.0
    merged = merge("nuslerp", None, [one, two], nuslerp_flatten=False)
    assert_close(merged, (one + two) * math.sin(math.pi / 4))


def test_nothing_stays_nothing() -> None:
    zero = torch.zeros(3, 4)
    assert torch.equal(merge("nuslerp", None, [zero, zero]), zero)
    base = tensors(0, 1)[0]
    assert_close(merge("nuslerp", base, [base, base], nuslerp_flatten=False), base)


def test_weights_that_cancel_meet_in_the_middle() -> None:
    base, *parents = tensors(0, 3)
    middle = merge("nuslerp", base, parents, weight=[1.0, 1.0])
    assert torch.equal(merge("nuslerp", base, parents, weight=[1.0, -1.0]), middle)


@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize("chosen", [0, 1])
def test_the_ends_of_the_arc_are_the_parents_exactly(flatten: bool, chosen: int) -> None:
    base, *parents = tensors(0, 3, dtype=torch.float32)
    weight = [float(n == chosen) for n in range(2)]
    merged = merge("nuslerp", base, parents, weight=weight, nuslerp_flatten=flatten)
    assert_close(merged, parents[chosen])
    if flatten:
        assert torch.equal(merged, parents[chosen])


def test_it_takes_two_parents() -> None:
    with pytest.raises(Invalid, match="exactly 2 parents, not 3"):
        merge("nuslerp", None, tensors(0, 3))
