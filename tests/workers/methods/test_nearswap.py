from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from search.problems import Invalid
from tests.workers.methods.making import EXAMPLES, merge, seeds, tensors


@given(seed=seeds, t=st.floats(1e-3, 3.0))
@EXAMPLES
def test_it_is_the_weighting_by_distance(seed: int, t: float) -> None:
    base, parent = tensors(seed, 2)
    share = (t / (base - parent).abs().clamp(min=1e-6)).clamp(0, 1)
    assert_close(merge("nearswap", base, [parent], t=t), share * parent + (1 - share) * base)


def test_near_entries_are_swapped_and_far_ones_moved() -> None:
    base = torch.tensor([0.0, 1.0, 0.0, -1.0])
    parent = torch.tensor([0.25, 3.0, -2.0, -1.0])
    merged = merge("nearswap", base, [parent], t=0.5)
    assert torch.equal(merged, torch.tensor([0.25, 1.5, -0.5, -1.0]))


@given(seed=seeds, t=st.floats(0, 3.0))
@EXAMPLES
def test_no_entry_moves_further_than_t(seed: int, t: float) -> None:
    base, parent = tensors(seed, 2, dtype=torch.float32)
    merged = merge("nearswap", base, [parent], t=t)
    assert ((merged - base).abs() <= t * (1 + 1e-5) + 1e-6).all()
    near = (parent - base).abs() < t * (1 - 1e-5) - 1e-6
    assert torch.equal(merged[near], parent[near])


def test_the_ends_are_both_models_exactly() -> None:
    base, parent = tensors(0, 2, dtype=torch.float32)
    assert torch.equal(merge("nearswap", base, [parent], t=0.0), base)
    assert torch.equal(merge("nearswap", base, [parent], t=1e6), parent)


def test_it_takes_one_parent_and_a_base() -> None:
    base, *parents = tensors(0, 3)
    with pytest.raises(Invalid, match="exactly 1 parents, not 2"):
        merge("nearswap", base, parents)
    with pytest.raises(Invalid, match="needs a base model"):
        merge("nearswap", None, parents[:1])
    with pytest.raises(Invalid, match="must be at least 0"):
        merge("nearswap", base, parents[:1], t=-1.0)
