from __future__ import annotations

import pytest
import torch
from hypothesis import given
from torch import Tensor
from torch.testing import assert_close

from tests.workers.methods.making import EXAMPLES, merge, seeds, tensors


def kept(base: Tensor, parent: Tensor) -> Tensor:
    """By the definition: change times divergence, against a fence of Tukey."""
    p, q = (torch.softmax(x, -1) + 1e-8 for x in (parent, base))
    importance = (parent - base).abs() * (p * (p / q).log()).sum(-1, keepdim=True)
    ordered = importance.reshape(-1).sort().values
    low, median, high = (ordered[int(q * (len(ordered) - 1))] for q in (0.25, 0.5, 0.75))
    return importance >= median + 1.5 * (high - low)


@given(seed=seeds)
@EXAMPLES
def test_only_far_more_important_changes_than_most_are_kept(seed: int) -> None:
    base, parent = tensors(seed, 2, 9, 11)
    chosen = kept(base, parent)
    expected = torch.where(chosen, parent, base)
    assert 0 < int(chosen.sum()) < 33
    assert_close(merge("arcee_fusion", base, [parent]), expected)
    half = merge("arcee_fusion", base, [parent], **{"lambda": 0.5})
    assert_close(half, (base + expected) / 2)


def test_many_rows_are_looked_at_in_blocks() -> None:
    base, parent = tensors(0, 2, 1200, 1000, dtype=torch.float32)  # more than a million entries
    merged = merge("arcee_fusion", base, [parent])
    assert_close(merged, torch.where(kept(base, parent), parent, base))


@pytest.mark.parametrize("shape", [(), (1,), (5, 1)])
def test_where_no_change_stands_out_all_are_kept(shape: tuple[int, ...]) -> None:
    base, parent = torch.full(shape, 0.5), torch.full(shape, 2.0)
    assert_close(merge("arcee_fusion", base, [parent]), parent)


def test_nothing_changed_leaves_the_base() -> None:
    base = tensors(0, 1)[0]
    assert torch.equal(merge("arcee_fusion", base, [base]), base)
    zero = torch.zeros(3, 4)
    assert torch.equal(merge("arcee_fusion", zero, [zero]), zero)
