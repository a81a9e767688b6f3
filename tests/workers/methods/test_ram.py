from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tests.workers.methods.making import EXAMPLES, merge, seeds, tensors

BASE = torch.zeros(5)
ONE = torch.tensor([1.0, 2.0, 0.0, 0.1, 0.0])
TWO = torch.tensor([0.0, 4.0, -3.0, 0.1, 0.0])


def test_what_one_changes_is_kept_and_what_several_change_is_averaged() -> None:
    merged = merge("ram", BASE, [ONE, TWO], epsilon=0.5)
    assert_close(merged, torch.tensor([1.0, 3.0, -3.0, 0.0, 0.0]))
    merged = merge("ram", BASE, [ONE, TWO], epsilon=0.01, **{"lambda": 0.5})
    assert_close(merged, torch.tensor([0.5, 1.5, -1.5, 0.05, 0.0]))


@given(seed=seeds, epsilon=st.floats(0, 2))
@EXAMPLES
def test_it_is_the_mean_of_active_changes(seed: int, epsilon: float) -> None:
    base, *parents = tensors(seed, 4)
    deltas = torch.stack([p - base for p in parents])
    active = deltas.abs() > epsilon
    mean = (deltas * active).sum(0) / active.sum(0).clamp(min=1)
    assert_close(merge("ram", base, parents, epsilon=epsilon), base + mean)


def test_blocks_are_seamless() -> None:
    base, *parents = tensors(0, 3, 100_003, dtype=torch.float32)
    deltas = torch.stack([p - base for p in parents])
    active = deltas.abs() > 0.7
    mean = (deltas * active).sum(0) / active.sum(0).clamp(min=1)
    assert_close(merge("ram", base, parents, epsilon=0.7), base + mean)


def test_one_parent_shares_nothing() -> None:
    base, parent = tensors(0, 2)
    assert_close(merge("ram", base, [parent]), parent)
