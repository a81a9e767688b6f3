"""A Gaussian process for one metric over the space of merges.

The covariance is a sum of four parts, each with its own magnitude: a linear and a quadratic one
(the second-order surface that MAP, arXiv:2406.07529, fits), a smooth one (what the quadratic
misses), and a rough one of short range. The last is for what a metric over a fixed set of examples
really does: it moves in steps, as single examples flip, so that near a lucky model there are other
lucky ones. Where the metric changes faster, more of them flip: both have the same lengths. Whatever
then remains is noise, in proportion to the variance that each score has by its examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

# Logarithms of the hyperparameters after the lengths, by place.
_SMOOTH, _LINEAR, _QUADRATIC, _ROUGH, _RANGE, _NOISE = range(6)
# Normal priors on the logarithms: of each length (in units of the cube), then of the others in the
# order above. Magnitudes are standard deviations in units of that of the targets; the noise is in
# units of the variance that the scores have by their examples.
_LENGTH_PRIOR = (np.log(0.7), 0.7)
_PRIOR_MEAN = np.log([1.0, 0.7, 0.5, 0.15, 0.3, 0.02])
_PRIOR_SD = np.array([1.0, 1.0, 1.0, 1.0, 0.5, 1.5])
_BOUNDS = [(-4.0, 3.0)] * 5 + [(-5.0, 1.0)]
_LENGTH_BOUNDS = (-4.0, 3.0)
_ITERATIONS = 40
_JITTER = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Hyperparameters:
    """What the data say of the covariance.

    Args:
        groups: (dim,) int; genes of one group share a length.
        values: (groups + 6,) logarithms: of the lengths, then of the other magnitudes.
    """

    groups: NDArray[np.int64]
    values: Vector

    @property
    def lengths(self) -> Vector:
        """(dim,) over which a gene's effect changes, with the size of its group in it."""
        sizes = np.bincount(self.groups)
        lengths: Vector = (np.exp(self.values[: len(sizes)]) * np.sqrt(sizes))[self.groups]
        return lengths

    @property
    def others(self) -> Vector:
        """(6,) the other magnitudes."""
        found: Vector = np.exp(self.values[-6:])
        return found


@dataclass(frozen=True, slots=True, eq=False)
class GaussianProcess:
    """The posterior of a function of which some noisy values are known.

    Args:
        inputs: (n, dim).
        hyperparameters: of the covariance.
        level: mean of the targets.
        scale: their standard deviation, the unit of the magnitudes.
        factor: (n, n) lower Cholesky factor of the covariance of the scaled targets.
        solution: (n,) that covariance's inverse times the scaled targets.
    """

    inputs: Matrix
    hyperparameters: Hyperparameters
    level: float
    scale: float
    factor: Matrix
    solution: Vector

    def __call__(self, queries: Matrix) -> tuple[Vector, Vector]:
        """(m,) means and standard deviations of the function at (m, dim) queries."""
        cross = _covariance(queries, self.inputs, self.hyperparameters)
        spread = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        variance = _variance(queries, self.hyperparameters) - (spread**2).sum(axis=0)
        mean = self.level + self.scale * (cross @ self.solution)
        return mean, self.scale * np.sqrt(np.maximum(variance, 1e-12))

    def left_out(self) -> Vector:
        """(n,) targets less what is predicted of each from the others, in units of their spread.

        Rasmussen & Williams 2006, eq. 5.12.
        """
        inverse = cho_solve((self.factor, True), np.eye(len(self.solution)), check_finite=False)
        return np.asarray(self.solution / inverse.diagonal())


def condition(
    inputs: Matrix, targets: Vector, variances: Vector, hyperparameters: Hyperparameters
) -> GaussianProcess:
    """What (n, dim) inputs with (n,) targets of (n,) known variances tell."""
    level, scale = _units(targets)
    covariance = _covariance(inputs, inputs, hyperparameters)
    noise = hyperparameters.others[_NOISE] ** 2 * variances / scale**2
    covariance[np.diag_indices(len(inputs))] += noise + _JITTER
    factor = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    solution: Vector = cho_solve((factor, True), (targets - level) / scale, check_finite=False)
    return GaussianProcess(inputs, hyperparameters, level, scale, factor, solution)


def learn(
    inputs: Matrix, targets: Vector, variances: Vector, groups: NDArray[np.int64]
) -> Hyperparameters:
    """The hyperparameters of greatest posterior probability, from the prior's mean uphill.

    A function of its arguments alone: whoever asks again gets the same.

    Args:
        inputs: (n, dim).
        targets: (n,).
        variances: (n,) of the targets by their examples.
        groups: (dim,) numbers from 0 without gaps; genes of one group share a length.
    """
    level, scale = _units(targets)
    sizes = np.bincount(groups)
    apart = inputs[:, None, :] - inputs[None, :, :]
    squares = np.stack(
        [(apart[:, :, groups == g] ** 2).mean(axis=2) for g in range(len(sizes))], axis=0
    )
    parts = _Parts(
        squares=squares,
        product=_product(inputs, inputs),
        target=(targets - level) / scale,
        variance=variances / scale**2,
    )
    start = np.concatenate((np.full(len(sizes), _LENGTH_PRIOR[0]), _PRIOR_MEAN))
    found = minimize(
        parts.loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[_LENGTH_BOUNDS] * len(sizes) + _BOUNDS,
        options={"maxiter": _ITERATIONS},
    )
    return Hyperparameters(groups, found.x)


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """What the likelihood is made of that no hyperparameter changes.

    Args:
        squares: (groups, n, n) mean squared differences of the genes of a group.
        product: (n, n) inner products around the middle of the cube.
        target: (n,) in units of their standard deviation.
        variance: (n,) of the targets, in the square of that unit.
    """

    squares: Matrix
    product: Matrix
    target: Vector
    variance: Vector

    def loss(self, values: Vector) -> tuple[float, Vector]:
        """Negative logarithm of the posterior density, and its gradient."""
        count = len(self.squares)
        scaled = self.squares * np.exp(-2.0 * values[:count])[:, None, None]
        others = np.exp(values[count:])
        square = others**2
        smooth = square[_SMOOTH] * np.exp(-0.5 * scaled.sum(axis=0))
        distance = np.sqrt(scaled.sum(axis=0))
        reach = distance / others[_RANGE]
        rough = square[_ROUGH] * np.exp(-reach)
        noise = square[_NOISE] * self.variance
        covariance = smooth + rough + square[_LINEAR] * self.product
        covariance += square[_QUADRATIC] * self.product**2
        covariance[np.diag_indices(len(noise))] += noise + _JITTER
        try:
            factor = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(values)
        inverse = cho_solve((factor, True), np.eye(len(noise)), check_finite=False)
        solution = inverse @ self.target
        weight = inverse - np.outer(solution, solution)
        gradient = np.empty_like(values)
        by_square = smooth + rough / (np.maximum(distance, 1e-9) * others[_RANGE])
        gradient[:count] = 0.5 * np.einsum("gij,ij->g", scaled, weight * by_square)
        gradient[count:] = [
            (weight * smooth).sum(),
            square[_LINEAR] * (weight * self.product).sum(),
            square[_QUADRATIC] * (weight * self.product**2).sum(),
            (weight * rough).sum(),
            0.5 * (weight * rough * reach).sum(),
            (weight.diagonal() * noise).sum(),
        ]
        mean = np.concatenate((np.full(count, _LENGTH_PRIOR[0]), _PRIOR_MEAN))
        sd = np.concatenate((np.full(count, _LENGTH_PRIOR[1]), _PRIOR_SD))
        z = (values - mean) / sd
        loss = 0.5 * self.target @ solution + np.log(factor.diagonal()).sum() + 0.5 * z @ z
        return float(loss), gradient + z / sd


def _covariance(a: Matrix, b: Matrix, hyperparameters: Hyperparameters) -> Matrix:
    """(n, m) covariances of the function at (n, dim) and (m, dim) points."""
    square, lengths = hyperparameters.others**2, hyperparameters.lengths
    product = _product(a, b)
    square_distance = _squared_distance(a / lengths, b / lengths)
    found = square[_SMOOTH] * np.exp(-0.5 * square_distance)
    reach = np.sqrt(square_distance) / hyperparameters.others[_RANGE]
    found += square[_ROUGH] * np.exp(-reach)
    covariance: Matrix = found + (square[_LINEAR] + square[_QUADRATIC] * product) * product
    return covariance


def _variance(points: Matrix, hyperparameters: Hyperparameters) -> Vector:
    """(n,) the diagonal of the covariance of (n, dim) points."""
    square = hyperparameters.others**2
    product = 4.0 * ((points - 0.5) ** 2).mean(axis=1)
    total: Vector = square[_SMOOTH] + square[_ROUGH] + square[_LINEAR] * product
    return np.asarray(total + square[_QUADRATIC] * product**2)


def _product(a: Matrix, b: Matrix) -> Matrix:
    """Mean over the genes, 1 for a corner of the cube with itself."""
    return np.asarray(4.0 * (a - 0.5) @ (b - 0.5).T / a.shape[1])


def _squared_distance(a: Matrix, b: Matrix) -> Matrix:
    square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * a @ b.T
    return np.asarray(np.maximum(square, 0.0))


def _units(targets: Vector) -> tuple[float, float]:
    """Mean and standard deviation; equal targets have the unit 1."""
    spread = float(targets.std())
    return float(targets.mean()), spread if spread > 1e-9 else 1.0
