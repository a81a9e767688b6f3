"""A quadratic model of one metric over the unit cube."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

# Up to so many coefficients a quadratic form in all genes is fitted; beyond, groups interact.
_MOST_COEFFICIENTS = 300
_RIDGES = 10.0 ** np.arange(-6.0, 3.0)


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """Where a metric is quadratic: the scale between metric and surrogate.

    Args:
        to_line: (n,) metrics to the scale of the surrogate.
        to_metric: its inverse; saturates where the metric does.
        precision: (n,) metrics to the weight of an observation on the surrogate's scale.
        is_proportion: whether the metric says how many examples are right.
    """

    to_line: Callable[[Vector], Vector]
    to_metric: Callable[[Vector], Vector]
    precision: Callable[[Vector], Vector]
    is_proportion: bool = False


def link_for(metric: Vector, count: int) -> Link:
    """The link that suits (n,) values of a metric over ``count`` examples, higher being better.

    Logit for values in [0, 1], clipped half an example from both ends; softplus for losses (which
    arrive with their sign flipped); none for what is neither. A share that is not one of examples
    but of the model itself (`Score.is_exact`) has nothing to clip, and none.
    """
    if count > 1 and metric.min() >= 0.0 and metric.max() <= 1.0:
        return _logit(0.5 / count)
    return _SOFTPLUS if metric.max() < 0.0 else _IDENTITY


def _logit(edge: float) -> Link:
    def clipped(p: Vector) -> Vector:
        return np.clip(p, edge, 1.0 - edge)

    return Link(
        to_line=lambda p: np.log(clipped(p)) - np.log1p(-clipped(p)),
        to_metric=lambda q: 0.5 * (1.0 + np.tanh(0.5 * q)),
        # The variance of a proportion's logit is 1 / (n p (1 - p)).
        precision=lambda p: clipped(p) * (1.0 - clipped(p)),
        is_proportion=True,
    )


_SOFTPLUS = Link(
    to_line=lambda v: -v + np.log(-np.expm1(v)),
    to_metric=lambda q: -np.logaddexp(0.0, q),
    precision=lambda v: np.expm1(v) ** 2,
)
_IDENTITY = Link(to_line=lambda v: v, to_metric=lambda q: q, precision=np.ones_like)


@dataclass(frozen=True, slots=True)
class Shape:
    """Which products of genes the surrogate has.

    Args:
        groups: of genes (indices); products are taken of the means of groups.
    """

    groups: tuple[tuple[int, ...], ...]

    def features(self, genomes: Matrix) -> Matrix:
        """(n, dim) genomes to (n, features): genes, their squares, products of groups."""
        x = 2.0 * genomes - 1.0
        parts = [x, x * x]
        if self.groups:
            means = np.stack([x[:, list(group)].mean(axis=1) for group in self.groups], axis=1)
            i, j = np.triu_indices(len(self.groups), k=1)
            parts.append(means[:, i] * means[:, j])
            parts += [means * means] if any(len(group) > 1 for group in self.groups) else []
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Surrogate:
    """metric = link(intercept + features @ coefficients).

    Args:
        coefficients: (features,).
        error: root mean square of the errors on the link's scale, each observation predicted from
            the others; observations count by their precision.
        left_out: (n,) the metric of each observation, predicted from the others.
    """

    shape: Shape
    link: Link
    intercept: float
    coefficients: Vector
    error: float
    left_out: Vector

    def __call__(self, genomes: Matrix) -> Vector:
        """(n,) predicted metric at (n, dim) genomes."""
        return self.link.to_metric(
            self.intercept + self.shape.features(genomes) @ self.coefficients
        )


def left_out_error(metric: Vector, left_out: Vector) -> float:
    """Root mean square of (n,) metrics less what others predict of them, in the metric's unit."""
    return float(np.sqrt(np.mean((metric - left_out) ** 2)))


def left_out_r2(metric: Vector, left_out: Vector) -> float:
    """The share of the variance of (n,) metrics that others predict; negative where none.

    NaN of metrics that are all the same.
    """
    variance = float(np.var(metric))
    return 1.0 - left_out_error(metric, left_out) ** 2 / variance if variance > 0 else np.nan


def fit(genomes: Matrix, metric: Vector, link: Link, shapes: Sequence[Shape]) -> Surrogate:
    """Ridge regression on the link's scale; shape and ridge by leaving one observation out.

    The least squares that MAP (arXiv:2406.07529) solves by Levenberg-Marquardt is linear once
    metrics are taken to the scale of the link; the ridge makes it well-posed with fewer
    observations than coefficients.

    Args:
        genomes: (n, dim), n at least 1.
        metric: (n,), finite.
        link: of the metric.
        shapes: to choose from, at least one.
    """
    fits = [_ridge(shape, genomes, metric, link) for shape in shapes]
    return min(fits, key=lambda surrogate: surrogate.error)


def _ridge(shape: Shape, genomes: Matrix, metric: Vector, link: Link) -> Surrogate:
    weight = link.precision(metric)
    weight = weight / weight.sum()
    features, target = shape.features(genomes), link.to_line(metric)
    centre, level = weight @ features, float(weight @ target)
    root = np.sqrt(weight)
    u, s, axes = np.linalg.svd(root[:, None] * (features - centre), full_matrices=False)
    residual = root * (target - level)
    along = u.T @ residual
    # (ridges, rank): how much of each axis' least-squares solution a ridge leaves.
    shrink = s**2 / (s**2 + _RIDGES[:, None])
    # Centring fits one more coefficient, whose leverage is the weight.
    leverage = np.minimum(shrink @ (u**2).T + weight, 1.0 - 1e-9)
    left_out = (residual - (shrink * along) @ u.T) / (1.0 - leverage)
    errors = (left_out**2).sum(axis=1)
    best = int(np.argmin(errors))
    coefficients = axes.T @ (s / (s**2 + _RIDGES[best]) * along)
    intercept = level - float(centre @ coefficients)
    predicted = link.to_metric(target - left_out[best] / root)
    error = float(np.sqrt(errors[best]))
    return Surrogate(shape, link, intercept, coefficients, error, predicted)


def shapes_for(groups: Sequence[Sequence[int]], points: int) -> tuple[Shape, ...]:
    """The shapes that so many points can tell apart.

    Without products always; with products of all genes where there are at least as many points as
    coefficients; else with products of the groups' means.

    Args:
        groups: every gene (by index) in one group.
        points: number of observations.
    """
    genes = sorted(gene for group in groups for gene in group)
    everything = Shape(tuple((gene,) for gene in genes))
    coefficients = 1 + 2 * len(genes) + len(genes) * (len(genes) - 1) // 2
    additive = Shape(())
    if coefficients <= min(points, _MOST_COEFFICIENTS):
        return (additive, everything)
    if len(groups) < len(genes):
        return (additive, Shape(tuple(tuple(group) for group in groups)))
    return (additive,)
