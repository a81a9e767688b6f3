"""The quadratic surrogate against MAP's own fit and against calculations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from search.surrogate import Shape, fit, link_for, shapes_for

ORACLES = Path(__file__).parents[1] / "oracles"


def everything(dim: int) -> Shape:
    return Shape(tuple((i,) for i in range(dim)))


def test_predictions_agree_with_the_authors_fit() -> None:
    """MAP fits the sigmoid of a quadratic by Levenberg-Marquardt; see tests/oracles."""
    given = load_file(ORACLES / "inputs" / "dc25d358d6b4.safetensors")
    expected = load_file(ORACLES / "expected" / "map_quadratic_surrogate.safetensors")["pred"]
    metric = given["metric_noisy"]
    surrogate = fit(given["C"], metric, link_for(metric, 10**9), [everything(3)])
    np.testing.assert_allclose(surrogate(given["C"]), expected, rtol=0.01, atol=1e-3)
