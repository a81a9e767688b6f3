"""TIES over the whole model, where its vote ties."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.workers.whole_models import sources_of
from workers.merging.whole_ties import MergeFunc, add_whole_ties, whole_ties


def ties(
    deltas: list[list[float]],
    density: float,
    merge_func: MergeFunc,
    weight: list[float] | None = None,
) -> Tensor:
    base = {"w": torch.zeros(len(deltas[0]))}
    parents = {str(n): {"w": torch.tensor(delta)} for n, delta in enumerate(deltas)}
    out = torch.empty_like(base["w"])
    sources = sources_of(base, parents)["w"]
    add_whole_ties(
        out,
        sources,
        weight=weight or [1.0] * len(deltas),
        density=[density] * len(deltas),
        merge_func=merge_func,
        scaling=2.0,
    )
    return out


def test_entries_that_reach_the_threshold_survive() -> None:
    # k = 5 - floor(0.4 * 5) = 3: the third smallest is 2, and both entries of 2 reach it.
    assert ties([[1.0, -2.0, 2.0, 0.5, 4.0]], 0.4, "sum").tolist() == [0.0, -4.0, 4.0, 0.0, 8.0]


@pytest.mark.parametrize(("merge_func", "expected"), [("mean", 6.0), ("sum", 12.0), ("max", 8.0)])
def test_kept_entries_of_the_elected_sign_are_merged(
    merge_func: MergeFunc, expected: float
) -> None:
    # 4 and 2 outvote -3; scaled by 2
    assert ties([[4.0], [2.0], [-3.0]], 1.0, merge_func).item() == expected


@pytest.mark.parametrize(("majority", "expected"), [(1.0, 2.0), (-1.0, -2.0)])
def test_an_exact_tie_takes_the_sign_of_most_entries(majority: float, expected: float) -> None:
    merged = ties([[1.0, majority], [-1.0, majority]], 1.0, "mean")
    assert_close(merged, torch.tensor([expected, 2 * majority]))


def test_without_any_majority_minus_is_kept() -> None:
    assert ties([[1.0], [-1.0]], 1.0, "mean").item() == -2.0


def test_the_whole_model_is_looked_at_once() -> None:
    base, parent = {"w": torch.zeros(3)}, {"w": torch.arange(3.0)}
    sources = sources_of(base, {"one": parent})["w"]
    assert whole_ties(sources, [0.5]) is whole_ties(sources, [0.5])


@pytest.mark.parametrize(("merge_func", "expected"), [("mean", 3.5), ("sum", 3.5), ("max", 3.0)])
def test_weights_count_after_the_vote(merge_func: MergeFunc, expected: float) -> None:
    # 4 and 2 outvote -5 whatever their weights: 0.75 * 4 + 0.25 * 2, by weights that sum to 1
    merged = ties([[4.0], [2.0], [-5.0]], 1.0, merge_func, weight=[0.75, 0.25, 9.0])
    assert merged.item() == 2 * expected
