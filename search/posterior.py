"""What is believed of every metric at every genome, given what was scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.gaussian_process import GaussianProcess, Hyperparameters, condition, learn
from search.surrogate import Link, link_for

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

# A score without a standard error is taken to have this part of the spread of all scores.
_UNKNOWN_ERROR = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """Scored candidates.

    Args:
        features: (n, features), see `search.features.Features`.
        values: (n, m) metrics, higher is better.
        errors: (n, m) standard errors; NaN where there is none.
        counts: (m,) examples that the metrics are taken over.
    """

    features: Matrix
    values: Matrix
    errors: Matrix
    counts: tuple[int, ...]

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> Observations:
        """Some of them."""
        return Observations(self.features[rows], self.values[rows], self.errors[rows], self.counts)


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """Independent Gaussian processes, each on the scale of its metric's link.

    Args:
        processes: one for each metric.
        links: of the metrics.
    """

    processes: tuple[GaussianProcess, ...]
    links: tuple[Link, ...]

    def __call__(self, features: Matrix) -> tuple[Matrix, Matrix]:
        """(n, m) medians and standard deviations of the metrics, in their own units."""
        medians, spreads = [], []
        for process, link in zip(self.processes, self.links, strict=True):
            mean, sd = process(features)
            medians.append(link.to_metric(mean))
            spreads.append(0.5 * (link.to_metric(mean + sd) - link.to_metric(mean - sd)))
        return np.stack(medians, axis=1), np.maximum(np.stack(spreads, axis=1), 1e-9)


def explained(belief: Posterior) -> Vector:
    """(m,) share of each metric's variance (R2) that is predicted, each score left out in turn."""
    return np.array([1.0 - float((p.left_out() ** 2).mean()) for p in belief.processes])


def learned(known: Observations, groups: NDArray[np.int64]) -> tuple[Hyperparameters, ...]:
    """The hyperparameters of every metric; ``groups`` as in `search.features.Features`."""
    return tuple(
        learn(known.features, *_on_the_line(known, j)[1:], groups)
        for j in range(known.values.shape[1])
    )


def posterior(
    known: Observations, waiting: Matrix, hyperparameters: Sequence[Hyperparameters]
) -> Posterior:
    """Belief after what is known, with (k, features) candidates in flight.

    Those are taken to come out as expected: it changes no expectation, but nobody has to look there
    again.
    """
    processes, links = [], []
    for j, one in enumerate(hyperparameters):
        link, targets, variances = _on_the_line(known, j)
        process = condition(known.features, targets, variances, one)
        if len(waiting):
            process = condition(
                np.concatenate((known.features, waiting)),
                np.concatenate((targets, process(waiting)[0])),
                np.concatenate((variances, np.full(len(waiting), np.median(variances)))),
                one,
            )
        processes.append(process)
        links.append(link)
    return Posterior(tuple(processes), tuple(links))


def _on_the_line(known: Observations, j: int) -> tuple[Link, Vector, Vector]:
    """A metric's link, and (n,) values and variances on its scale."""
    values, errors = known.values[:, j], known.errors[:, j]
    link = link_for(values, known.counts[j])
    if link.is_proportion:  # whose standard error says too little near 0 and 1
        return link, link.to_line(values), 1.0 / (known.counts[j] * link.precision(values))
    errors = np.where(np.isfinite(errors), errors, _UNKNOWN_ERROR * values.std())
    return link, link.to_line(values), errors**2 / link.precision(values)
