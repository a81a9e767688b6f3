"""Singular directions, up to the rank that a matrix has."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from workers.merging.matrices import orthogonal, svd


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_decomposition_multiplies_back() -> None:
    matrix = random(5, 9)
    factors = svd(matrix)
    assert factors.rank == 5
    assert_close(factors.matrix(), matrix)
    assert_close(factors.first(2).s, torch.linalg.svdvals(matrix)[:2])


def test_directions_without_strength_are_left_out() -> None:
    low = random(20, 3) @ random(3, 30, seed=1)
    factors = svd(low)
    assert factors.rank == 3
    assert_close(factors.matrix(), low, rtol=1e-4, atol=1e-4)
    assert svd(torch.zeros(4, 5)).rank == 0
    assert svd(torch.zeros(0, 5)).matrix().shape == (0, 5)


def test_smallness_can_be_judged_by_something_larger() -> None:
    noise = 1e-9 * random(6, 6)
    assert svd(noise).rank == 6
    assert svd(noise, scale=1.0).rank == 0


def test_a_polar_factor_is_orthonormal_and_keeps_what_is() -> None:
    stack = random(9, 4)
    polar = orthogonal(stack)
    assert_close(polar.T @ polar, torch.eye(4), rtol=0, atol=1e-5)
    assert_close(orthogonal(polar), polar, rtol=0, atol=1e-5)
    # The nearest one: what is left over is symmetric and positive (polar decomposition).
    rest = polar.T @ stack
    assert_close(rest, rest.T, rtol=1e-4, atol=1e-4)
    assert (torch.linalg.eigvalsh(rest) > 0).all()


def test_equal_columns_share_their_direction() -> None:
    column = torch.tensor([[1.0], [0.0], [0.0]])
    assert_close(orthogonal(column.repeat(1, 4)), column.repeat(1, 4) / 2)
