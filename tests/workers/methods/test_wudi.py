"""WUDI: what it minimizes, and from where."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

from workers import merge_state_dicts

DELTAS = [
    0.1 * torch.randn((8, 6), generator=torch.Generator().manual_seed(seed)) for seed in range(3)
]


def added(deltas: list[Tensor], **settings: Any) -> Tensor:
    base = {"w": torch.zeros(8, 6)}
    return merge_state_dicts("wudi", base, [{"w": delta} for delta in deltas], settings)["w"]


def interference(merged: Tensor) -> float:
    """The loss of the paper."""
    return sum(
        float(((merged - delta) @ delta.T).square().sum() / delta.square().sum())
        for delta in DELTAS
    )


def test_no_step_leaves_the_sum() -> None:
    assert_close(added(DELTAS, iter_num=0), sum(DELTAS))


def test_steps_reduce_the_interference() -> None:
    losses = [interference(added(DELTAS, iter_num=n, lr=1e-3)) for n in (0, 10, 50, 200)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5 * losses[0]


def test_no_entry_moves_further_than_the_steps_reach() -> None:
    moved = (added(DELTAS, iter_num=50) - sum(DELTAS)).abs()
    assert 0 < float(moved.max()) <= 50 * 1e-5 * 1.01


def test_steps_are_those_of_torch_on_the_loss_itself() -> None:
    point = sum(DELTAS, torch.zeros(())).clone().requires_grad_()
    optimizer = torch.optim.Adam([point], lr=1e-3)
    for _ in range(30):
        optimizer.zero_grad()
        loss = sum(
            ((point - delta) @ delta.T).square().sum() / delta.square().sum() for delta in DELTAS
        )
        loss.backward()
        optimizer.step()
    assert_close(added(DELTAS, iter_num=30, lr=1e-3), point.detach(), rtol=1e-4, atol=2e-6)


def test_a_parent_that_changed_nothing_changes_nothing() -> None:
    idle = torch.zeros(8, 6)
    assert_close(added([*DELTAS, idle], iter_num=20), added(DELTAS, iter_num=20))


def test_relative_steps_follow_the_scale_of_the_changes() -> None:
    small = [1e-2 * delta for delta in DELTAS]
    settings: dict[str, Any] = {"iter_num": 20, "lr": 0.01, "relative_lr": True}
    assert_close(1e2 * added(small, **settings), added(DELTAS, **settings), rtol=1e-4, atol=1e-5)


def test_the_paper_leaves_the_rest_at_the_base() -> None:
    base = {"norm.weight": torch.ones(3)}
    parents = [{"norm.weight": torch.full((3,), 2.0)}]
    merged = merge_state_dicts("wudi", base, parents, {"compat": "paper"})
    assert torch.equal(merged["norm.weight"], base["norm.weight"])


# the minimum


def test_the_exact_solver_reaches_what_steps_only_approach() -> None:
    exact = added(DELTAS, solver="exact")
    near, nearer = (added(DELTAS, iter_num=n, lr=1e-3) for n in (200, 2000))
    assert interference(exact) < interference(near)
    assert_close(exact, nearer, rtol=1e-3, atol=1e-4)
    for direction in DELTAS:
        for step in (1e-2, -1e-2):
            assert interference(exact + step * direction) > interference(exact)


def test_where_changes_share_no_directions_the_minimum_is_their_sum() -> None:
    apart = [torch.zeros(8, 6) for _ in range(3)]
    for n, delta in enumerate(apart):
        delta[:, 2 * n : 2 * n + 2] = DELTAS[n][:, :2]
    assert_close(added(apart, solver="exact"), sum(apart))


def test_changes_that_are_all_alike_are_their_own_minimum() -> None:
    low = DELTAS[0][:, :2] @ DELTAS[1][:2]  # of rank 2: most directions are determined by nothing
    assert_close(added([low, low, low], solver="exact"), low)


def test_the_minimum_of_nothing_is_nothing() -> None:
    idle = torch.zeros(8, 6)
    assert torch.equal(added([idle, idle], solver="exact"), idle)
    assert_close(added([DELTAS[0], idle], solver="exact"), DELTAS[0])
