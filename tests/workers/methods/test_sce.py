from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from tests.workers.methods.making import EXAMPLES, merge, seeds, tensors

ZERO = torch.zeros(4)
ONE = torch.tensor([1.0, 2.0, 0.0, 1.0])
TWO = torch.tensor([1.0, -4.0, 3.0, 2.0])


def test_parents_weigh_as_their_squares_and_minorities_are_erased() -> None:
    # Mean squares 6 / 4 and 30 / 4: shares 1/6 and 5/6.
    merged = merge("sce", ZERO, [ONE, TWO])
    assert_close(merged, torch.tensor([1.0, -4.0, 3.0, (1 + 5 * 2) / 6]))


def test_only_selected_entries_are_merged() -> None:
    # Variances 0, 9, 2.25, 0.25: three differ, of which two thirds are the second and third.
    merged = merge("sce", ZERO, [ONE, TWO], select_topk=0.67)
    assert_close(merged, torch.tensor([0.0, -4.0, 3.0, 0.0]))
    merged = merge("sce", ZERO, [ONE, TWO], select_topk=0.67, **{"lambda": 0.5})
    assert_close(merged, torch.tensor([0.0, -2.0, 1.5, 0.0]))


@pytest.mark.parametrize("how", [{"mask_deltas": False}, {"compat": "paper"}])
def test_or_the_selection_decides_on_weights_alone(how: dict[str, Any]) -> None:
    # Squares of the selected entries: 4 and 25.
    merged = merge("sce", ZERO, [ONE, TWO], select_topk=0.67, **how)
    assert_close(merged, torch.tensor([1.0, -4.0, 3.0, (4 + 25 * 2) / 29]))


def reference(deltas: Tensor, topk: float) -> Tensor:
    variance = deltas.var(0, unbiased=False)
    count = int(topk * int(variance.count_nonzero()))
    mask = torch.zeros_like(variance).reshape(-1)
    mask[variance.reshape(-1).argsort(descending=True)[:count]] = 1
    deltas = deltas * mask.reshape(variance.shape)
    weight = deltas.square().flatten(1).mean(1)
    weight = (weight / weight.sum()).reshape(-1, *[1] * variance.dim())
    agreeing = deltas.sign() == torch.where(deltas.sum(0) >= 0, 1, -1)
    divisor = (weight * agreeing).sum(0)
    return (weight * agreeing * deltas).sum(0) / divisor.masked_fill(divisor == 0, 1)


@given(seed=seeds, topk=st.floats(0.05, 0.99))
@EXAMPLES
def test_it_is_its_three_steps(seed: int, topk: float) -> None:
    base, *parents = tensors(seed, 4, 5, 4, 3)
    expected = base + reference(torch.stack(parents) - base, topk)
    assert_close(merge("sce", base, parents, select_topk=topk), expected)


def test_small_changes_have_weights_too_but_not_in_mergekit() -> None:
    base, one, two = ZERO, 1e-4 * ONE, 1e-4 * TWO
    shares = (1 + 5 * 2) / 6
    assert_close(merge("sce", base, [one, two])[3], torch.tensor(1e-4 * shares))
    assert_close(merge("sce", base, [one, two], compat="mergekit")[3], torch.tensor(1.5e-4))


def test_a_parent_of_tiny_weight_counts_where_it_is_alone() -> None:
    one, two = torch.tensor([1e-4, 0.0]), torch.tensor([0.0, 1.0])
    assert_close(merge("sce", torch.zeros(2), [one, two]), torch.tensor([1e-4, 1.0]))


def test_signs_that_cancel_elect_plus() -> None:
    base, one, two = (torch.tensor([x]) for x in (0.0, 1.0, -1.0))
    assert merge("sce", base, [one, two]).item() == 1.0


@pytest.mark.parametrize("topk", [0.5, 1.0])
def test_nothing_changed_leaves_the_base(topk: float) -> None:
    base = tensors(0, 1)[0]
    assert torch.equal(merge("sce", base, [base, base], select_topk=topk), base)


def test_where_nobody_differs_nothing_is_selected() -> None:
    base, parent = tensors(0, 2)
    for parents in ([parent], [parent, parent]):
        assert torch.equal(merge("sce", base, parents, select_topk=0.5), base)
        assert_close(merge("sce", base, parents, select_topk=1.0), parent)
    assert torch.equal(merge("sce", base, [parent, base], select_topk=0.0), base)


def test_of_equal_variances_as_many_as_asked_for_are_selected() -> None:
    merged = merge("sce", torch.zeros(10), [torch.ones(10), torch.zeros(10)], select_topk=0.35)
    assert merged.sum().item() == 3.0
