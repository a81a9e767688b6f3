"""A reader of the log: the front, its hypervolume, and the best candidate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from api.progress import OUTCOMES
from api.store.records import Event, Summary
from search.constraints import Constraints
from search.pareto import first_front, front, hypervolume, preference, reference_point, span
from search.run import baseline_names
from search.spec import SearchSpec

_HISTORY = 500


class Standings:
    """Who leads, folded from events in the order of their seq; events may come in any portions.

    Candidates whose scores are not all finite take no part. Where the objectives have constraints,
    the front is that of the candidates that violate them least, mostly not at all, and hypervolume
    is of those that hold them all. It is measured from the baselines' reference point, so there is
    none before every baseline has its outcome.

    Args:
        spec: of the search.
        directions: objective key -> whether higher is better, in which bounds are written.

    Attributes:
        baselines: name ("base", a parent's name, "average") -> ordinal, in order.
        constraints: of the objectives, as far as they are known.
    """

    def __init__(self, spec: SearchSpec, directions: Mapping[str, bool]) -> None:
        self._keys = tuple(objective.key for objective in spec.objectives)
        self._weights = {objective.key: objective.weight for objective in spec.objectives}
        names = baseline_names(tuple(parent.name for parent in spec.parents))
        self.baselines = {name: ordinal for ordinal, name in enumerate(names)}
        self.constraints = Constraints(spec.objectives, directions, len(spec.parents))
        self._baseline_points: dict[int, NDArray[np.float64] | None] = {}
        self._ordinals = np.zeros(0, dtype=np.int64)
        self._points = np.zeros((0, len(self._keys)))
        self._arrivals: list[tuple[int, NDArray[np.float64]]] = []
        self._found: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
        self._outcomes = 0
        self._history: list[tuple[int, float]] = []
        self._stride = 1
        self._volume: float | None = None

    def feed(self, events: Iterable[Event]) -> None:
        """Read on."""
        for event in events:
            if event.kind in OUTCOMES and event.ordinal is not None:
                self._arrive(event.ordinal, self._point(event.scores))

    @property
    def front(self) -> tuple[int, ...]:
        """Ordinals of the candidates that no other dominates, ascending; of equals all."""
        ordinals, _ = self._front()
        return tuple(sorted(int(ordinal) for ordinal in ordinals))

    def front_in(self, keys: Iterable[str]) -> tuple[int, ...]:
        """The front where only some objectives count, ascending.

        Taken of the whole front, so of candidates equal in these objectives only those are listed
        that no other dominates in the rest.
        """
        ordinals, points = self._front()
        columns = [self._keys.index(key) for key in keys]
        mask = front(points[:, columns])
        return tuple(sorted(int(ordinal) for ordinal in ordinals[mask]))

    @property
    def reference(self) -> NDArray[np.float64] | None:
        """(m,) where hypervolume is measured from, in the order of the objectives."""
        points = self._baseline_matrix()
        return None if points is None else reference_point(points)

    @property
    def hypervolume(self) -> float | None:
        """Volume that those dominate that hold all constraints."""
        _, points = self._front()
        reference = self.reference
        if self._volume is None and reference is not None:
            holding = points[self.constraints.violation(points) == 0]
            self._volume = hypervolume(holding, reference)
        return self._volume

    @property
    def history(self) -> list[tuple[int, float]]:
        """(outcomes so far, hypervolume), at most 500 evenly spaced, then the newest."""
        newest = self.hypervolume
        if newest is None or (self._history and self._history[-1][0] == self._outcomes):
            return list(self._history)
        return [*self._history, (self._outcomes, newest)]

    def best(self, weights: Mapping[str, float] | None = None) -> int | None:
        """The ordinal with the greatest weighted mean of objectives; the lowest of equals.

        Each objective is measured in spans of the baselines. The mean is greatest on the front,
        whatever the weights.

        Args:
            weights: by objective, not negative, 0 where silent; those of the spec by default.
        """
        ordinals, points = self._front()
        if len(ordinals) == 0:
            return None
        baselines = self._baseline_matrix()
        unit = np.ones(len(self._keys)) if baselines is None else span(baselines)
        wanted = self._weights if weights is None else weights
        values = preference(points, [wanted.get(key, 0.0) for key in self._keys], unit)
        return int(ordinals[values >= values.max()].min())

    def _point(self, scores: Mapping[str, Summary]) -> NDArray[np.float64] | None:
        if any(key not in scores or not math.isfinite(scores[key].value) for key in self._keys):
            return None
        return np.array([scores[key].value for key in self._keys])

    def _arrive(self, ordinal: int, point: NDArray[np.float64] | None) -> None:
        self._outcomes += 1
        if ordinal < len(self.baselines):
            self._baseline_points[ordinal] = point
            self.constraints.learn(ordinal, point)
            self._volume = self._found = None
        if point is not None:
            self._arrivals.append((ordinal, point))
        if self._outcomes % self._stride == 0:
            self._sample()

    def _sample(self) -> None:
        volume = self.hypervolume
        if volume is None:
            return
        self._history.append((self._outcomes, volume))
        if len(self._history) > _HISTORY:
            self._stride *= 2
            self._history = [item for item in self._history if item[0] % self._stride == 0]

    def _front(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Ordinals and points of the front; all arrivals meet it at once, for the cost of one.

        Whoever is not on it is forgotten, but while it is not known where all bounds lie.
        """
        if self._arrivals:
            ordinals = [ordinal for ordinal, _ in self._arrivals]
            points = np.stack([point for _, point in self._arrivals])
            self._ordinals = np.concatenate([self._ordinals, ordinals])
            self._points = np.concatenate([self._points, points])
            self._arrivals = []
            self._found = None
        if self._found is None:
            mask = first_front(self._points, self.constraints.violation(self._points))
            self._found = self._ordinals[mask], self._points[mask]
            self._volume = None
            if self.constraints.is_settled:
                self._ordinals, self._points = self._found
        return self._found

    def _baseline_matrix(self) -> NDArray[np.float64] | None:
        if len(self._baseline_points) < len(self.baselines):
            return None
        points = [point for point in self._baseline_points.values() if point is not None]
        return np.stack(points) if points else None
