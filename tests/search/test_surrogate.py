"""The quadratic surrogate against MAP's own fit and against calculations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from search.surrogate import (
    Shape,
    fit,
    left_out_error,
    left_out_r2,
    link_for,
    shapes_for,
)

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


def quadratic(genomes: np.ndarray) -> np.ndarray:
    a, b, c = genomes.T
    return np.asarray(0.3 - 0.5 * a + 0.8 * b * c - 0.4 * c * c)


def points(count: int, dim: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, dim))


def test_a_quadratic_is_learnt_exactly() -> None:
    known, new = points(20), points(50, seed=1)
    metric = 2.0 + quadratic(known)
    surrogate = fit(known, metric, link_for(metric, 100), [everything(3)])
    np.testing.assert_allclose(surrogate(new), 2.0 + quadratic(new), atol=1e-4)


def test_the_sigmoid_of_a_quadratic_is_learnt_exactly() -> None:
    known, new = points(20), points(50, seed=1)
    metric = 1 / (1 + np.exp(-quadratic(known)))
    surrogate = fit(known, metric, link_for(metric, 10**9), [everything(3)])
    np.testing.assert_allclose(surrogate(new), 1 / (1 + np.exp(-quadratic(new))), atol=1e-4)


@pytest.mark.parametrize(
    "metric",
    [
        np.array([0.0, 0.25, 1.0, 0.5]),
        np.array([-7.0, -0.3, -1e-6, -2.5]),
        np.array([-3.0, 4.0, 0.5, 12.0]),
    ],
)
def test_a_link_leads_to_the_line_and_back(metric: np.ndarray) -> None:
    link = link_for(metric, 1000)
    line = link.to_line(metric)
    assert np.isfinite(line).all()
    assert (np.argsort(line) == np.argsort(metric)).all() or metric.max() < 0
    assert (link.precision(metric) > 0).all()
    # Half an example of a thousand is the logit's clip.
    np.testing.assert_allclose(link.to_metric(line), metric, atol=5.1e-4)


def test_a_link_keeps_predictions_where_the_metric_is() -> None:
    far = np.array([-1e3, 0.0, 1e3])
    assert link_for(np.array([0.2, 0.3]), 10).to_metric(far).tolist() == [0.0, 0.5, 1.0]
    assert (link_for(np.array([-0.2, -0.3]), 10).to_metric(far) <= 0.0).all()


def test_a_share_of_the_model_itself_is_taken_as_it_is() -> None:
    """There is no half an example that it could be clipped by."""
    shares = np.array([0.0, 0.01, 0.99])
    link = link_for(shares, 1)
    assert link.to_line(shares).tolist() == link.to_metric(shares).tolist() == shares.tolist()
    assert not link.is_proportion


def test_one_observation_predicts_itself_everywhere() -> None:
    surrogate = fit(points(1), np.array([0.3]), link_for(np.array([0.3]), 50), [everything(3)])
    np.testing.assert_allclose(surrogate(points(5, seed=2)), 0.3)


def test_more_coefficients_than_observations_stay_finite() -> None:
    known = points(30, dim=60)
    metric = known.mean(axis=1)
    shapes = shapes_for([list(range(i, 60, 3)) for i in range(3)], 30)
    predicted = fit(known, metric, link_for(metric, 100), shapes)(points(200, dim=60, seed=3))
    assert ((predicted > 0) & (predicted < 1)).all()


@pytest.mark.parametrize(
    ("groups", "count", "features"),
    [
        ([[0], [1], [2]], 9, [6]),  # one coefficient short of a full quadratic, and no groups
        ([[0], [1], [2]], 10, [6, 9]),
        ([[0, 1], [2, 3]], 14, [8, 11]),  # products and squares of the means of two groups
        ([[0, 1], [2, 3]], 15, [8, 14]),
        ([list(range(0, 200, 2)), list(range(1, 200, 2))], 10_000, [400, 403]),
    ],
)
def test_shapes_grow_with_what_is_known(
    groups: list[list[int]], count: int, features: list[int]
) -> None:
    dim = sum(len(group) for group in groups)
    shapes = shapes_for(groups, count)
    assert [shape.features(np.zeros((1, dim))).shape[1] for shape in shapes] == features


def test_products_are_fitted_only_where_they_predict() -> None:
    known = points(40)
    additive, products = shapes_for([[0], [1], [2]], 40)
    assert (
        fit(
            known, quadratic(known) - 5, link_for(np.array([-5.0, 5.0]), 9), (additive, products)
        ).shape
        is products
    )
    noise = np.random.default_rng(2).standard_normal(40)
    chosen = fit(known, noise, link_for(noise, 9), (additive, products))
    assert np.abs(chosen(known)).max() < np.abs(noise).max()


def test_what_is_left_out_is_predicted_from_the_others() -> None:
    """Against fits that really leave each observation out.

    With 60 of a quadratic and noise of 0.05 they choose other ridges, which hardly matters.
    """
    known = points(60)
    metric = 5.0 + quadratic(known) + 0.05 * np.random.default_rng(3).standard_normal(60)
    link, shape = link_for(metric, 10), everything(3)
    whole = fit(known, metric, link, [shape])
    for i in range(60):
        rest = np.arange(60) != i
        alone = fit(known[rest], metric[rest], link, [shape])
        assert whole.left_out[i] == pytest.approx(float(alone(known[[i]])[0]), abs=0.015)
    assert left_out_r2(metric, whole.left_out) > 0.9


def test_error_and_r2_are_in_the_units_of_the_metric() -> None:
    metric, left_out = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.5, 1.5, 3.5, 3.5])
    assert left_out_error(metric, left_out) == pytest.approx(0.5)
    # Errors of a quarter against a variance of 5 / 4.
    assert left_out_r2(metric, left_out) == pytest.approx(0.8)
    assert np.isnan(left_out_r2(np.ones(3), np.ones(3)))
