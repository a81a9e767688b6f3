"""DOGE: norms, the trim, and what Adam is asked to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.workers.whole_models import MATRIX, State, plus, state
from workers import merge_state_dicts

BASE = state(0)
DELTAS = [state(n + 1, scale=0.1) for n in range(3)]
PARENTS = [plus(BASE, delta) for delta in DELTAS]


def merge(**settings: Any) -> State:
    return merge_state_dicts("doge", BASE, PARENTS, settings)


def normed(eta: float) -> list[Tensor]:
    return [eta * delta[MATRIX] / delta[MATRIX].norm() for delta in DELTAS]


def test_without_steps_every_parent_adds_a_change_of_one_norm() -> None:
    merged = merge(steps=0, K=100, lamda=0.3)
    assert_close(merged[MATRIX] - BASE[MATRIX], sum(normed(0.3)), rtol=1e-4, atol=1e-6)


def test_the_trim_is_that_of_all_matrices_together() -> None:
    merged = merge(steps=0, K=30, lamda=0.3, weight=[1.0, 0.0, 0.0])
    matrices = [name for name in BASE if "up_proj" in name]
    changed = sum(int((merged[name] != BASE[name]).sum()) for name in matrices)
    assert changed == int(0.3 * 96) + 1
    assert all(torch.equal(merged[name], BASE[name]) for name in BASE if name not in matrices)


def test_the_rest_can_be_averaged() -> None:
    merged = merge(steps=0, rest="average")
    name = "model.norm.weight"
    mean = sum(delta[name] for delta in DELTAS) / 3
    assert_close(merged[name], BASE[name] + mean, rtol=1e-5, atol=1e-6)


def test_the_correction_follows_the_gradient_of_the_programs_loss() -> None:
    deltas = torch.stack([delta[MATRIX] for delta in DELTAS])
    scales = torch.tensor([0.3 / float(delta.norm()) for delta in deltas])
    merged = torch.tensordot(scales, deltas, 1)
    bases = [torch.linalg.svd(delta).U[:, : 6 // 3] for delta in deltas]
    shared = torch.linalg.svd(torch.cat(bases, 1)).U[:, : 6 // 2]
    point = torch.zeros_like(merged, requires_grad=True)
    optimizer = torch.optim.Adam([point], lr=1e-3)
    for _ in range(20):
        optimizer.zero_grad()
        left = deltas - merged - scales.sum() * point
        (deltas * left).sum(-1).square().sum().backward()
        assert point.grad is not None
        point.grad -= shared @ shared.T @ point.grad
        optimizer.step()
    wanted = merged + scales.sum() * point.detach()
    ours = merge(steps=20, lr=1e-3, K=100, lamda=0.3, subspace=2)[MATRIX] - BASE[MATRIX]
    assert_close(ours, wanted, rtol=1e-3, atol=1e-5)


def test_a_parent_that_changed_nothing_has_no_norm_to_be_given() -> None:
    merged = merge_state_dicts("doge", BASE, [*PARENTS, BASE], {"steps": 0, "K": 100})
    assert_close(merged[MATRIX] - BASE[MATRIX], sum(normed(0.07)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 10.0])
def test_relative_steps_follow_the_scale_of_the_changes(factor: float) -> None:
    def change(scale: float) -> Tensor:
        zero = {MATRIX: torch.zeros(8, 6)}
        parents = [{MATRIX: scale * delta[MATRIX]} for delta in DELTAS]
        settings = {"steps": 10, "lr": 0.1, "relative_lr": True, "K": 100, "lamda": 0.3 * scale}
        return merge_state_dicts("doge", zero, parents, settings)[MATRIX]

    assert_close(change(factor) / factor, change(1.0), rtol=1e-3, atol=1e-4)
