"""Singular directions, up to the rank that a matrix has."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from workers.merging.matrices import leading, orthogonal, svd


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


def test_the_leading_directions_are_those_of_a_full_decomposition() -> None:
    strengths = 0.7 ** torch.arange(40.0)
    matrix = orthogonal(random(60, 40)) * strengths @ orthogonal(random(50, 40, seed=1)).T
    full, found = svd(matrix).first(5), leading(matrix, 5, "randomized")
    assert_close(found.s, full.s, rtol=1e-5, atol=0)
    assert_close(found.matrix(), full.matrix(), rtol=0, atol=1e-4)
    assert_close(found.u.T @ found.u, torch.eye(5), rtol=0, atol=1e-5)
    assert_close(leading(matrix, 5, "exact").matrix(), full.matrix())


def test_of_a_flat_spectrum_little_more_is_lost_than_must_be() -> None:
    matrix = random(120, 90)
    full, found = svd(matrix).first(10), leading(matrix, 10, "randomized")
    least, lost = ((matrix - part.matrix()).norm() for part in (full, found))
    assert least < lost < 1.05 * least


def test_leading_directions_without_strength_are_left_out() -> None:
    low = random(60, 3) @ random(3, 50, seed=1)
    assert leading(low, 8, "randomized").rank == 3
    assert_close(leading(low, 8, "randomized").matrix(), low, rtol=1e-4, atol=1e-4)
    assert leading(torch.zeros(60, 50), 8, "randomized").rank == 0
    assert leading(random(6, 5), 8, "randomized").rank == 5
