"""Bayesian search for the front: what a few dozen evaluations are best spent on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from search.features import Features
from search.gaussian_process import Hyperparameters
from search.handover import Handover
from search.improvement import Boxes
from search.optimizer import Options, RacesOn, Task, needs_genes, optimizers
from search.optimizers.uniform import SobolPoints
from search.outcome import KEPT, Candidate, Origin, Outcome, Scored
from search.pareto import first_front, front, hypervolume, span
from search.posterior import Observations, Posterior, explained, learned, posterior
from search.run import opening
from search.space import Genome
from search.spec import SearchSpec
from search.threads import one_thread
from search.warm_starts import warm_starts

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

_MOST_SAMPLES = 1
# Hyperparameters are learned from so many points, and predictions made from so many: more cost
# time with the cube of their number and tell little, being far from where the search has come to.
_MOST_LEARNED_FROM, _MOST_KNOWN = 128, 300
# Boxes grow with front and objectives; fronts are thinned to so many points by objectives. What is
# thinned out is looked for again, so that only what takes too long is.
_MOST_ON_FRONT = {1: 1, 2: 200, 3: 200, 4: 200, 5: 64, 6: 24}
_FEWEST_ON_FRONT = 12
# The pool from which a candidate is chosen: anywhere, and near the front by normal steps of these
# sizes; then rounds of ever smaller steps around the best of the pool.
_ANYWHERE, _NEAR, _STEPS = 150, 90, (0.02, 0.06, 0.15)
_BETWEEN = 80
_ROUNDS, _BEST, _OFFSPRING, _ROUND_STEP = 4, 16, 8, 0.05
# A step changes about so many genes: all of them would leave a good region of many dimensions.
_GENES_AT_A_TIME = 20
# A smaller gain, in units of the uncertainty, is none.
_NOTHING = 1e-6
# Fewer scores tell nothing.
_FEWEST = 4
# Nearer points are one and the same model for all that scores can tell.
_SAME = 1e-3
# How many more outcomes there are before hyperparameters are learned again.
_GROWTH = 1.12


class AutoOptions(Options):
    """There is nothing to set."""


@dataclass(frozen=True, slots=True, eq=False)
class _Lesson:
    """What the scores have taught about how they vary.

    Args:
        anchor: number of scores that it is learned from.
        hyperparameters: of every metric.
        r2: (objectives,) see `search.posterior.explained`.
    """

    anchor: int
    hyperparameters: tuple[Hyperparameters, ...]
    r2: Vector


@optimizers.register
class Auto:
    """Models every metric by a Gaussian process and goes where the front is expected to grow most.

    Opens with weights that are known to be good and a few spread points. From then on each
    candidate is the one of greatest expected hypervolume improvement, candidates in flight taken
    as if they had come out as predicted (the "kriging believer" of Ginsbourger et al. 2010).
    Metrics are modelled on the scale of their link, where a proportion has no ends. Improvement
    counts above what constraints demand, by the probability that no upper bound is exceeded
    (Gardner et al. 2014, "Bayesian optimization with inequality constraints"). Where there is one
    score, CMA-ES shares a long search: it needs no surrogate, whose cost limits what it looks at.
    """

    name: ClassVar[str] = "auto"
    summary: ClassVar[str] = "Bayesian search for the whole front; the best of each evaluation."
    source: ClassVar[str] = "Yang et al. 2019, doi:10.1007/s10898-019-00798-7; MAP's quadratics"
    options: ClassVar[type[Options]] = AutoOptions
    needs_geometry: ClassVar[bool] = True
    races_on: ClassVar[RacesOn] = "front"

    def __init__(self, task: Task, _options: AutoOptions) -> None:
        self._task = task
        self._features = Features(task.space, task.geometry)
        self._points = SobolPoints(task.space.dim, task.generator(0))
        known = [np.array(c.genome) for c in opening(task.space) if c.genome is not None]
        self._design = warm_starts(task.space, task.geometry, known)
        self._initial = len(self._design) + min(_MOST_SAMPLES, task.space.dim)
        self._baselines: list[tuple[str, Vector]] = []
        self._told = 0
        self._genomes: list[Genome] = []
        self._values: list[Vector] = []  # of NaN where a candidate could not be scored
        self._errors: list[Vector] = []
        self._counts: list[tuple[int, ...]] = []  # of the last that was scored
        self._learned: _Lesson | None = None
        self._constraints = task.constraints()
        # A single score is what CMA-ES was made for; it learns from more than a process looks at.
        self._evolution = Handover(task, _MOST_KNOWN) if len(task.objectives) == 1 else None

    def ask(
        self, ordinal: int, rng: np.random.Generator, pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        index = ordinal - self._task.opening
        if index < self._initial or self._scored().sum() < _FEWEST:
            return self._task.candidate(ordinal, self._spread(index), Origin("sample"))
        if self._evolution is not None and self._evolution.has_begun and ordinal % 2:
            return self._evolution.ask(ordinal, rng, pending)
        waiting = [candidate.genome for candidate in pending if candidate.genome is not None]
        with one_thread():
            genome, _ = self._promising(np.reshape(waiting, (-1, self._task.space.dim)), rng)
        return self._task.candidate(ordinal, genome, Origin("expected_improvement"))

    def tell(self, outcome: Outcome) -> None:
        self._told += 1
        candidate, values = outcome.candidate, self._task.values(outcome)
        self._constraints.learn(candidate.ordinal, values)
        if self._evolution is not None:
            self._evolution.tell(outcome)
        is_own = candidate.ordinal < self._task.opening and candidate.origin.move != KEPT
        if values is not None and is_own:
            self._baselines.append((candidate.origin.move, values))
        if candidate.genome is None:
            return
        self._genomes.append(np.array(candidate.genome))
        unknown = np.full(len(self._task.objectives), np.nan)
        self._values.append(unknown if values is None else values)
        self._errors.append(unknown)
        self._counts += self._counts[-1:] or [(1,) * len(self._task.objectives)]
        if values is not None and isinstance(outcome, Scored):
            scores = [outcome.scores[o.key] for o in self._task.objectives]
            self._errors[-1] = np.array([score.stderr for score in scores])
            self._counts[-1] = tuple(max(score.count, 1) for score in scores)

    def expected_gain(self) -> float | None:
        values = np.reshape(self._values, (-1, len(self._task.objectives)))[self._scored()]
        if len(values) < max(_FEWEST, self._initial):
            return None
        nothing = np.empty((0, self._task.space.dim))
        with one_thread():
            _, gain = self._promising(nothing, self._task.generator(1))
        holding = values[self._constraints.violation(values) == 0]
        volume = hypervolume(holding, self._reference(values))
        return max(gain, 0.0) / volume if volume > 0 else None

    def status(self) -> str:
        scored = int(self._scored().sum())
        if self._told < self._task.opening + self._initial or scored < _FEWEST:
            return (
                "Scores merges that papers recommend and points spread over the space, from which "
                f"Gaussian processes can learn; {scored} are scored."
            )
        with one_thread():
            r2 = self._lesson().r2
        goal = "the score" if len(r2) == 1 else "the front"
        status = (
            f"Goes where {goal} is expected to grow most, by Gaussian processes over {scored} "
            f"merges; they predict merges that they were not shown with an R² of {_range(r2)}"
        )
        if self._evolution is not None and self._evolution.has_begun:
            return f"{status}. Every other candidate is of CMA-ES, which learns from any number."
        return f"{status}."

    @staticmethod
    def problems(spec: SearchSpec, dim: int, options: AutoOptions) -> Mapping[str, str]:  # noqa: ARG004  # only genes matter
        return needs_genes(dim)

    def _spread(self, index: int) -> Genome:
        """What is tried before anything is believed."""
        if index < len(self._design):
            return self._design[index]
        return self._points[index - len(self._design)]

    def _scored(self) -> NDArray[np.bool_]:
        """(n,) which of the candidates that were told have scores."""
        values = np.reshape(self._values, (-1, len(self._task.objectives)))
        return np.asarray(np.isfinite(values).all(axis=1))

    def _known(self, told: int) -> Observations:
        """The first so many that were told; what could not be scored is as bad as the worst."""
        values = np.stack(self._values[:told])
        values = np.where(np.isfinite(values), values, np.nanmin(values, axis=0))
        features = self._features(np.stack(self._genomes[:told]))
        return Observations(features, values, np.stack(self._errors[:told]), self._counts[told - 1])

    def _lesson(self) -> _Lesson:
        """What was learned when it was last time to; the same whoever asks, and when."""
        scored = np.flatnonzero(self._scored())
        anchor = _anchor(len(scored))
        if self._learned is None or self._learned.anchor != anchor:
            # Not a part of all that is known: it would depend on what was told since.
            early = self._known(int(scored[anchor - 1]) + 1)
            sample = early[_telling(early.values, _MOST_LEARNED_FROM)]
            found = learned(sample, self._features.groups)
            nothing = np.empty((0, sample.features.shape[1]))
            r2 = explained(posterior(sample, nothing, found))
            self._learned = _Lesson(anchor, found, r2)
        return self._learned

    def _belief(self, known: Observations, waiting: Matrix) -> Posterior:
        near = known[_telling(known.values, _MOST_KNOWN)]
        return posterior(near, self._features(waiting), self._lesson().hyperparameters)

    def _promising(self, waiting: Matrix, rng: np.random.Generator) -> tuple[Genome, float]:
        """The genome of greatest expected improvement, given those in flight, and how much."""
        known, scored = self._known(len(self._genomes)), self._scored()
        belief = self._belief(known, waiting)
        genomes, values = np.stack(self._genomes)[scored], known.values[scored]
        reference = self._reference(values)
        best = first_front(values, self._constraints.violation(values))
        expected = np.concatenate((values[best], belief(self._features(waiting))[0]))
        holding = expected[self._constraints.violation(expected) == 0]
        boxes = Boxes.beyond(_thinned(holding, reference), reference)
        taken = KDTree(np.concatenate((np.stack(self._genomes), waiting)))
        unit = span(values)

        def worth(pool: Matrix) -> Matrix:
            """(n, 2) expected gain; and how near the reference is, for where nothing is gained.

            Gain counts where no upper bound is exceeded; the reference is above all lower ones.
            """
            mean, sd = belief(self._features(pool))
            gain = boxes.expected_gain(mean, sd) * self._constraints.chance(mean, sd)
            gain[gain < _NOTHING * sd.prod(axis=1)] = 0.0
            nearest, _ = taken.query(pool, p=np.inf, distance_upper_bound=_SAME)
            gain[np.isfinite(nearest)] = -1.0
            inside = np.minimum(mean + sd - reference, self._constraints.high - mean + sd)
            return np.stack((gain, (inside / unit).min(axis=1)), axis=1)

        useful = best & (values > reference).all(axis=1)
        pool = self._pool(genomes[useful if useful.any() else best], rng)
        value = worth(pool)
        for step in _ROUND_STEP * 0.5 ** np.arange(_ROUNDS):
            leaders = np.lexsort(value.T[::-1])[::-1][:_BEST]
            around = _moved(np.repeat(pool[leaders], _OFFSPRING, axis=0), float(step), rng)
            pool = np.concatenate((pool[leaders], around))
            value = np.concatenate((value[leaders], worth(around)))
        best_of_all = np.lexsort(value.T[::-1])[-1]
        return pool[best_of_all], float(value[best_of_all, 0])

    def _pool(self, best: Matrix, rng: np.random.Generator) -> Matrix:
        """(n, dim) genomes to choose from: anywhere, near the best ones, and between them."""
        dim = self._task.space.dim
        pairs = rng.integers(len(best), size=(_BETWEEN, 2))
        share = rng.uniform(-0.2, 1.2, size=(_BETWEEN, 1))
        line = best[pairs[:, 0]] * share + best[pairs[:, 1]] * (1.0 - share)
        near = [_moved(best[rng.integers(len(best), size=_NEAR)], step, rng) for step in _STEPS]
        return np.concatenate((rng.random((_ANYWHERE, dim)), np.clip(line, 0.0, 1.0), *near))

    def _reference(self, values: Matrix) -> Vector:
        """(objectives,) the point above which improvement counts, given (n, objectives) scores.

        A tenth of the baselines' span below the worse of base and average: what a specialist gives
        up for its own task is known already. Constraints say themselves what may be given up: then
        it is below the worst that was seen, but never below what they demand.
        """
        if self._task.floor is not None:
            return np.maximum(self._task.floor, self._constraints.low)
        points = np.stack([scores for _, scores in self._baselines] or list(values))
        shared = [scores for move, scores in self._baselines if move in ("base", "average")]
        given_up = values if self._constraints else np.stack(shared or list(points))
        below: Vector = given_up.min(axis=0) - 0.1 * span(points)
        return np.maximum(below, self._constraints.low)


def _range(numbers: Vector) -> str:
    low, high = (f"{number:.2f}" for number in (numbers.min(), numbers.max()))
    return low if low == high else f"{low} to {high}"


def _anchor(scored: int) -> int:
    """The latest count of scored outcomes at which hyperparameters were learned."""
    anchor = following = min(scored, _FEWEST)
    while following <= scored:
        anchor, following = following, max(following + 1, int(_GROWTH * following))
    return anchor


def _telling(values: Matrix, most: int) -> NDArray[np.int64]:
    """At most so many rows of (n, objectives) values: half of them the best, half the newest."""
    count = len(values)
    if count <= most:
        return np.arange(count)
    merit = ((values - values.mean(axis=0)) / (values.std(axis=0) + 1e-9)).mean(axis=1)
    best = np.argsort(-merit, kind="stable")[: most // 2]
    rest = np.setdiff1d(np.arange(count), best)
    return np.sort(np.concatenate((best, rest[-(most - len(best)) :])))


def _moved(genomes: Matrix, step: float, rng: np.random.Generator) -> Matrix:
    """Each of (n, dim) genomes with some of its genes moved; at least one."""
    count, dim = genomes.shape
    moves = rng.random((count, dim)) < _GENES_AT_A_TIME / dim
    moves[np.arange(count), rng.integers(dim, size=count)] = True
    moved: Matrix = genomes + step * moves * rng.standard_normal((count, dim))
    return np.clip(moved, 0.0, 1.0)


def _thinned(points: Matrix, reference: Vector) -> Matrix:
    """The front of (n, objectives) points above the reference, or a spread part of it."""
    above = points[(points > reference).all(axis=1)]
    tips = np.unique(above[front(above)], axis=0)
    most = _MOST_ON_FRONT.get(tips.shape[1], _FEWEST_ON_FRONT)
    if len(tips) <= most:
        return tips
    scaled = (tips - tips.min(axis=0)) / np.maximum(np.ptp(tips, axis=0), 1e-9)
    chosen = [int(np.argmax(scaled.sum(axis=1)))]
    apart = np.full(len(tips), np.inf)
    while len(chosen) < most:
        apart = np.minimum(apart, np.linalg.norm(scaled - scaled[chosen[-1]], axis=1))
        chosen.append(int(np.argmax(apart)))
    return tips[chosen]
