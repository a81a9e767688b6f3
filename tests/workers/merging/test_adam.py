"""Adam, as torch has it."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from workers.merging.adam import adam


def test_steps_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    start, target = torch.randn((2, 6, 4), generator=generator)
    theirs = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([theirs], lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        ((theirs - target) ** 2).sum().backward()
        optimizer.step()
    before = start.clone()
    ours = adam(start, lambda point: 2 * (point - target), steps=50, lr=0.01)
    assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-6)
    assert torch.equal(start, before)


def test_no_step_is_the_start_and_no_slope_stays_there() -> None:
    start = torch.ones(3)
    assert torch.equal(adam(start, torch.zeros_like, steps=0, lr=0.1), start)
    assert torch.equal(adam(start, torch.zeros_like, steps=10, lr=0.1), start)
