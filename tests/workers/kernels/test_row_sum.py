from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from workers.kernels.row_sum import Axis, as_rows, weighted_vectors


@pytest.mark.parametrize("axis", ["last", "first"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(), (6,), (4, 6), (3, 4, 5), (300, 1000), (0, 3), (3, 0)])
def test_every_vector_has_its_coefficients(
    shape: tuple[int, ...], dtype: torch.dtype, axis: Axis
) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator).to(dtype) for _ in range(3)]
    rows, columns = as_rows(tensors[0], axis).shape
    count = rows if axis == "last" else columns
    factors = [torch.randn(count, generator=generator, dtype=torch.float64) for _ in tensors]
    out = torch.empty(shape, dtype=dtype)
    weighted_vectors(out, tensors, factors, axis)
    expected = torch.zeros(rows, columns, dtype=torch.float64)
    for tensor, factor in zip(tensors, factors, strict=True):
        by = factor[:, None] if axis == "last" else factor
        expected += as_rows(tensor, axis).double() * by
    assert_close(out, expected.reshape(shape).to(dtype))


def test_a_vector_is_one_row_or_one_column() -> None:
    assert as_rows(torch.ones(4), "last").shape == (1, 4)
    assert as_rows(torch.ones(4), "first").shape == (4, 1)
    assert as_rows(torch.ones(2, 3, 4), "last").shape == (6, 4)
    assert as_rows(torch.ones(2, 3, 4), "first").shape == (2, 12)
