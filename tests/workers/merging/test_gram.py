from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from workers.merging.gram import Vectors, cosines
from workers.merging.memo import Memo
from workers.merging.merge_method import NotMergeable, Sources


def sources(*shape: int, dtype: torch.dtype = torch.float32) -> Sources:
    generator = torch.Generator().manual_seed(0)
    base, *parents = (torch.randn(shape, generator=generator).to(dtype) for _ in range(4))
    return Sources("w", base, parents, ["one", "two", "three"])


def vectors(tensor: Tensor, which: Vectors) -> Tensor:
    """(v, length)."""
    if which == "tensor":
        return tensor.reshape(1, -1)
    if which == "last":
        return tensor.reshape(-1, tensor.shape[-1])
    return tensor.reshape(tensor.shape[0], -1).T


@pytest.mark.parametrize("around_base", [True, False])
@pytest.mark.parametrize("which", ["tensor", "last", "first"])
@pytest.mark.parametrize("shape", [(7, 5), (3, 4, 5), (2, 70_000), (70_000, 2)])
def test_norms_and_cosines_of_all_vectors(
    shape: tuple[int, ...], which: Vectors, around_base: bool
) -> None:
    here = sources(*shape)
    norms, cosine = cosines(here, which, around_base=around_base)
    base = here.base.double() if around_base else 0.0
    parents = torch.stack([vectors(p.double() - base, which) for p in here.parents])
    assert_close(norms, parents.norm(dim=-1))
    units = torch.nn.functional.normalize(parents, dim=-1)
    assert_close(cosine, torch.einsum("ivc,jvc->ijv", units, units))


def test_a_vector_of_zeros_has_no_direction() -> None:
    here = sources(2, 3)
    here.parents[0][1] = here.base[1]
    norms, cosine = cosines(here, "last", around_base=True)
    assert norms[0, 1] == 0.0
    assert (cosine[0, :, 1] == 0.0).all()
    assert cosine[0, 0, 0] == 1.0


def test_differences_in_bfloat16_lose_nothing() -> None:
    base = torch.full((1000,), 1.0, dtype=torch.bfloat16)
    parent = torch.full((1000,), 1.0078125, dtype=torch.bfloat16)  # the next number
    norms, _ = cosines(Sources("w", base, [parent], ["one"]), "tensor", around_base=True)
    assert norms.item() == math.sqrt(1000) * 0.0078125


def test_they_are_found_once() -> None:
    here = sources(4, 4)
    memo = Memo()
    here = Sources("w", here.base, here.parents, here.labels, memo=memo)
    found = cosines(here, "tensor", around_base=True)
    assert cosines(here, "tensor", around_base=True) is found
    assert cosines(here, "tensor", around_base=False) is not found


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    here = sources(4, 4)
    here.parents[1][2, 2] = value
    with pytest.raises(NotMergeable, match="'w' is not finite in one of the models"):
        cosines(here, "tensor", around_base=True)
