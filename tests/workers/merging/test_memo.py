"""What is kept between candidates, within its budget."""

from __future__ import annotations

import numpy as np
import torch

from workers.merging.memo import Memo, nbytes


def test_a_result_is_computed_once() -> None:
    calls: list[int] = []
    memo = Memo(10_000)
    for _ in range(3):
        assert memo.get("key", lambda: calls.append(1) or len(calls)) == 1
    assert memo.get("other", lambda: 5) == 5


def test_what_was_not_used_for_longest_makes_room() -> None:
    memo = Memo(10_000)

    def tensor() -> torch.Tensor:
        return torch.zeros(1000)  # 4,000 bytes

    first, second = memo.get(1, tensor), memo.get(2, tensor)
    assert memo.get(1, tensor) is first
    memo.get(3, tensor)
    assert memo.get(1, tensor) is first
    assert memo.get(2, tensor) is not second
    assert memo.size <= memo.budget


def test_what_never_fits_is_computed_again() -> None:
    memo = Memo(100)
    first = memo.get(1, lambda: torch.zeros(1000))
    assert memo.get(1, lambda: torch.zeros(1000)) is not first
    assert memo.size == 0


def test_sizes_are_those_of_tensors_and_arrays() -> None:
    assert nbytes(torch.zeros(10, dtype=torch.bfloat16)) == 20
    assert nbytes((np.zeros(10), [torch.zeros(2)], {"a": torch.zeros(1)})) == 92
