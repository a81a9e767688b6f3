"""Which entries are largest, for any number of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from workers.merging.memo import nbytes
from workers.merging.ranking import ALL, NONE, Largest, rank, spans


def chosen(magnitudes: Tensor, largest: Largest) -> list[int]:
    early = torch.arange(magnitudes.numel()) < largest.cutoff
    bounds = torch.tensor([largest.threshold, largest.floor], dtype=magnitudes.dtype)
    least = torch.where(early, bounds[1], bounds[0])
    places: list[int] = (magnitudes > least).nonzero().view(-1).tolist()
    return places


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    values=st.lists(st.integers(0, 5).map(float), min_size=1, max_size=40),
    share=st.floats(0, 1),
)
@settings(max_examples=100)
def test_they_are_those_of_a_stable_sort(
    dtype: torch.dtype, values: list[float], share: float
) -> None:
    magnitudes = torch.tensor(values, dtype=dtype)
    count = int(share * len(values))
    order = sorted(range(len(values)), key=lambda i: -values[i])
    ranking = rank(torch.zeros_like(magnitudes), magnitudes)
    largest = ranking.largest(count)
    assert chosen(magnitudes, largest) == sorted(order[:count])
    assert largest.sum == pytest.approx(sum(sorted(values)[len(values) - count :]))


def test_a_count_in_a_large_tensor_is_off_by_half_a_step_at_most() -> None:
    size = 500_000
    magnitudes = torch.rand(size, generator=torch.Generator().manual_seed(0))
    ranking = rank(torch.zeros_like(magnitudes), magnitudes)
    for share in np.linspace(0.001, 0.999, 37):
        count = int(share * size)
        largest = ranking.largest(count)
        kept = len(chosen(magnitudes, largest))
        assert abs(kept - count) <= size / 8_192
        expected = float(magnitudes.sort(descending=True).values[:kept].sum(dtype=torch.float64))
        assert largest.sum == pytest.approx(expected)


def test_little_is_kept_of_a_large_tensor() -> None:
    ranking = rank(torch.zeros(5_000_000), torch.rand(5_000_000))
    assert nbytes(ranking) < 0.1 * 2 * 5_000_000


def test_many_equal_magnitudes_in_a_large_tensor_are_told_apart_by_place() -> None:
    generator = torch.Generator().manual_seed(0)
    parent = torch.randint(-3, 4, (200_000,), generator=generator).bfloat16()
    ranking = rank(torch.zeros_like(parent), parent)
    magnitudes = parent.float().abs()
    order = magnitudes.argsort(descending=True, stable=True)
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        largest = ranking.largest(int(share * len(order)))
        kept = torch.tensor(chosen(magnitudes, largest))
        assert abs(len(kept) - int(share * len(order))) <= len(order) / 8_192
        assert torch.equal(kept, order[: len(kept)].sort().values)
        assert largest.sum == pytest.approx(float(magnitudes[kept].sum()))


def test_none_and_all_need_no_threshold() -> None:
    assert rank(torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])).largest(0) is NONE
    assert chosen(torch.zeros(2), ALL) == [0, 1]
    assert chosen(torch.ones(2), NONE) == []


def test_a_range_is_cut_where_the_rule_changes() -> None:
    bounds = (*(Largest(1.0, 0.9, cutoff, 3.0) for cutoff in (5, 9, 50)), NONE)
    assert list(spans(0, 20, bounds)) == [(0, 5), (5, 9), (9, 20)]
    assert list(spans(6, 8, bounds)) == [(6, 8)]
