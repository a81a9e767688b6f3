"""Numbers from what lm-eval says of each example: aggregates, standard errors, examples alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# lm-eval resamples 100,000 times in a pool of processes: too much for every candidate.
_RESAMPLES = 100


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one task on one model, in the metric's own sign.

    Args:
        value: lm-eval's aggregate.
        stderr: lm-eval's standard error; NaN where it has none.
        examples: (count,) float64; where the metric is no mean of numbers, what it says of one
            example alone.
    """

    value: float
    stderr: float
    examples: NDArray[np.float64]


def aggregated(aggregate: Callable[..., float] | None, items: list[Any]) -> Measured:
    """What lm-eval makes of the items of all examples; their mean where a task says nothing."""
    from lm_eval.api import metrics

    aggregate = metrics.mean if aggregate is None else aggregate
    try:
        value, stderr = float(aggregate(items)), _stderr(aggregate, items)
    except OverflowError:  # a perplexity beyond all numbers
        value, stderr = math.inf, math.nan
    return Measured(
        value=value,
        stderr=stderr,
        examples=np.array([_of_one(aggregate, item) for item in items], dtype=np.float64),
    )


def _stderr(aggregate: Callable[..., float], items: list[Any]) -> float:
    """lm-eval's standard error, with fewer resamples where it has to resample."""
    from lm_eval.api import metrics

    function = metrics.stderr_for_metric(aggregate, _RESAMPLES)
    if function is None or len(items) < 2:
        return math.nan
    if aggregate in (metrics.mean, metrics.acc_all):
        return float(function(items))
    resampled = metrics._bootstrap_internal(aggregate, _RESAMPLES)((0, items))
    return float(metrics.sample_stddev(resampled))


def _of_one(aggregate: Callable[..., float], item: Any) -> float:
    """What a metric says of one example, smaller or larger as the metric itself is.

    Perplexities are given in nats, which do not overflow. An empty text says nothing, 0.
    """
    from lm_eval.api import metrics

    if aggregate is metrics.perplexity:
        return -float(item)
    if aggregate in (metrics.weighted_perplexity, metrics.bits_per_byte) and item[1] == 0:
        return 0.0
    if aggregate is metrics.weighted_perplexity:
        return -float(item[0]) / float(item[1])
    if aggregate in (metrics.f1_score, metrics.matthews_corrcoef):
        return float(item[0] == item[1])
    return float(aggregate([item]))
