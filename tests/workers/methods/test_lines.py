"""LiNeS, as a method and around another one."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from search.method import LINES
from tests.workers.whole_models import State, plus, sources_of, state
from workers import merge_state_dicts
from workers.merging.merge_method import MergeMethod, methods
from workers.merging.whole_ties import whole_ties

BASE = state(0)
PARENTS = [plus(BASE, state(n + 1, scale=0.1)) for n in range(3)]


def merge(method: str, **settings: object) -> State:
    return merge_state_dicts(method, BASE, PARENTS, settings)


def test_it_is_task_arithmetic_scaled_by_depth() -> None:
    lines = merge("lines", alpha=0.2, beta=0.6)
    scaled = merge("task_arithmetic", weight=1.0, lines_alpha=0.2, lines_beta=0.6)
    for name in BASE:
        assert_close(lines[name], scaled[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("model.embed_tokens.weight", 0.2),
        ("model.layers.0.norm.weight", 0.2),
        ("model.layers.1.mlp.up_proj.weight", 0.8),
        ("model.norm.weight", 0.2),
        ("lm_head.weight", 0.2),
    ],
)
def test_the_factor_grows_over_layers_alone(name: str, factor: float) -> None:
    deltas = sum(parent[name] - BASE[name] for parent in PARENTS)
    merged = merge("lines", alpha=0.2, beta=0.6)[name]
    assert_close(merged, BASE[name] + factor * deltas, rtol=1e-5, atol=1e-6)


def test_the_balance_of_a_sum_is_that_of_a_mean() -> None:
    balanced = merge("lines", alpha=0.9, beta=0.1, balance=True)
    plain = merge("lines", alpha=0.3, beta=0.1)
    assert all(torch.equal(balanced[name], plain[name]) for name in BASE)


def test_balance_gives_what_ties_leaves_the_norm_of_the_mean() -> None:
    merged = merge("lines", compat="paper", beta=0.0, multi_task_vector="ties sum top-20%")
    added = sum(float((merged[name] - BASE[name]).abs().sum()) for name in BASE)
    mean = sum(
        float(sum(parent[name] - BASE[name] for parent in PARENTS).abs().sum()) / 3 for name in BASE
    )
    assert added == pytest.approx(mean, rel=1e-4)


def test_it_scales_what_ties_makes_of_the_whole_model() -> None:
    merged = merge("lines", alpha=0.5, beta=0.0, multi_task_vector="ties sum top-20%")
    sources = sources_of(BASE, {str(n): parent for n, parent in enumerate(PARENTS)})
    for name, tensor in sources.items():
        ties = whole_ties(tensor, [0.2] * len(tensor.parents)).merged(
            tensor.deltas().flatten(1), "sum"
        )
        assert_close(merged[name], BASE[name] + 0.5 * ties.view(BASE[name].shape))


def test_it_is_not_scaled_twice() -> None:
    names = {parameter.name for parameter in methods["lines"].declaration.parameters}
    assert names == {"alpha", "beta", "multi_task_vector", "balance"}


@pytest.mark.parametrize("method", [pytest.param(m, id=m.name) for m in methods])
def test_it_scales_what_any_method_adds_to_the_base(method: MergeMethod) -> None:
    if not method.declaration.uses_base or method.name == "lines":
        assert (LINES[0] in method.declaration.parameters) is False
        return
    parents = PARENTS[: method.declaration.maximum_parents]
    few = {"doge": {"steps": 2}, "wudi": {"iter_num": 2}}.get(method.name, {})
    plain = merge_state_dicts(method.name, BASE, parents, few)
    scaled = merge_state_dicts(
        method.name, BASE, parents, {**few, "lines_alpha": 0.2, "lines_beta": 0.9}
    )
    for name in BASE:
        factor = 1.1 if ".layers.1." in name else 0.2
        wanted = BASE[name] + factor * (plain[name] - BASE[name])
        assert_close(scaled[name], wanted, rtol=1e-5, atol=1e-6)
