"""OPCM against the recursion of its paper, and its order."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.workers.whole_models import State, plus, state
from workers import merge_state_dicts

BASE = state(0)
DELTAS = [state(n + 1, scale=0.1 + 0.05 * n) for n in range(3)]
PARENTS = [plus(BASE, delta) for delta in DELTAS]


def norm(model: State) -> float:
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in model.values()))


def projected(delta: Tensor, merged: Tensor, alpha: float) -> Tensor:
    """The projection with full bases, as written."""
    u, s, vh = torch.linalg.svd(merged, full_matrices=True)
    closed = int(((s.cumsum(0) / s.sum()) > alpha).float().argmax())
    inside = u.T @ delta @ vh.T
    inside.fill_diagonal_(0.0)
    inside[:closed, :closed] = 0.0
    return u @ inside @ vh


def is_linear(name: str) -> bool:
    return name.endswith(("proj.weight", "lm_head.weight"))


def recursion(deltas: list[State], alpha: float) -> State:
    """The algorithm with the running norm of the whole model."""
    merged, factor = deltas[0], 1.0
    norms = [norm(deltas[0])]
    for delta in deltas[1:]:
        norms.append(norm(delta))
        mean = sum(norms) / len(norms)
        total = {
            name: factor * tensor
            + (projected(delta[name], tensor, alpha) if is_linear(name) else delta[name])
            for name, tensor in merged.items()
        }
        factor = norm(total) / mean
        merged = {name: tensor / factor for name, tensor in total.items()}
    return merged


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_it_is_the_recursion_of_the_paper(alpha: float, order: list[int]) -> None:
    merged = merge_state_dicts("opcm", BASE, PARENTS, {"alpha": alpha, "order": order})
    wanted = recursion([DELTAS[place] for place in order], alpha)
    for name, tensor in merged.items():
        assert_close(tensor - BASE[name], wanted[name], rtol=1e-4, atol=1e-5)


def test_the_merged_change_has_the_mean_norm() -> None:
    merged = merge_state_dicts("opcm", BASE, PARENTS)
    change = {name: merged[name] - BASE[name] for name in BASE}
    assert norm(change) == pytest.approx(sum(map(norm, DELTAS)) / 3, rel=1e-4)


def test_any_numbers_order_parents_by_rank() -> None:
    ranks = merge_state_dicts("opcm", BASE, PARENTS, {"order": [0.9, -3.0, 0.5]})
    places = merge_state_dicts("opcm", BASE, PARENTS, {"order": [2, 0, 1]})
    assert all(torch.equal(ranks[name], places[name]) for name in BASE)


def test_the_head_can_be_summed() -> None:
    options = {"alpha": 0.9, "lambda": 1.0}
    one = merge_state_dicts("opcm", BASE, PARENTS, options)
    other = merge_state_dicts("opcm", BASE, PARENTS, options | {"head": False})
    change = other["lm_head.weight"] - BASE["lm_head.weight"]
    total = sum(delta["lm_head.weight"] for delta in DELTAS)
    assert float(torch.cosine_similarity(change.flatten(), total.flatten(), 0)) > 0.9999
    assert not torch.allclose(one["lm_head.weight"], other["lm_head.weight"])


def test_changes_of_low_rank_leave_other_directions_alone() -> None:
    # Of the second change only what meets the first one's single pair of directions is closed.
    zero = {"up_proj.weight": torch.zeros(4, 4)}
    first, second = (torch.zeros(4, 4) for _ in range(2))
    first[0, 0] = 1.0
    second[0, 0], second[1, 1], second[0, 1] = 5.0, 2.0, 3.0
    parents = [{"up_proj.weight": matrix} for matrix in (first, second)]
    merged = merge_state_dicts("opcm", zero, parents)["up_proj.weight"]
    assert_close(
        merged / merged[0, 0], torch.tensor([[1.0, 3, 0, 0], [0, 2, 0, 0], [0] * 4, [0] * 4])
    )


def test_changes_that_cancel_leave_the_base() -> None:
    base = {"norm.weight": torch.ones(3)}
    parents = [{"norm.weight": torch.ones(3) + sign} for sign in (1.0, -1.0)]
    assert torch.equal(merge_state_dicts("opcm", base, parents)["norm.weight"], torch.ones(3))
