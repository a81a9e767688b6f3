from __future__ import annotations

import torch
from torch.testing import assert_close

from tests.workers.methods.making import merge, tensors
from workers import merge_state_dicts

BASE = torch.zeros(5)
ONE = torch.tensor([1.0, 2.0, 0.0, 0.1, 0.0])
TWO = torch.tensor([0.0, 4.0, -3.0, 0.1, 0.0])


def test_unique_changes_grow_with_the_overlap() -> None:
    # Each parent has one unique and one shared change: overlap 1, more than alpha.
    merged = merge("ramplus", BASE, [ONE, TWO], epsilon=0.5, r=0.1, alpha=0.2)
    assert_close(merged, torch.tensor([1.02, 3.0, -3.06, 0.0, 0.0]))
    merged = merge("ramplus", BASE, [ONE, TWO], epsilon=0.5, r=0.1, alpha=2.0)
    assert_close(merged, torch.tensor([1.1, 3.0, -3.3, 0.0, 0.0]))


def test_without_overlap_or_gain_it_is_ram() -> None:
    base, *parents = tensors(0, 4)
    plain = merge("ram", base, parents, epsilon=0.8)
    assert_close(merge("ramplus", base, parents, epsilon=0.8, r=0.0), plain)
    assert_close(merge("ramplus", base, parents, epsilon=0.8, alpha=0.0), plain)
    assert_close(
        merge("ramplus", BASE, [ONE * (TWO == 0), TWO * (ONE == 0)]),
        merge("ram", BASE, [ONE * (TWO == 0), TWO * (ONE == 0)]),
    )


def test_a_parent_without_unique_changes_has_nothing_to_turn_up() -> None:
    merged = merge("ramplus", BASE, [ONE, ONE], epsilon=0.5)
    assert_close(merged, torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0]))
    assert torch.equal(merge("ramplus", BASE, [BASE, BASE]), BASE)


def test_the_overlap_may_be_counted_over_the_whole_model() -> None:
    base = {"a": torch.zeros(2), "b": torch.zeros(3)}
    one = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([1.0, 1.0, 1.0])}
    two = {"a": torch.tensor([0.0, 0.0]), "b": torch.tensor([0.0, 0.0, 1.0])}
    values = {"epsilon": 0.5, "r": 1.0, "alpha": 9.0}
    by_tensor = merge_state_dicts("ramplus", base, [one, two], values)
    assert_close(by_tensor["a"], torch.tensor([1.0, 0.0]))  # 0 shared
    assert_close(by_tensor["b"], torch.tensor([1.5, 1.5, 1.0]))  # 1 shared, 2 unique
    for scope in ({"scope": "model"}, {"compat": "paper"}):
        by_model = merge_state_dicts("ramplus", base, [one, two], {**values, **scope})
        assert_close(by_model["a"], torch.tensor([4 / 3, 0.0]))  # 1 shared, 3 unique
        assert_close(by_model["b"], torch.tensor([4 / 3, 4 / 3, 1.0]))


def test_one_parent_shares_nothing() -> None:
    base, parent = tensors(0, 2)
    assert_close(merge("ramplus", base, [parent]), parent)
