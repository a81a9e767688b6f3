"""What the weights of a merge tell of it, without asking it anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from evals import weight_metrics
from evals.suite import Suite
from search.outcome import Score, Scores
from workers.materializer import Materializer


@dataclass(frozen=True, slots=True)
class Change:
    """How a merge differs from the base, over all merged weights.

    Args:
        weights: how many there are.
        same: how many of them are the base's.
        squared, base_squared: sums of squares of the differences, and of the base.
    """

    weights: int
    same: int
    squared: float
    base_squared: float


# By metric, in its own sign.
_VALUES: Mapping[str, Callable[[Change], float]] = {
    "delta_norm": lambda change: math.sqrt(change.squared / max(change.base_squared, 1e-300)),
    "sparsity": lambda change: change.same / change.weights,
}


def weigh(materializer: Materializer, suite: Suite) -> Scores:
    """Scores of the resident model on those objectives of a suite that its weights decide."""
    wanted = [one for one in suite.objectives if one.task == weight_metrics.TASK]
    if not wanted:
        return {}
    change = changed(materializer)
    scores = {}
    for objective in wanted:
        value = _VALUES[objective.metric](change)
        inside = value if weight_metrics.METRICS[objective.metric] else 0.0 - value
        only = np.array([inside], dtype=np.float32)
        scores[objective.key] = Score(inside, 0.0, 1, only, suite.split)
    return scores


@torch.no_grad()
def changed(materializer: Materializer) -> Change:
    """Sums in float64 over the resident model, beside the base in the dtype of the merge."""
    weights = same = 0
    squared = base_squared = 0.0
    for merged, stored in materializer.beside_base():
        base = stored.to(merged.dtype)
        weights += merged.numel()
        same += int((merged == base).sum())
        wide = torch.promote_types(merged.dtype, torch.float32)
        squared += _squared(merged.to(wide) - base.to(wide))
        base_squared += _squared(base)
    return Change(weights, same, squared, base_squared)


def _squared(tensor: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2
