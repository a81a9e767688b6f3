"""What is known of a function is what Gaussian conditioning says of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from search import gaussian_process
from search.gaussian_process import Hyperparameters, condition, learn

GROUPS = np.array([0, 1, 1])
OTHERS = np.log([0.9, 0.6, 0.4, 0.3, 0.2, 0.5])
HYPERPARAMETERS = Hyperparameters(GROUPS, np.concatenate((np.log([0.5, 0.8]), OTHERS)))


def points(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3))


def covariance(a: np.ndarray, b: np.ndarray) -> float:
    """Written out for two points."""
    smooth, linear, quadratic, rough, reach, _ = np.exp(OTHERS)
    squares = (a - b) ** 2
    scaled = squares[0] / 0.5**2 + squares[1:].mean() / 0.8**2
    product = 4.0 * (a - 0.5) @ (b - 0.5) / 3
    return float(
        smooth**2 * np.exp(-0.5 * scaled)
        + linear**2 * product
        + quadratic**2 * product**2
        + rough**2 * np.exp(-np.sqrt(scaled) / reach)
    )


def test_the_posterior_is_that_of_a_joint_normal_distribution() -> None:
    inputs, queries = points(7), points(4, seed=1)
    targets = np.sin(5 * inputs.sum(axis=1))
    variances = np.linspace(0.01, 0.1, 7)
    level, scale = targets.mean(), targets.std()
    noise = np.exp(OTHERS[-1]) ** 2 * variances / scale**2 + 1e-6
    known = np.array([[covariance(a, b) for b in inputs] for a in inputs]) + np.diag(noise)
    cross = np.array([[covariance(q, b) for b in inputs] for q in queries])
    prior = np.array([covariance(q, q) for q in queries])
    mean = level + cross @ np.linalg.solve(known, targets - level)
    variance = prior - np.einsum("ij,ij->i", cross, np.linalg.solve(known, cross.T).T)
    found = condition(inputs, targets, variances, HYPERPARAMETERS)(queries)
    np.testing.assert_allclose(found[0], mean, rtol=1e-6)
    np.testing.assert_allclose(found[1], scale * np.sqrt(variance), rtol=1e-6)


def test_where_a_score_is_exact_it_is_believed() -> None:
    inputs = points(6)
    targets = inputs[:, 0] ** 2
    mean, sd = condition(inputs, targets, np.zeros(6), HYPERPARAMETERS)(inputs)
    np.testing.assert_allclose(mean, targets, atol=1e-4)
    assert (sd < 1e-2).all()


def test_the_gradient_of_the_likelihood_is_that_of_finite_differences() -> None:
    inputs = points(12)
    squares = (inputs[:, None] - inputs) ** 2
    parts = gaussian_process._Parts(
        squares=np.stack((squares[..., 0], squares[..., 1:].mean(axis=2))),
        product=4.0 * (inputs - 0.5) @ (inputs - 0.5).T / 3,
        target=np.sin(4 * inputs[:, 0]),
        variance=np.full(12, 0.05),
    )
    at = HYPERPARAMETERS.values
    numeric = approx_fprime(at, lambda values: parts.loss(values)[0], 1e-6)
    np.testing.assert_allclose(parts.loss(at)[1], numeric, rtol=1e-3, atol=1e-3)


def test_a_gene_without_effect_gets_a_greater_length() -> None:
    inputs = points(60)
    targets = np.sin(6 * inputs[:, 0])
    lengths = learn(inputs, targets, np.full(60, 1e-4), np.arange(3)).lengths
    assert lengths[0] < 0.5 * min(lengths[1], lengths[2])


def test_what_was_learned_predicts_better_than_the_mean() -> None:
    rng = np.random.default_rng(0)
    inputs, queries = points(40), points(200, seed=1)

    def function(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(-4 * (x[:, 0] - 0.3) ** 2) + 0.5 * x[:, 1] * x[:, 2])

    targets = function(inputs) + 0.01 * rng.standard_normal(40)
    found = learn(inputs, targets, np.full(40, 1e-4), np.arange(3))
    mean, sd = condition(inputs, targets, np.full(40, 1e-4), found)(queries)
    errors = mean - function(queries)
    assert np.abs(errors).mean() < 0.1 * targets.std()
    assert 0.5 < np.mean(np.abs(errors) < 2 * sd) <= 1.0


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_equal_scores_are_survived(value: float) -> None:
    inputs = points(5)
    found = learn(inputs, np.full(5, value), np.full(5, 0.1), np.arange(3))
    mean, sd = condition(inputs, np.full(5, value), np.full(5, 0.1), found)(points(3, seed=2))
    np.testing.assert_allclose(mean, value, atol=1e-9)
    assert np.isfinite(sd).all()


def test_learning_again_gives_the_same() -> None:
    inputs, targets = points(20), np.arange(20.0)
    one, other = (learn(inputs, targets, np.ones(20), np.arange(3)).values for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_leaving_one_out_is_conditioning_on_the_others() -> None:
    inputs, variances = points(8), np.full(8, 0.02)
    targets = np.cos(4 * inputs[:, 0])
    process = condition(inputs, targets, variances, HYPERPARAMETERS)
    scaled = (targets - process.level) / process.scale
    noise = np.exp(OTHERS[-1]) ** 2 * variances / process.scale**2 + 1e-6
    known = np.array([[covariance(a, b) for b in inputs] for a in inputs]) + np.diag(noise)
    for i in range(8):
        rest = np.delete(np.arange(8), i)
        mean = known[i, rest] @ np.linalg.solve(known[np.ix_(rest, rest)], scaled[rest])
        assert process.left_out()[i] == pytest.approx(scaled[i] - mean, rel=1e-6)
