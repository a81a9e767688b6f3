"""Order statistics of more values than are looked at together."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.whole_models import MATRIX, plus, sources_of, state
from workers.merging.merge_method import NotMergeable
from workers.merging.whole_model import (
    blocks,
    by_element,
    finite_deltas,
    largest_mask,
    order_statistics,
    thresholds,
)

numbers = st.floats(width=32, allow_nan=False)


@given(values=st.lists(numbers, min_size=1, max_size=30), data=st.data())
@settings(max_examples=100)
def test_a_place_is_that_of_a_sort(values: list[float], data: st.DataObject) -> None:
    row = torch.tensor([values, [-value for value in values]])
    places = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=3))
    cut = data.draw(st.integers(0, len(values)))
    for dtype in (torch.float32, torch.float64):
        parts = [row[:, :cut].to(dtype), row[:, cut:].to(dtype)]
        found = order_statistics(lambda parts=parts: parts, [places, places], dtype=dtype)
        assert found == row.to(dtype).sort().values[:, places].tolist()


def test_doubles_are_told_apart_to_the_last_bit() -> None:
    values = torch.tensor([[1.0, math.nextafter(1.0, 2.0), -1.0, 1e-300]], dtype=torch.float64)
    found = order_statistics(lambda: [values], [[0, 1, 2, 3]], dtype=torch.float64)
    assert found == [[-1.0, 1e-300, 1.0, math.nextafter(1.0, 2.0)]]


@given(
    values=st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30),
    count=st.integers(1, 30),
)
@settings(max_examples=100)
def test_of_equal_values_the_first_are_larger(values: list[float], count: int) -> None:
    order = sorted(range(len(values)), key=lambda i: -values[i])[:count]
    mask = largest_mask(torch.tensor(values), count)
    assert mask.nonzero().flatten().tolist() == sorted(order)


def test_a_threshold_is_that_of_the_whole_model() -> None:
    base = state(0)
    delta = state(1)
    sources = sources_of(base, {"one": plus(base, delta), "two": base})
    flat = torch.cat([(base[n] + delta[n] - base[n]).flatten() for n in sorted(base)]).abs()
    kept, none = thresholds(sources[MATRIX], 0.2)
    assert int((flat >= kept).sum()) == int(0.2 * flat.numel()) + 1
    assert none == 0.0
    assert thresholds(sources[MATRIX], 1.0) == (0.0, 0.0)


def test_a_large_tensor_is_looked_at_in_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    base = {"w": torch.zeros(1_500_000)}
    parent = {"w": torch.randn(1_500_000, generator=generator)}
    (sources,) = sources_of(base, {"one": parent}).values()
    parts = list(blocks([sources]))
    assert [part.start for part in parts] == [0, 1 << 20]
    assert torch.equal(torch.cat([part.parents[0] for part in parts]), parent["w"])
    (doubled,) = by_element(sources, 1, lambda deltas: 2 * deltas)
    assert torch.equal(doubled, 2 * parent["w"])
    (threshold,) = thresholds(sources, 0.1)
    assert threshold == parent["w"].abs().kthvalue(1_350_000).values.item()


def test_a_model_that_is_not_finite_is_named() -> None:
    base = state(0)
    broken = state(1)
    broken[MATRIX][1, 2] = math.nan
    sources = sources_of(base, {"good": state(2), "bad": broken})
    with pytest.raises(NotMergeable, match=f"'{MATRIX}' of parent 'bad'"):
        finite_deltas(sources[MATRIX])
