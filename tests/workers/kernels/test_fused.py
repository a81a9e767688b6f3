"""A compiled loop computes what the tensor expressions compute, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers import merge_state_dicts
from workers.kernels import fused
from workers.merging.merge_method import methods

# Larger than what is left to tensor expressions, and no multiple of anything.
SHAPE = (701, 307)

CASES: list[tuple[str, dict[str, Any]]] = [
    ("linear", {"weight": [0.5, 0.3, 0.4]}),
    ("linear", {"weight": [0.5, 0.0, -0.4], "normalize": False}),
    ("task_arithmetic", {"weight": [0.3, 0.2, 0.7], "lines_alpha": 0.3}),
    ("ties", {"density": [0.2, 0.5, 1.0], "weight": [0.5, 0.3, 0.4]}),
    ("ties", {"density": 0.3, "rescale": "l1", "normalize": False, "weight": [0.3, -0.2, 0.7]}),
    ("dare_linear", {"density": [0.3, 0.5, 0.01], "normalize": True}),
    ("dare_ties", {"density": [0.3, 0.9, 1.0], "normalize": True}),
    ("dare_ties", {"density": 0.1, "compat": "mergekit"}),
    ("della", {"density": 0.4, "epsilon": [0.1, 0.0, 0.3]}),
    ("della_linear", {"density": 0.4, "compat": "mergekit"}),
    ("breadcrumbs", {"density": 0.6, "gamma": 0.05}),
    ("breadcrumbs_ties", {"density": 0.6, "gamma": [0.05, 0.0, 0.1], "normalize": True}),
    ("nearswap", {"t": 1e-3}),
]


def models(dtype: torch.dtype) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(SHAPE, generator=generator) * 0.02
    deltas = (torch.randn(SHAPE, generator=generator) * 0.002 for _ in range(3))
    return [{"w": base.to(dtype)}, *({"w": (base + delta).to(dtype)} for delta in deltas)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("method", "parameters"), CASES)
def test_a_loop_equals_the_expressions(
    method: str, parameters: dict[str, Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, *parents = models(dtype)
    parents = parents[: methods[method].declaration.maximum_parents]
    assert fused.fits(fused.linear(3), base["w"], [parent["w"] for parent in parents])
    compiled = merge_state_dicts(method, base, parents, parameters, seed=3)["w"]
    monkeypatch.setattr(fused, "fits", lambda *_: False)
    expressions = merge_state_dicts(method, base, parents, parameters, seed=3)["w"]
    assert torch.equal(compiled, expressions)
    assert not torch.equal(compiled, base["w"])


@pytest.mark.parametrize(("method", "parameters"), [CASES[0], CASES[3], CASES[6], CASES[8]])
def test_any_number_of_threads_gives_the_same(method: str, parameters: dict[str, Any]) -> None:
    base, *parents = models(torch.bfloat16)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(merge_state_dicts(method, base, parents, parameters)["w"])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0], result) for result in results[1:])


def test_what_no_loop_reads_is_left_to_expressions() -> None:
    large, loop = torch.zeros(SHAPE), fused.linear(1)
    assert fused.fits(loop, large, [large]), "control"
    assert not fused.fits(loop, large.half(), [large])
    assert not fused.fits(loop, large, [large.double()])
    assert not fused.fits(loop, large, [large.t()])


def test_a_loop_is_compiled_for_a_large_tensor_and_then_serves_all() -> None:
    def shift(_first: int, out: NDArray[np.float32], x: NDArray[np.float32]) -> int:
        out[:] = x + 1
        return 0

    large, loop = torch.zeros(SHAPE), fused.Loop(lambda: shift)
    small = large.view(-1)[:3].clone()
    assert fused.fits(loop, large, [large])
    assert not fused.fits(loop, small, [small])
    fused.run(loop, [small, small.clone()], [])
    assert small.tolist() == [1, 1, 1]
    assert fused.fits(loop, small, [small])
