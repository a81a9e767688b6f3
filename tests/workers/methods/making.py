"""Models of one tensor, and a merge of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from workers import merge_state_dicts

EXAMPLES = settings(max_examples=25)
seeds = st.integers(0, 2**32)


def tensors(seed: int, count: int, *shape: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape or (7, 5), generator=generator, dtype=dtype) for _ in range(count)]


def merge(method: str, base: Tensor | None, parents: Sequence[Tensor], **parameters: Any) -> Tensor:
    return merge_state_dicts(
        method, None if base is None else {"w": base}, [{"w": p} for p in parents], parameters
    )["w"]


def unit(tensor: Tensor) -> Tensor:
    return tensor / tensor.norm()


def angle(one: Tensor, two: Tensor) -> float:
    return float(torch.acos((unit(one) * unit(two)).sum().clamp(-1, 1)))
