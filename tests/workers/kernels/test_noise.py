"""Draws that depend on keys and places alone, and look independent in every direction."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from workers.kernels.noise import RANGE, Noise

CPU = torch.device("cpu")
COUNT = 1 << 18
LABELS = ("one", "two", "three", "four")


def draws(seed: int = 0, tensor: str = "w", parent: int = 0, start: int = 0) -> Tensor:
    return Noise.of(seed, tensor, LABELS).draws(parent, start, COUNT, CPU)


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((one, other)).double())[0, 1])


# A correlation of independent draws has a spread of 1/sqrt(n); five of them are one in a million.
LIMIT = 5 / math.sqrt(COUNT - 1)


def test_every_value_comes_as_often_as_the_others() -> None:
    counts = torch.bincount(draws() >> 6, minlength=RANGE >> 6).double()
    expected = COUNT / len(counts)
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    freedom = len(counts) - 1
    assert abs(chi_square - freedom) < 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("distance", [1, 2, 3, 4, 8, 64, 4096])
def test_neighbours_are_independent(distance: int) -> None:
    values = draws()
    assert abs(correlation(values[distance:], values[:-distance])) < LIMIT


@pytest.mark.parametrize("bit", range(16))
def test_every_bit_is_fair_and_changes_without_a_pattern(bit: int) -> None:
    bits = (draws() >> bit) & 1
    assert abs(float(bits.double().mean()) - 0.5) < 2.5 / math.sqrt(COUNT)
    assert abs(correlation(bits[1:], bits[:-1])) < LIMIT


def test_parents_tensors_and_seeds_are_independent() -> None:
    first = draws()
    others = [draws(parent=parent) for parent in (1, 2, 3)]
    others += [draws(tensor=name) for name in ("v", "w2", "W")]
    others += [draws(seed=seed) for seed in (1, 2, 2**40)]
    assert all(abs(correlation(first, other)) < LIMIT for other in others)
    low = first < RANGE // 10
    for other in others:
        both = float((low & (other < RANGE // 10)).double().mean())
        assert both == pytest.approx(0.01, abs=5 * math.sqrt(0.01 / COUNT))


def test_three_parents_together_leave_out_what_chance_leaves_out() -> None:
    dropped = torch.stack([draws(parent=parent) >= RANGE // 2 for parent in range(3)])
    rate = float(dropped.all(dim=0).double().mean())
    assert rate == pytest.approx(0.125, abs=5 * math.sqrt(0.125 / COUNT))


@pytest.mark.parametrize("start", [0, 1, 2, 4095, 4096, 2**31 - 1, 2**33])
def test_any_part_can_be_drawn_alone(start: int) -> None:
    noise = Noise.of(7, "w", LABELS)
    whole = noise.draws(1, start, 100, CPU)
    parts = [noise.draws(1, start + i, 7, CPU) for i in range(0, 98, 7)]
    assert torch.equal(whole[:98], torch.cat(parts))


def test_a_parent_keeps_its_draws_in_another_company() -> None:
    alone = Noise.of(0, "w", ["two"]).draws(0, 0, 100, CPU)
    assert torch.equal(alone, draws(parent=1)[:100])
