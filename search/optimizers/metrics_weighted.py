"""Metrics-weighted averaging: checkpoints of a series, weighted by score or by place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from search.merit import WORST, Merit, Merits
from search.optimizer import Options, RacesOn, Task, optimizers
from search.outcome import Candidate, Origin, Outcome
from search.parent_weights import needs_weights, weighted
from search.spec import SearchSpec

Vector = NDArray[np.float64]

# Schemes, by the names that users read: softmax, power and rank of the score, power of the place.
_SCHEMES = ("softmax", "power", "rank", "place")
# These weigh all alike where all scores are alike.
_OF_SCORES = ("softmax", "power")
_GREATEST_PENALTY = 10.0
# So many penalties of every scheme are spread evenly; then the best scheme's best is refined.
_SPREAD = 4
_STEP, _SHRINK, _SMALLEST = 2.0, 0.9, 0.05


class MetricsWeightedOptions(Options):
    """Metrics-weighted averaging has no options."""


@optimizers.register
class MetricsWeighted:
    """Averages all parents with weights that follow from their own scores and one number.

    Yu and Choi 2025: with a penalty factor p, weights are proportional to a power p of the metric
    or of the place in the series (parents in the order of the spec, the last one the newest). Also
    exp(p times the score in parts of the scores' range) and (1 + p) to the power of minus the rank.
    p = 0 is the uniform average. The paper's exact formula and its choice of p were not at hand:
    the schemes take turns with p between 0 and 10, then p is refined where it was best. The score
    of a parent is its preference, in spans of the baselines, from a span below the worst.
    """

    name: ClassVar[str] = "metrics_weighted"
    summary: ClassVar[str] = (
        "Weights checkpoints of a series by score or place; one number to find."
    )
    source: ClassVar[str] = "Yu and Choi 2025, arXiv:2504.18580"
    options: ClassVar[type[Options]] = MetricsWeightedOptions
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "preference"

    def __init__(self, task: Task, _options: MetricsWeightedOptions) -> None:
        self._task = task
        self._merits = Merits(task)
        self._shift = float(task.generator(0).random())
        self._parents: dict[str, Vector] = {}
        self._bests: dict[str, tuple[Merit, float]] = dict.fromkeys(_SCHEMES, (WORST, 0.0))

    def ask(
        self, ordinal: int, rng: np.random.Generator, _pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        turn, place = divmod(ordinal - self._task.opening, len(_SCHEMES))
        # Two of four candidates refine the best scheme, the others take turns.
        scheme = _SCHEMES[place] if turn < _SPREAD or place % 2 else self._best()
        if turn % 2 and turn >= _SPREAD and place % 2:
            scheme = _SCHEMES[place - 1]
        scores = self._scores()
        if np.ptp(scores) == 0 and scheme in _OF_SCORES:
            scheme = "place"
        penalty = self._penalty(scheme, turn, rng)
        genome = weighted(self._task.space, weights(scheme, scores, penalty))
        origin = Origin("weighting", detail={"scheme": scheme, "penalty": penalty})
        return self._task.candidate(ordinal, genome, origin)

    def tell(self, outcome: Outcome) -> None:
        values, origin = self._merits.learn(outcome), outcome.candidate.origin
        if values is None:
            return
        if origin.move == "parent":
            self._parents[str(origin.detail["name"])] = values
        if origin.move == "weighting":
            scheme, merit = str(origin.detail["scheme"]), self._merits(values)
            if merit > self._bests[scheme][0]:
                self._bests[scheme] = (merit, float(origin.detail["penalty"]))

    @staticmethod
    def problems(
        spec: SearchSpec,
        dim: int,
        options: MetricsWeightedOptions,  # noqa: ARG004  # there are none
    ) -> Mapping[str, str]:
        return needs_weights(spec, dim, "metrics_weighted averages parents")

    def status(self) -> str:
        """What it is at, in a sentence."""
        scheme = self._best()
        merit, penalty = self._bests[scheme]
        if merit == WORST:
            return "No weighting was scored yet."
        return f"The best weighting so far is by {scheme}, with a penalty factor of {penalty:.2f}."

    def _best(self) -> str:
        return max(_SCHEMES, key=lambda scheme: self._bests[scheme][0])

    def _penalty(self, scheme: str, turn: int, rng: np.random.Generator) -> float:
        """Spread at first; then near the best of the scheme, ever nearer."""
        merit, best = self._bests[scheme]
        if turn < _SPREAD:
            return float(_GREATEST_PENALTY * ((turn / _SPREAD + self._shift) % 1.0))
        if merit == WORST:
            return float(_GREATEST_PENALTY * rng.random())
        step = max(_SMALLEST, _STEP * _SHRINK ** (turn - _SPREAD))
        return float(np.clip(rng.normal(best, step), 0.0, _GREATEST_PENALTY))

    def _scores(self) -> Vector:
        """(parents,) preferences; those not scored (yet) as the worst that is known."""
        known = {n: self._merits(v).preference for n, v in self._parents.items()}
        worst = min(known.values(), default=0.0)
        return np.array([known.get(name, worst) for name in self._task.space.parents])


def weights(scheme: str, scores: Vector, penalty: float) -> Vector:
    """(n,) weights that sum to 1, of checkpoints with (n,) scores, the oldest first.

    Args:
        scheme: softmax, power, rank or place.
        scores: higher is better.
        penalty: 0 for equal weights; the higher it is, the less the worse count.
    """
    extent = np.ptp(scores)
    match scheme:
        case "softmax":
            raw = np.exp(penalty * (scores - scores.max()) / (extent + 1e-12))
        case "power":
            # A preference has no zero: it is taken a span below the worst.
            above = scores - scores.min() + 1.0
            raw = (above / above.max()) ** penalty
        case "rank":
            raw = (1.0 + penalty) ** -np.argsort(np.argsort(-scores, kind="stable")).astype(float)
        case "place":
            raw = (np.arange(1, len(scores) + 1) / len(scores)) ** penalty
        case _:
            raise ValueError(f"no scheme is called '{scheme}'")
    result: Vector = raw / raw.sum()
    return result
