"""A reader of the log: who was chosen on examples that the search never saw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from api.store.codec import number
from api.store.records import Event, Summary
from search.constraints import Constraints
from search.finalists import finalists, most_finalists, shortlist
from search.outcome import Scores
from search.paired import Difference, difference, overall
from search.pareto import preference, span
from search.run import baseline_names
from search.spec import SearchSpec

# The name under which a comparison stands that is about all objectives together.
OVERALL = "overall"

Gains = Mapping[str, Mapping[str, Difference]]


class Selection:
    """Finalists, their scores, the winner; folded from events in the order of their seq.

    Constraints are judged on the split at hand, relative ones by what the baselines score there.

    Args:
        spec: of the search.
        directions: objective key -> whether higher is better, in which bounds are written.

    Attributes:
        baselines: name ("base", a parent's name, "average") -> ordinal, in order.
        finalists: of the newest selection.
        selected, reported: scores on these splits, by ordinal.
        gains: how much better the winner is on the report split: baseline -> objective or
            `OVERALL` -> difference, positive where the winner is better.
        best_parent: name of the parent that was best on the select split.
    """

    def __init__(self, spec: SearchSpec, directions: Mapping[str, bool]) -> None:
        self._objectives = spec.objectives
        self._directions = directions
        self._seed = spec.seed
        names = baseline_names(tuple(parent.name for parent in spec.parents))
        self.baselines = {name: ordinal for ordinal, name in enumerate(names)}
        self._parents = frozenset(parent.name for parent in spec.parents)
        self.finalists: tuple[int, ...] = ()
        self.selected: dict[int, Mapping[str, Summary]] = {}
        self.reported: dict[int, Mapping[str, Summary]] = {}
        self.gains: Gains = {}
        self.best_parent: str | None = None
        self._searched: dict[int, Mapping[str, Summary]] = {}
        self._winner: int | None = None

    def feed(self, events: Iterable[Event]) -> None:
        """Read on."""
        for event in events:
            if event.ordinal is not None:
                self._measure(event.ordinal, event)
            elif event.kind == "selecting":
                self.finalists = tuple(event.body["finalists"])
            elif event.kind == "reporting":
                self._winner, self.gains = event.body["winner"], {}
            elif event.kind == "finished":
                self.gains = _gains_from_json(event.body.get("gains", {}))
                self.best_parent = event.body.get("best_parent")

    @property
    def winner(self) -> int | None:
        """Who was chosen; of a search that was cancelled while choosing, the best so far."""
        return self.choose() if self._winner is None else self._winner

    def choose(self, weights: Mapping[str, float] | None = None) -> int | None:
        """The best of all that were scored on select, by weights; the lowest ordinal of equals.

        Among those that violate the constraints least, mostly not at all.

        Args:
            weights: by objective, not negative, 0 where silent; those of the spec by default.
        """
        values = self._preferences(self.selected, weights)
        missed = self._violations(self.selected)
        return max(values, key=lambda n: (-missed[n], values[n], -n)) if values else None

    def shortlist(self, evaluations: int) -> list[int]:
        """Ordinals whose examples must be known to name the finalists.

        Of candidates that violate the constraints least, mostly not at all.
        """
        missed = self._violations(self._searched)
        complete = self._complete()
        least = min((missed[n] for n in complete), default=0.0)
        found = [n for n in complete if missed[n] <= least]
        points = self._points(self._searched, found)
        weights = [objective.weight for objective in self._objectives]
        unit = self._unit(self._searched)
        return [found[row] for row in shortlist(points, weights, unit, most_finalists(evaluations))]

    def name_finalists(self, scores: Mapping[int, Scores], evaluations: int) -> dict[str, Any]:
        """Body of the event that opens the selection.

        Args:
            scores: on the search split, of those on the shortlist, in its order.
            evaluations: of the search, which say how many finalists there may be.
        """
        named = finalists(
            scores,
            self._objectives,
            self._unit(self._searched),
            most=most_finalists(evaluations),
            seed=self._seed,
        )
        return {"finalists": list(named), "baselines": self._known(self._searched)}

    def name_winner(self) -> dict[str, Any]:
        """Body of the event that opens the report."""
        return {"winner": self.choose(), "baselines": self._known(self._searched)}

    def compare(self, scores: Mapping[int, Scores]) -> dict[str, Any]:
        """Body of the event that closes the search: the winner against every baseline.

        Args:
            scores: on the report split, of the winner and the baselines.
        """
        ours = scores.get(-1 if self._winner is None else self._winner)
        gains = {
            name: self._gains(ours, scores[n])
            for name, n in self.baselines.items()
            if ours and n != self._winner and scores.get(n)
        }
        values = self._preferences(self.selected, None)
        parents = [n for name, n in self.baselines.items() if name in self._parents and n in values]
        best = max(parents, key=lambda n: values[n], default=None)
        names = {n: name for name, n in self.baselines.items()}
        return {
            "gains": {name: _gains_to_json(gain) for name, gain in gains.items()},
            "best_parent": None if best is None else names[best],
        }

    def _gains(self, ours: Scores, theirs: Scores) -> Mapping[str, Difference]:
        rng = np.random.default_rng(self._seed)
        unit = self._unit(self.selected)
        gains = {o.key: difference(ours[o.key], theirs[o.key], rng) for o in self._objectives}
        return {OVERALL: overall(ours, theirs, self._objectives, unit, rng), **gains}

    def _measure(self, ordinal: int, event: Event) -> None:
        if not _is_finite(event.scores, [objective.key for objective in self._objectives]):
            return
        match event.kind:
            case "scored":
                self._searched[ordinal] = event.scores
            case "selected":
                self.selected[ordinal] = event.scores
            case "reported":
                self.reported[ordinal] = event.scores

    def _complete(self) -> list[int]:
        """Those that were scored on every search example; who left early was shown to be behind."""
        counts = {n: self._counts(scores) for n, scores in self._searched.items()}
        most = tuple(map(max, zip(*counts.values(), strict=True))) if counts else ()
        return sorted(n for n, count in counts.items() if count == most)

    def _counts(self, scores: Mapping[str, Summary]) -> tuple[int, ...]:
        return tuple(scores[objective.key].count for objective in self._objectives)

    def _known(self, scores: Mapping[int, Mapping[str, Summary]]) -> list[int]:
        return [ordinal for ordinal in self.baselines.values() if ordinal in scores]

    def _unit(self, scores: Mapping[int, Mapping[str, Summary]]) -> NDArray[np.float64]:
        return span(self._points(scores, self._known(scores)))

    def _points(
        self, scores: Mapping[int, Mapping[str, Summary]], ordinals: Sequence[int]
    ) -> NDArray[np.float64]:
        points = [[scores[n][o.key].value for o in self._objectives] for n in ordinals]
        return np.array(points, dtype=np.float64).reshape(-1, len(self._objectives))

    def _violations(self, scores: Mapping[int, Mapping[str, Summary]]) -> dict[int, float]:
        parents = len(self._parents)
        constraints = Constraints(self._objectives, self._directions, parents)
        for n in range(1 + parents):
            constraints.learn(n, self._points(scores, [n])[0] if n in scores else None)
        ordinals = sorted(scores)
        missed = constraints.violation(self._points(scores, ordinals))
        return dict(zip(ordinals, missed.tolist(), strict=True))

    def _preferences(
        self, scores: Mapping[int, Mapping[str, Summary]], weights: Mapping[str, float] | None
    ) -> dict[int, float]:
        if not scores:
            return {}
        wanted = {o.key: o.weight for o in self._objectives} if weights is None else weights
        ordinals = sorted(scores)
        values = preference(
            self._points(scores, ordinals),
            [wanted.get(objective.key, 0.0) for objective in self._objectives],
            self._unit(scores),
        )
        return dict(zip(ordinals, values.tolist(), strict=True))


def _is_finite(scores: Mapping[str, Summary], keys: Iterable[str]) -> bool:
    return all(key in scores and math.isfinite(scores[key].value) for key in keys)


def _gains_to_json(gains: Mapping[str, Difference]) -> dict[str, list[float | str]]:
    return {
        key: [number(value) for value in (gain.value, gain.low, gain.high)]
        for key, gain in gains.items()
    }


def _gains_from_json(document: Mapping[str, Mapping[str, Sequence[float | str]]]) -> Gains:
    return {
        name: {key: Difference(*map(float, values)) for key, values in gains.items()}
        for name, gains in document.items()
    }
