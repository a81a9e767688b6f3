"""Consensus merging: which entries are agreed on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from workers import merge_state_dicts

DELTAS = [
    # alone, two agree, two cancel, all agree, nobody
    [3.0, 2.0, 2.0, 1.0, 0.0],
    [0.0, 2.0, -2.0, 1.0, 0.0],
    [0.0, 0.0, 0.0, 1.0, 0.0],
]


def merge(**settings: Any) -> list[float]:
    parents = [{"w": torch.tensor(delta)} for delta in DELTAS]
    settings = {"lambda": 0.4, "scaling": 1.0, **settings}
    merged: Tensor = merge_state_dicts("consensus", {"w": torch.zeros(5)}, parents, settings)["w"]
    return merged.tolist()


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (0, [3.0, 4.0, 0.0, 3.0, 0.0]),
        (1, [3.0, 4.0, 0.0, 3.0, 0.0]),
        (2, [0.0, 4.0, 0.0, 3.0, 0.0]),
        (3, [0.0, 0.0, 0.0, 3.0, 0.0]),
        (4, [0.0, 0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_an_entry_stays_that_serves_at_least_k_parents(k: int, expected: list[float]) -> None:
    assert merge(k=k) == expected


def test_each_parent_has_a_limit_of_its_own() -> None:
    # 1 > lambda * (3 - 1) holds for lambda below 0.5, strictly.
    assert merge(k=3, **{"lambda": [0.4, 0.4, 0.49]})[3] == 3.0
    assert merge(k=3, **{"lambda": [0.4, 0.4, 0.5]})[3] == 0.0


def test_what_is_kept_is_scaled() -> None:
    assert_close(torch.tensor(merge(scaling=0.4)), 0.4 * torch.tensor(merge()))
