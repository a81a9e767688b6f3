"""When a search has come to an end before its budget has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from search.constraints import Constraints
from search.outcome import Outcome, Scored
from search.pareto import hypervolume, reference_point
from search.spec import Objective, Stop

# The share of the hypervolume that the best of all candidates is expected to add.
Forecast = Callable[[], float | None]


class Stagnation:
    """Judges by the hypervolume, and by what a surrogate expects, whether a search has stagnated.

    Hypervolume is measured as everywhere: above the baselines' reference point, of candidates that
    hold all constraints. Outcomes come in ordinal order.

    Args:
        stop: when to stop.
        objectives: of the search.
        constraints: fresh, from `Task.constraints`.
        baselines: number of candidates that are the base, a parent or their average; they come
            first.
        opening: number of candidates that precede the optimizer's first.
    """

    def __init__(
        self,
        stop: Stop,
        objectives: tuple[Objective, ...],
        constraints: Constraints,
        *,
        baselines: int,
        opening: int,
    ) -> None:
        self._stop = stop
        self._keys = tuple(objective.key for objective in objectives)
        self._constraints = constraints
        self._baselines = baselines
        self._opening = opening
        self._points: list[NDArray[np.float64]] = []
        self._volumes: dict[int, float] = {}

    def absorb(self, outcome: Outcome) -> None:
        """The next outcome."""
        point = np.full(len(self._keys), np.nan)
        if isinstance(outcome, Scored):
            point = np.array([outcome.scores[key].value for key in self._keys])
        known = point if np.isfinite(point).all() else None
        self._constraints.learn(outcome.candidate.ordinal, known)
        self._points.append(point if known is not None else np.full(len(self._keys), np.nan))

    def reason(self, forecast: Forecast | None, *, since: int) -> str | None:
        """Why the search should end here; None where it should go on.

        Args:
            forecast: asked where the hypervolume stagnates, None where there is no surrogate. As
                long as it expects more, or does not know, the search goes on.
            since: number of outcomes before which nothing is held against the search.
        """
        told, patience = len(self._points), self._stop.patience
        if told - patience < max(self._opening, since):
            return None
        growth = self._growth(told - patience)
        if growth is None or growth >= self._stop.gain:
            return None
        reason = (
            f"the hypervolume grew by {_percent(growth)} in the last {patience} evaluations, less "
            f"than {_percent(self._stop.gain)}"
        )
        if forecast is None:
            return reason
        expected = forecast()
        if expected is None or expected >= self._stop.gain:
            return None
        return f"{reason}, and no further one is expected to add more than {_percent(expected)}"

    def _growth(self, count: int) -> float | None:
        """Share of the hypervolume that came after the first so many outcomes.

        None where there is none: nothing holds the constraints yet, or no baseline has scores.
        """
        now = self._volume(len(self._points))
        return None if now == 0 else 1.0 - self._volume(count) / now

    def _volume(self, count: int) -> float:
        """Of the first so many outcomes, among which are the baselines."""
        if count not in self._volumes:
            points = np.stack(self._points[:count])
            points = points[np.isfinite(points).all(axis=1)]
            given = np.stack(self._points[: self._baselines])
            given = given[np.isfinite(given).all(axis=1)]
            holding = points[self._constraints.violation(points) == 0] if len(points) else points
            volume = hypervolume(holding, reference_point(given)) if len(given) else 0.0
            self._volumes[count] = volume
        return self._volumes[count]


def _percent(share: float) -> str:
    return f"{100.0 * share:.2g} %"
