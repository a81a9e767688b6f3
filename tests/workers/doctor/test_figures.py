from __future__ import annotations

import math

import pytest
import torch

from workers.doctor.figures import Figures, compare


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_figures_of_large_tensors_equal_those_in_double_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    base = torch.randn(2100, 2100).to(dtype)  # more than one chunk
    model = (base.float() + 0.1 * torch.randn(2100, 2100)).to(dtype)
    found = compare(base, model)
    one, two = base.double().flatten(), model.double().flatten()
    assert found.delta_ratio == pytest.approx(float((two - one).norm() / one.norm()), rel=1e-5)
    assert found.norm_ratio == pytest.approx(float(two.norm() / one.norm()), rel=1e-5)
    assert found.cosine == pytest.approx(float(torch.cosine_similarity(one, two, dim=0)), rel=1e-5)
    assert (found.size, found.equal) == (base.numel(), 0)


def test_equal_tensors_are_counted_as_such() -> None:
    tensor = torch.randn(5, 3)
    found = compare(tensor, tensor.clone())
    assert (found.delta, found.cosine, found.equal) == (0.0, 1.0, 15)


def test_a_change_too_small_to_square_is_still_a_change() -> None:
    base = torch.zeros(4)
    found = compare(base, base + 1e-30)
    assert found.equal == 0


def test_of_nothing_there_is_no_ratio() -> None:
    found = compare(torch.zeros(3), torch.ones(3))
    assert math.isnan(found.delta_ratio)
    assert math.isnan(found.cosine)
    assert math.isnan(Figures().norm_ratio)
