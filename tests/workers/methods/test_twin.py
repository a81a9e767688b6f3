"""Twin-Merging: the shared expert, and what is added of a parent."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.workers.whole_models import MATRIX, State, plus, state
from workers import merge_state_dicts

BASE = state(0)
PARENTS = [plus(BASE, state(n + 1, scale=0.1)) for n in range(3)]
VECTOR = "model.norm.weight"


def merge(*, seed: int = 0, **settings: Any) -> State:
    return merge_state_dicts("twin", BASE, PARENTS, settings, seed=seed)


def own(name: str, **settings: Any) -> Tensor:
    """What is added of the first parent."""
    return merge(weight=[1.0, 0.0, 0.0], **settings)[name] - merge(weight=0.0, **settings)[name]


def lacking(name: str) -> Tensor:
    """What the shared expert lacks of the first parent."""
    return PARENTS[0][name] - merge(weight=0.0)[name]


def test_without_weights_the_shared_expert_is_left() -> None:
    shared = merge(weight=0.0, scaling=0.4)
    arithmetic = merge_state_dicts("task_arithmetic", BASE, PARENTS, {"weight": 0.4})
    for name in BASE:
        assert_close(shared[name], arithmetic[name], rtol=1e-5, atol=1e-6)


def test_all_that_a_parent_has_of_its_own_gives_that_parent() -> None:
    merged = merge(weight=[0.0, 1.0, 0.0], density=1.0)
    for name in BASE:
        assert_close(merged[name], PARENTS[1][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("density", [0.01, 0.25, 0.5])
def test_the_largest_entries_are_kept(density: float) -> None:
    count = max(1, int(density * 48))
    added, lacked = own(MATRIX, density=density), lacking(MATRIX)
    kept = added.abs() > 1e-6
    assert int(kept.sum()) == count
    assert_close(added[kept], lacked[kept], rtol=1e-4, atol=1e-6)
    assert lacked[kept].abs().min() >= lacked[~kept].abs().max()


@pytest.mark.parametrize(("density", "rank"), [(0.01, 1), (0.5, 3), (0.99, 5)])
def test_the_strongest_directions_are_kept(density: float, rank: int) -> None:
    added = own(MATRIX, density=density, mask_strategy="svd")
    u, s, vh = torch.linalg.svd(lacking(MATRIX), full_matrices=False)
    assert_close(added, u[:, :rank] @ torch.diag(s[:rank]) @ vh[:rank], rtol=1e-3, atol=1e-5)


def test_every_expert_keeps_directions_of_its_own() -> None:
    added = own("model.layers.1.mlp.experts", density=0.5, mask_strategy="svd")
    assert torch.linalg.matrix_rank(added, rtol=1e-3).tolist() == [2, 2]


@pytest.mark.parametrize("mask", ["magnitude", "svd", "bernoulli"])
def test_vectors_are_never_compressed(mask: str) -> None:
    added = own(VECTOR, density=0.1, mask_strategy=mask)
    assert_close(added, lacking(VECTOR), rtol=1e-4, atol=1e-6)


def test_entries_kept_by_chance_are_scaled_up_and_those_of_the_seed() -> None:
    settings: dict[str, Any] = {"weight": 0.3, "density": 0.25, "mask_strategy": "bernoulli"}
    added, lacked = own(MATRIX, density=0.25, mask_strategy="bernoulli"), lacking(MATRIX)
    kept = added.abs() > 1e-6
    assert 0 < int(kept.sum()) < 48
    assert_close(added[kept], 4 * lacked[kept], rtol=1e-4, atol=1e-5)
    assert torch.equal(merge(**settings)[MATRIX], merge(**settings)[MATRIX])
    assert not torch.equal(merge(**settings)[MATRIX], merge(seed=1, **settings)[MATRIX])
