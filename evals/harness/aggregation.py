"""Numbers from what lm-eval says of each example: aggregates, standard errors, examples alone."""

from __future__ import annotations

import functools
import math
import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# lm-eval resamples 100,000 times in a pool of processes: too much for every candidate.
_RESAMPLES = 100


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one task or group on one model, in the metric's own sign.

    Args:
        value: lm-eval's aggregate.
        stderr: lm-eval's standard error; NaN where it has none.
        examples: (count,) float64; where the metric is no mean of numbers, what it says of one
            example alone. Of a group those of its tasks, one after the other.
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
    return Measured(value=value, stderr=stderr, examples=_each(aggregate, items))


def averaged(parts: Sequence[Measured], *, by_size: bool) -> Measured:
    """What lm-eval makes of the tasks of a group.

    Where all tasks count alike, examples of small tasks count for more: they are scaled, so that
    where the value of every task is the mean of its examples, so is the group's.
    """
    from lm_eval.api import metrics

    sizes = [len(part.examples) for part in parts]
    errors = [part.stderr for part in parts]
    pooled = math.nan
    if not any(map(math.isnan, errors)):
        pooled = (
            metrics.pooled_sample_stderr(errors, sizes)
            if by_size
            else metrics.unweighted_mean_stderr(errors)
        )
    scales = [1.0 if by_size else sum(sizes) / (len(sizes) * size) for size in sizes]
    return Measured(
        value=float(
            metrics.aggregate_subtask_metrics([part.value for part in parts], sizes, by_size)
        ),
        stderr=float(pooled),
        examples=np.concatenate(
            [scale * part.examples for scale, part in zip(scales, parts, strict=True)]
        ),
    )


def follows_its_examples(aggregate: Callable[..., float] | None) -> bool:
    """Whether an aggregate is the mean of its examples, or a weighted one on the same scale."""
    from lm_eval.api import metrics

    return aggregate in (None, metrics.mean, metrics.bits_per_byte)


def _stderr(aggregate: Callable[..., float], items: list[Any]) -> float:
    """lm-eval's standard error, with fewer resamples where it has to resample."""
    from lm_eval.api import metrics

    function = metrics.stderr_for_metric(aggregate, _RESAMPLES)
    if function is None or len(items) < 2:
        return math.nan
    if aggregate is metrics.mean:
        return float(np.std(np.asarray(items, dtype=np.float64), ddof=1) / math.sqrt(len(items)))
    if aggregate is metrics.acc_all:
        return float(function(items))
    if aggregate is metrics.perplexity:
        means = np.asarray(items, dtype=np.float64)[_resampled(len(items))].mean(axis=1)
        with np.errstate(all="ignore"):  # beyond all numbers
            return float(np.exp(-means).std(ddof=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what resampled examples happen to lack
        resampled = metrics._bootstrap_internal(aggregate, _RESAMPLES)((0, items))
    return float(metrics.sample_stddev(resampled))


@functools.lru_cache(maxsize=8)
def _resampled(count: int) -> NDArray[np.int64]:
    """(resamples, count) the indices that lm-eval draws in its first chunk."""
    draws = random.Random(0)  # noqa: S311  # lm-eval's, no secret
    uniform = np.array([draws.random() for _ in range(_RESAMPLES * count)])
    return (uniform * count).astype(np.int64).reshape(_RESAMPLES, count)


def _each(aggregate: Callable[..., float], items: list[Any]) -> NDArray[np.float64]:
    """What a metric says of every example alone."""
    from lm_eval.api import metrics

    if aggregate is metrics.mean:
        return np.array(items, dtype=np.float64)
    return np.array([_of_one(aggregate, item) for item in items], dtype=np.float64)


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
