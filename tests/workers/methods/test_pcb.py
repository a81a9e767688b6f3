"""PCB-Merging, recomputed on the flattened model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.workers.whole_models import plus, state
from workers import merge_state_dicts


def normalized(rows: Tensor, low: int, high: int) -> Tensor:
    ordered = rows.sort(dim=1).values
    clamped = rows.clamp(ordered[:, low : low + 1], ordered[:, high : high + 1])
    least, most = clamped.amin(1, keepdim=True), clamped.amax(1, keepdim=True)
    return (clamped - least) / (most - least)


def expected(deltas: Tensor, ratio: float, variant: str, clamp: float, factor: float) -> Tensor:
    """As the programs of the paper go: (elements,) from (parents, elements)."""
    count, size = deltas.shape
    low, high = int(size * clamp), int(size * (1 - clamp) - 1)
    ordered = deltas.abs().sort(dim=1).values
    clamped = deltas.abs().clamp(ordered[:, low : low + 1], ordered[:, high : high + 1])
    magnitude = normalized(deltas.abs(), low, high)
    within = torch.exp(count * magnitude**2)
    if variant == "pcb-merging.py":
        between = torch.tanh(deltas * deltas.sum(0))
    elif variant == "pcb.py":
        between = torch.tanh(deltas * (deltas.sign() * magnitude).sum(0))
    else:
        signed = deltas.sign() * magnitude
        between = sum((torch.tanh(signed * other) for other in signed), torch.zeros(()))
    score = normalized(within * between, int(size * (1 - ratio)), size - 1)
    kept = factor * deltas.sign() * clamped * score
    return kept.sum(0) / score.sum(0).clamp_min(1e-12)


@pytest.mark.parametrize("ratio", [0.01, 0.2, 1.0])
@pytest.mark.parametrize(
    ("variant", "clamp"), [("pcb-merging.py", 1e-4), ("pcb_ES.py", 0.05), ("pcb.py", 0.01)]
)
def test_it_is_the_formula_of_the_whole_model(ratio: float, variant: str, clamp: float) -> None:
    base = state(0)
    parents = [plus(base, state(n + 1, scale=0.1)) for n in range(3)]
    settings: dict[str, Any] = {"pcb_ratio": ratio, "variant": variant, "clamp": clamp}
    merged = merge_state_dicts("pcb", base, parents, {**settings, "lambda": 0.9})

    def flat(model: dict[str, Tensor]) -> Tensor:
        return torch.cat([model[name].flatten() for name in sorted(model)])

    deltas = torch.stack([flat(parent) - flat(base) for parent in parents])
    wanted = flat(base) + expected(deltas, ratio, variant, clamp, 0.9)
    assert_close(flat(merged), wanted, rtol=1e-4, atol=1e-5)


def test_without_competition_nothing_is_added() -> None:
    # All magnitudes are equal: the programs of the paper divide 0 by 0.
    base = {"w": torch.zeros(8)}
    parent = {"w": torch.tensor([1.0, -1.0] * 4)}
    assert torch.equal(merge_state_dicts("pcb", base, [parent, parent])["w"], base["w"])


def test_hundreds_of_parents_do_not_overflow() -> None:
    base = state(0)
    parents = [plus(base, state(n + 1, scale=0.1)) for n in range(120)]
    merged = merge_state_dicts("pcb", base, parents)
    assert any(not torch.equal(merged[name], base[name]) for name in base)
