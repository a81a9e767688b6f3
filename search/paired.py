"""Differences between models that were scored on the same examples, with their uncertainty.

Two models err on much the same examples, so the difference is known far better than either score.
It is resampled over examples (paired bootstrap, Efron & Tibshirani 1993, chapters 13 and 16): all
models and all metrics of a task keep their examples together, tasks are independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.intervals import standard_error
from search.outcome import Score, Scores
from search.spec import Objective

_RESAMPLES = 2000
_BOUNDS = (0.025, 0.975)
# Entries of a table of resamples that are held at once.
_BLOCK = 1 << 21
# 95 %: none of n examples differs where the truth is that as many as this by n do.
_RULE_OF_THREE = 3.0


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of scores and its 95 % interval, NaN where that is not known."""

    value: float
    low: float
    high: float


def difference(a: Score, b: Score, rng: np.random.Generator) -> Difference:
    """How much better the first is: positive where it is."""
    differences = _per_example(a, b)
    value, count = float(differences.mean()), len(differences)
    if not math.isfinite(value):
        return Difference(a.value - b.value, math.nan, math.nan)
    if a.is_exact and b.is_exact:
        return Difference(value, value, value)
    if np.ptp(differences) == 0 and _is_binary(a) and _is_binary(b):
        # Rights and wrongs are counted: that none differs does not mean that none ever will.
        return Difference(value, value - _RULE_OF_THREE / count, value + _RULE_OF_THREE / count)
    low, high = np.quantile(_deviation(differences[:, None], rng)[:, 0], _BOUNDS)
    return Difference(value, float(value + low), float(value + high))


def overall(
    a: Scores,
    b: Scores,
    objectives: Sequence[Objective],
    unit: NDArray[np.float64],
    rng: np.random.Generator,
) -> Difference:
    """How much better the first is in the mean of all objectives by their weights.

    Args:
        a: scores by objective.
        b: likewise, on the same examples.
        objectives: with their weights.
        unit: (objectives,) what each is measured in (see `search.pareto.span`).
        rng: draws the resamples.
    """
    tables = _tables(a, [b], objectives, unit)
    value = float(sum(table.mean() for table in tables.values()))
    low, high = np.quantile(_deviations(tables, rng)[:, 0], _BOUNDS)
    return Difference(value, float(value + low), float(value + high))


def behind(
    leader: Scores,
    others: Sequence[Scores],
    objectives: Sequence[Objective],
    unit: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """(others,) which of them the 95 % interval of their distance to the leader shows to be behind.

    Arguments are those of `overall`. All are compared on the same resamples.
    """
    if not others:
        return np.zeros(0, dtype=np.bool_)
    tables = _tables(leader, others, objectives, unit)
    distance = sum(table.mean(axis=0) for table in tables.values())
    low = np.quantile(_deviations(tables, rng), _BOUNDS[0], axis=0)
    return np.asarray(distance + low > 0, dtype=np.bool_)


def _per_example(a: Score, b: Score) -> NDArray[np.float64]:
    """(n,) differences over the examples that both have seen.

    They average to the difference of the two scores. Where a score is no mean of its examples (a
    perplexity) they are spread so that their standard error is that of the difference, from the
    standard errors of the scores and the correlation of the examples; NaN where there are none.
    """
    count = min(a.count, b.count)
    ours, theirs = (score.examples[:count].astype(np.float64) for score in (a, b))
    differences = ours - theirs
    if _is_mean(a) and _is_mean(b):
        return differences
    centred = differences - differences.mean()
    spread = float(centred.std()) / np.sqrt(count)
    correlation = _correlation(ours, theirs)
    ours_se, theirs_se = standard_error(a), standard_error(b)
    variance = ours_se**2 + theirs_se**2 - 2 * correlation * ours_se * theirs_se
    scale = np.sqrt(max(variance, 0.0)) / spread if spread > 0 else np.sqrt(max(variance, 0.0))
    return np.asarray(a.value - b.value + scale * centred)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return 1.0 if np.array_equal(a, b) else 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _is_mean(score: Score) -> bool:
    mean = float(score.examples.mean(dtype=np.float64)) if score.count else np.nan
    return bool(np.isclose(mean, score.value, rtol=1e-5, atol=1e-7))


def _is_binary(score: Score) -> bool:
    return bool(np.isin(score.examples, (0, 1)).all() or np.isin(score.examples, (0, -1)).all())


def _tables(
    leader: Scores,
    others: Sequence[Scores],
    objectives: Sequence[Objective],
    unit: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """(examples, others) by task: what each example adds to the weighted distances."""
    total = sum(objective.weight for objective in objectives)
    tables: dict[str, NDArray[np.float64]] = {}
    for objective, one in zip(objectives, unit, strict=True):
        share = objective.weight / total / one
        key = objective.key
        columns = [share * _per_example(leader[key], other[key]) for other in others]
        table = np.stack(columns, axis=1)
        tables[objective.task] = tables.get(objective.task, 0.0) + table
    return tables


def _deviations(
    tables: Mapping[str, NDArray[np.float64]], rng: np.random.Generator
) -> NDArray[np.float64]:
    """(resamples, k) how far the sum of the tables' means is off, each table resampled by rows."""
    deviations = [_deviation(table, rng) for table in tables.values()]
    return np.asarray(np.sum(deviations, axis=0))


def _deviation(table: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    count = len(table)
    centred = table - table.mean(axis=0)
    block = max(1, _BLOCK // count)
    means = [
        _draws(min(block, _RESAMPLES - start), count, rng) @ centred / count
        for start in range(0, _RESAMPLES, block)
    ]
    # A resample varies less than a sample, by the degree of freedom that the mean has taken.
    return np.asarray(np.concatenate(means) * np.sqrt(count / max(1, count - 1)))


def _draws(rows: int, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(rows, count) how often each example is drawn when as many are drawn as there are."""
    places = rng.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
    return np.bincount(places.ravel(), minlength=rows * count).reshape(rows, count).astype(float)
