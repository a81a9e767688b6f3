"""Nested MAP: parents merged two by two, each time where quadratics of two coefficients say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from search.merit import Merits
from search.optimizer import Options, RacesOn, Task, optimizers
from search.optimizers.uniform import SobolPoints
from search.outcome import Candidate, Origin, Outcome, Scored
from search.parent_weights import needs_weights, weighted
from search.pareto import preference, span
from search.predicted_front import quality
from search.spec import SearchSpec
from search.surrogate import Surrogate, fit, link_for, shapes_for
from search.threads import one_thread

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

# Of the points of a merge, every so-manieth has two equal coefficients: a fifth, as published.
_EQUAL_EVERY = 5
# Where the best pair of coefficients is looked for, and how far apart the last merge's are.
_GRID = 41
_APART = 0.02
_HALVES = np.full(2, 0.5)


class NestedMAPOptions(Options):
    """Options of nested MAP."""

    points: Annotated[
        int,
        Field(ge=6, le=1000, description="candidates for each merge of two, before it is decided"),
    ] = 20


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    """A parent, or a merge of some: (parents,) weights, and the metric by which it is paired."""

    weights: Vector
    metric: float
    members: int


@dataclass(frozen=True, slots=True, eq=False)
class _Tried:
    """A candidate of a merge: (2,) coefficients, (objectives,) scores, examples of each."""

    ordinal: int
    coefficients: Vector
    values: Vector
    counts: tuple[int, ...]


@optimizers.register
class NestedMAP:
    """n - 1 merges of two, for many parents and one preference: evaluations grow with n only.

    Li et al. 2024, nested variant: the two nodes of nearest metric are merged at some pairs of
    coefficients, a fifth of them equal; quadratics are fitted to these; the pair that they predict
    to be best by the spec's weights makes the new node, whose metric is the mean of its members'.
    After the last merge candidates follow the surrogates of that merge, fitted to ever more.
    While parents' scores are on their way, candidates have equal weights of all.

    Differs from the paper: a parent's metric is its preference, because candidates are scored on
    all tasks and parents need not belong to one each; the best of the predicted front is found on a
    grid, which has two dimensions. A merge is decided by what is known when the next one begins;
    as many more candidates as are in flight meanwhile are candidates of the same merge.
    """

    name: ClassVar[str] = "map_nested"
    summary: ClassVar[str] = "Merges parents two by two by quadratic models; for many parents."
    source: ClassVar[str] = "Li et al. 2024, arXiv:2406.07529, nested variant"
    options: ClassVar[type[Options]] = NestedMAPOptions
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "preference"

    def __init__(self, task: Task, options: NestedMAPOptions) -> None:
        self._task = task
        self._points = options.points
        self._design = SobolPoints(2, task.generator(0))
        self._merits = Merits(task)
        self._weights = [objective.weight for objective in task.objectives]
        self._baselines: dict[int, Vector] = {}  # scores of base and parents, by ordinal
        self._tried: list[list[_Tried]] = [[] for _ in range(self._merges)]
        self._taken: list[Vector] = []  # coefficients of the last merge, also without scores
        self._told = 0
        self._decided: dict[int, tuple[_Node, ...]] = {}

    def ask(
        self, ordinal: int, rng: np.random.Generator, pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        if ordinal < self._first:
            level = np.full(len(self._task.space.parents), rng.random())
            genome = weighted(self._task.space, level)
            return self._task.candidate(ordinal, genome, Origin("sample"))
        merge, place = divmod(ordinal - self._first, self._length)
        if merge < self._merges:
            coefficients = self._designed(merge, place, rng)
        else:
            merge, coefficients = self._merges - 1, self._refined(pending)
        return self._candidate(ordinal, merge, coefficients)

    def tell(self, outcome: Outcome) -> None:
        self._told += 1
        values, candidate = self._merits.learn(outcome), outcome.candidate
        if candidate.origin.move == "pair" and _merge_of(candidate) == self._merges - 1:
            self._taken.append(_coefficients(candidate))
        if values is None or not isinstance(outcome, Scored):
            return
        if candidate.ordinal <= len(self._task.space.parents):
            self._baselines[candidate.ordinal] = values
        if candidate.origin.move == "pair":
            counts = tuple(outcome.scores[o.key].count for o in self._task.objectives)
            tried = _Tried(candidate.ordinal, _coefficients(candidate), values, counts)
            self._tried[_merge_of(candidate)].append(tried)

    @staticmethod
    def problems(
        spec: SearchSpec,
        dim: int,
        options: NestedMAPOptions,  # noqa: ARG004  # any will do
    ) -> Mapping[str, str]:
        return needs_weights(spec, dim, "map_nested merges parents two by two")

    def status(self) -> str:
        """What it is at, in a sentence."""
        tried = [merge for merge in self._tried if len(merge) > 1]
        at = max(len(tried), 1)
        begun = f"Merges two of {len(self._task.space.parents)} parents at a time, merge {at}"
        if not tried:
            return f"{begun}; no fit yet."
        with one_thread():
            surrogates = _fitted(tried[-1])
        values = np.stack([one.values for one in tried[-1]])
        return f"{begun}; {quality(surrogates, values, self._task)}."

    @property
    def _merges(self) -> int:
        return len(self._task.space.parents) - 1

    @property
    def _first(self) -> int:
        """The ordinal of the first candidate of a merge: then all parents' scores are known."""
        return max(self._task.opening, len(self._task.space.parents) + self._task.parallel)

    @property
    def _length(self) -> int:
        """Candidates of a merge: those that it is decided by, and what is in flight meanwhile."""
        return self._points + self._task.parallel - 1

    def _candidate(self, ordinal: int, merge: int, coefficients: Vector) -> Candidate:
        one, other = _pair(self._nodes(merge))
        weights = coefficients[0] * one.weights + coefficients[1] * other.weights
        first, second = coefficients.tolist()
        origin = Origin("pair", detail={"merge": float(merge), "first": first, "second": second})
        return self._task.candidate(ordinal, weighted(self._task.space, weights), origin)

    def _designed(self, merge: int, place: int, rng: np.random.Generator) -> Vector:
        if place % _EQUAL_EVERY == _EQUAL_EVERY - 1:
            return np.full(2, rng.random())
        return self._design[merge * self._length + place]

    def _nodes(self, merge: int) -> tuple[_Node, ...]:
        """What there is to merge when a merge begins; the first two are merged by nobody yet."""
        if merge in self._decided:
            return self._decided[merge]
        known = max(0, self._first + merge * self._length - self._task.parallel + 1)
        nodes = self._parents_known(known) if merge == 0 else self._merged(merge - 1, known)
        if self._told >= known:
            self._decided[merge] = nodes
        return nodes

    def _parents_known(self, told: int) -> tuple[_Node, ...]:
        """The parents; those that were not scored among so many have the metric of the worst."""
        count = len(self._task.space.parents)
        scores = {ordinal: v for ordinal, v in self._baselines.items() if ordinal < told}
        unit = span(np.reshape(list(scores.values()), (-1, len(self._weights))))
        metrics = {o: float(preference(v, self._weights, unit)) for o, v in scores.items()}
        worst = min(metrics.values(), default=0.0)
        return tuple(
            _Node(weights, metrics.get(ordinal, worst), 1)
            for ordinal, weights in enumerate(np.eye(count), start=1)
        )

    def _merged(self, merge: int, told: int) -> tuple[_Node, ...]:
        """What is left when a merge is decided by what is known of it among so many outcomes."""
        nodes = self._nodes(merge)
        one, other = _pair(nodes)
        tried = [candidate for candidate in self._tried[merge] if candidate.ordinal < told]
        coefficients = self._best(tried, np.zeros((0, 2)))
        members = one.members + other.members
        merged = _Node(
            coefficients[0] * one.weights + coefficients[1] * other.weights,
            (one.metric * one.members + other.metric * other.members) / members,
            members,
        )
        return (*(node for node in nodes if node is not one and node is not other), merged)

    def _refined(self, pending: Sequence[Candidate]) -> Vector:
        """The best that is predicted of the last merge, apart from all that was tried of it."""
        flying = [
            _coefficients(candidate)
            for candidate in pending
            if candidate.origin.move == "pair" and _merge_of(candidate) == self._merges - 1
        ]
        return self._best(self._tried[-1], np.reshape([*self._taken, *flying], (-1, 2)))

    def _best(self, tried: Sequence[_Tried], taken: Matrix) -> Vector:
        """(2,) the coefficients that are predicted to be best, apart from (n, 2) others.

        Of equals the nearest to a half of both, as while there is nothing to fit.
        """
        line = np.linspace(0.0, 1.0, _GRID)
        grid = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
        near = np.zeros(len(grid), dtype=np.bool_)
        if len(taken):
            near = (np.abs(grid[:, None] - taken).max(axis=2) < _APART).any(axis=1)
        aside = np.abs(grid - _HALVES).max(axis=1)
        value = missed = np.zeros(len(grid))
        if len(tried) > 1:
            with one_thread():
                predicted = np.stack([s(grid) for s in _fitted(tried)], axis=1)
            value = preference(predicted, self._weights, self._merits.unit)
            missed = self._merits.constraints.violation(predicted)
        best: Vector = grid[np.lexsort((aside, -value, missed, near))[0]]
        return best


def _merge_of(candidate: Candidate) -> int:
    return int(float(candidate.origin.detail["merge"]))


def _coefficients(candidate: Candidate) -> Vector:
    detail = candidate.origin.detail
    return np.array([float(detail["first"]), float(detail["second"])])


def _pair(nodes: Sequence[_Node]) -> tuple[_Node, _Node]:
    """The two of nearest metric, the first ones of several."""
    pairs = [(a, b) for i, a in enumerate(nodes) for b in nodes[i + 1 :]]
    return min(pairs, key=lambda pair: abs(pair[0].metric - pair[1].metric))


def _fitted(tried: Sequence[_Tried]) -> tuple[Surrogate, ...]:
    """A quadratic of two coefficients for each objective."""
    points = np.stack([candidate.coefficients for candidate in tried])
    values = np.stack([candidate.values for candidate in tried])
    shapes = shapes_for([[0], [1]], len(tried))
    return tuple(
        fit(points, metric, link_for(metric, count), shapes)
        for metric, count in zip(values.T, tried[-1].counts, strict=True)
    )
