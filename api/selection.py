"""A reader of the log: who was chosen on examples that the search never saw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from api.store.codec import number
from api.store.records import Event, Summary
from search.finalists import (
    Round,
    finalists,
    first_round,
    most_finalists,
    next_round,
    shortlist,
)
from search.outcome import Scores
from search.paired import Difference, difference, overall
from search.ranking import Points, Ranking
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
        selected, reported: scores on these splits, by ordinal; on select of as many examples as
            the last round in which a candidate was.
        gains: how much better the winner is on the report split: baseline -> objective or
            `OVERALL` -> difference, positive where the winner is better.
        best_parent: name of the parent that was best on the select split.
    """

    def __init__(self, spec: SearchSpec, directions: Mapping[str, bool]) -> None:
        self._objectives = spec.objectives
        self._seed = spec.seed
        names = baseline_names(tuple(parent.name for parent in spec.parents))
        self.baselines = {name: ordinal for ordinal, name in enumerate(names)}
        self._parents = frozenset(parent.name for parent in spec.parents)
        self._ranking = Ranking(
            spec.objectives,
            directions,
            parents=len(spec.parents),
            baselines=tuple(self.baselines.values()),
        )
        self.finalists: tuple[int, ...] = ()
        self.selected: dict[int, Mapping[str, Summary]] = {}
        self.reported: dict[int, Mapping[str, Summary]] = {}
        self.gains: Gains = {}
        self.best_parent: str | None = None
        self._searched: dict[int, Mapping[str, Summary]] = {}
        self._round = Round((), ())
        self._seen: dict[int, float] = {}
        self._winner: int | None = None

    def feed(self, events: Iterable[Event]) -> None:
        """Read on."""
        for event in events:
            if event.ordinal is not None:
                self._measure(event.ordinal, event)
            elif event.kind == "selecting":
                self._compare_on(event.body)
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
        """The best of the last round and the baselines, by weights; the lowest ordinal of equals.

        Among those that violate the constraints least, mostly not at all. Who left in an earlier
        round was scored on fewer examples, and takes no part.

        Args:
            weights: by objective, not negative, 0 where silent; those of the spec by default.
        """
        playing = {*self._round.contenders, *self.baselines.values()}
        among = self._up_to_date() | {n for n in playing if self._seen.get(n, 0) > 0}
        return next(iter(self._ranking.order(self._points(self.selected), among, weights)), None)

    def shortlist(self, evaluations: int, examples: int) -> list[int]:
        """Ordinals whose search examples must be known to name the finalists.

        Args:
            evaluations: of the search.
            examples: of the largest task on select; 0 where that is not known.
        """
        return shortlist(
            self._ranking,
            self._points(self._searched),
            self._complete(),
            most_finalists(evaluations, examples),
        )

    def open(self, scores: Mapping[int, Scores], evaluations: int, examples: int) -> dict[str, Any]:
        """Body of the event that opens the selection.

        Args:
            scores: on the search split, of those on the shortlist, in its order.
            evaluations: as in `shortlist`.
            examples: likewise.
        """
        named = finalists(
            self._ranking,
            self._points(self._searched),
            scores,
            most=most_finalists(evaluations, examples),
            seed=self._seed,
        )
        return self._body(first_round(named, examples))

    def go_on(self, examples: int) -> dict[str, Any] | None:
        """Body of the event that opens the next round; None after the last."""
        wanted = {*self._up_to_date(), *self.baselines.values()}
        points = self._points({n: s for n, s in self.selected.items() if n in wanted})
        following = next_round(self._round, self._ranking, points, examples)
        return None if following is None else self._body(following)

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
        values = self._ranking.preferences(self._points(self.selected))
        parents = [n for name, n in self.baselines.items() if name in self._parents and n in values]
        best = max(parents, key=lambda n: values[n], default=None)
        names = {n: name for name, n in self.baselines.items()}
        return {
            "gains": {name: _gains_to_json(gain) for name, gain in gains.items()},
            "best_parent": None if best is None else names[best],
        }

    def _gains(self, ours: Scores, theirs: Scores) -> Mapping[str, Difference]:
        rng = np.random.default_rng(self._seed)
        unit = self._ranking.unit(self._points(self.selected))
        gains = {o.key: difference(ours[o.key], theirs[o.key], rng) for o in self._objectives}
        return {OVERALL: overall(ours, theirs, self._objectives, unit, rng), **gains}

    def _up_to_date(self) -> set[int]:
        """Who was scored on as many examples as this round is of."""
        enough = self._round.first or math.inf
        return {n for n, seen in self._seen.items() if seen >= enough}

    def _body(self, following: Round) -> dict[str, Any]:
        return {
            "finalists": list(following.contenders),
            "rungs": list(following.rungs),
            "baselines": self._known(self._searched),
        }

    def _compare_on(self, body: Mapping[str, Any]) -> None:
        """Begin a round; the first of a selection names the finalists."""
        self._round = Round(tuple(body["finalists"]), tuple(body.get("rungs", ())))
        if len(self._round.rungs) <= 1:
            self.finalists = self._round.contenders

    def _measure(self, ordinal: int, event: Event) -> None:
        if not _is_finite(event.scores, [objective.key for objective in self._objectives]):
            if event.kind == "selected":
                self._seen[ordinal] = 0
            return
        match event.kind:
            case "scored":
                self._searched[ordinal] = event.scores
            case "selected":
                self.selected[ordinal] = event.scores
                self._seen[ordinal] = event.body.get("first", math.inf)
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

    def _points(self, scores: Mapping[int, Mapping[str, Summary]]) -> Points:
        return {
            n: np.array([found[o.key].value for o in self._objectives], dtype=np.float64)
            for n, found in scores.items()
        }


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
