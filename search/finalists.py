"""Which candidates are worth a second look, on examples that they were not chosen by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from search.outcome import Scores
from search.paired import behind
from search.pareto import front, preference
from search.spec import Objective

_MOST = 12
_FEWEST = 3
# Candidates that are compared for each that can become a finalist.
_COMPARED = 4


def most_finalists(evaluations: int) -> int:
    """How many there may be: a tenth of the budget, at least 3 and at most 12."""
    return max(_FEWEST, min(_MOST, evaluations // 10))


def shortlist(
    points: NDArray[np.float64],
    weights: Sequence[float],
    unit: NDArray[np.float64],
    most: int,
) -> list[int]:
    """Rows of (n, objectives) points that can become finalists: the front first, then the rest.

    Both by the preference that ``weights`` and ``unit`` express, the earlier row of equals first.
    """
    if len(points) == 0:
        return []
    values = preference(points, weights, unit)
    order = np.lexsort((np.arange(len(points)), -values, ~front(points)))
    return [int(row) for row in order[: _COMPARED * most]]


def finalists(
    scores: Mapping[int, Scores],
    objectives: Sequence[Objective],
    unit: NDArray[np.float64],
    *,
    most: int,
    seed: int,
) -> tuple[int, ...]:
    """The nondominated, then those that are not shown to be behind the best; ascending.

    Args:
        scores: on the search split, by ordinal, in the order of `shortlist`.
        objectives: with the weights of the preference that decides who is the best.
        unit: (objectives,) what each is measured in.
        most: that are taken.
        seed: of the search; resamples are drawn from it.
    """
    if not scores:
        return ()
    ordinals = list(scores)
    points = np.array([[scores[n][o.key].value for o in objectives] for n in ordinals])
    values = preference(points, [o.weight for o in objectives], unit)
    leader = int(np.argmax(values))
    rng = np.random.default_rng([seed, len(ordinals)])
    worse = behind(scores[ordinals[leader]], list(scores.values()), objectives, unit, rng)
    kept = front(points) | ~worse
    chosen = [n for n, keep in zip(ordinals, kept, strict=True) if keep]
    return tuple(sorted(chosen[:most]))
