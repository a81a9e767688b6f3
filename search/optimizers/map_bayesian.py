"""Bayesian MAP: more design points in directions where the quadratics are wrong or unsure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from search.optimizer import Options, RacesOn, Task, needs_genes, optimizers
from search.optimizers.uniform import SobolPoints
from search.outcome import Candidate, Origin, Outcome
from search.predicted_front import Evolution, PredictedFront
from search.space import Genome
from search.spec import SearchSpec
from search.threads import one_thread

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Bins = NDArray[np.int64]

_RIGHT_ANGLE = np.pi / 2
# Bins halve or quarter every angle: with more genes there are more bins than evaluations.
_MOST_GENES = 10
# As in the published program: weight of the spread, its rounds and what each leaves out, the
# temperature of the draw, and how far from the origin the new points lie.
_SPREAD, _ROUNDS, _LEFT_OUT, _TEMPERATURE = 0.5, 30, 0.2, 0.07
_NEAREST, _FARTHEST = 0.2, 0.8


class BayesianMAPOptions(Options):
    """Options of Bayesian MAP."""

    initial: Annotated[
        int | None, Field(ge=1, le=100_000, description="design points before the first fit")
    ] = None
    acquired: Annotated[
        int | None,
        Field(
            ge=0, le=100_000, description="points where fits are bad, before the front is looked at"
        ),
    ] = None
    population: Annotated[int, Field(ge=8, le=400, description="of NSGA-III")] = 40
    generations: Annotated[int, Field(ge=1, le=1000, description="of NSGA-III")] = 15


@optimizers.register
class BayesianMAP:
    """Samples where the surrogates' errors are large, then evaluates the front that they predict.

    Li et al. 2024, Bayesian variant: the directions from the origin are cut into bins by angle; a
    bin's score is the mean squared error of its points plus half the spread of that mean; the next
    point lies in a bin drawn by the softmax of scores, at a random angle and radius. By default
    half of as many points as there are coefficients are design points, and the other half acquired.

    Differs from the published program, which would not do this: every outcome counts in the scores
    from then on, and in the last fit; each round leaves a fifth of all of a bin's points out, not
    of what the round before left; a bin without points scores as the worst of the others, so that
    it is looked at. Differs from the paper in that tasks share their points, because a candidate is
    scored on all of them; errors are in units of the scores' range, and averaged over tasks.
    """

    name: ClassVar[str] = "map_bayesian"
    summary: ClassVar[str] = "As map, after more points in directions where the model errs."
    source: ClassVar[str] = "Li et al. 2024, arXiv:2406.07529, Bayesian variant"
    options: ClassVar[type[Options]] = BayesianMAPOptions
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "front"

    def __init__(self, task: Task, options: BayesianMAPOptions) -> None:
        dim = task.space.dim
        half = ((dim + 1) * (dim + 2) // 2 + 1) // 2
        self._task = task
        self._initial = half if options.initial is None else options.initial
        acquired = half if options.acquired is None else options.acquired
        self._designed = self._initial + acquired
        self._points = SobolPoints(dim, task.generator(0))
        self._front = PredictedFront(task, Evolution(options.population, options.generations))

    def ask(
        self, ordinal: int, rng: np.random.Generator, pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        index = ordinal - self._task.opening
        if index < self._initial or len(self._front) < 2:
            return self._task.candidate(ordinal, self._points[index], Origin("sample"))
        if index < self._designed:
            return self._task.candidate(ordinal, self._acquired(rng), Origin("acquisition"))
        genome = self._front.choose(rng, self._task.genomes(pending))
        return self._task.candidate(ordinal, genome, Origin("predicted_front"))

    def tell(self, outcome: Outcome) -> None:
        self._front.learn(outcome)

    @staticmethod
    def problems(
        spec: SearchSpec,  # noqa: ARG004  # only genes matter
        dim: int,
        options: BayesianMAPOptions,  # noqa: ARG004
    ) -> Mapping[str, str]:
        if dim > _MOST_GENES:
            return {
                "optimizer.name": f"map_bayesian cuts directions of at most {_MOST_GENES} genes "
                f"into bins; the space has {dim}. Use map, or fewer blocks"
            }
        return needs_genes(dim)

    def status(self) -> str:
        """What it is at, in a sentence."""
        return (
            "Samples directions in which quadratics err most, then looks where they predict the "
            f"front; {self._front.quality()}."
        )

    def _acquired(self, rng: np.random.Generator) -> Genome:
        """A point in a direction where the surrogates are wrong or unsure."""
        genomes, values = self._front.genomes, self._front.values
        with one_thread():
            error = self._front.predict(genomes) - values
        unit = np.ptp(values, axis=0)
        squared = ((error / np.where(unit > 0, unit, 1.0)) ** 2).mean(axis=1)
        everything = bins(self._task.space.dim)
        scores = bin_scores(bin_of(genomes), squared, everything, rng)
        chances = np.exp((scores - scores.max()) / _TEMPERATURE)
        chosen = everything[int(rng.choice(len(everything), p=chances / chances.sum()))]
        angles = (chosen + rng.random(len(chosen))) / _cuts(self._task.space.dim) * _RIGHT_ANGLE
        return np.clip(point_at(angles, rng.uniform(_NEAREST, _FARTHEST)), 0.0, 1.0)


def _cuts(dim: int) -> int:
    """How many bins an angle is cut into."""
    return 4 if dim < 4 else 2


def bins(dim: int) -> Bins:
    """(bins, dim - 1) every bin by its place along each angle."""
    cuts = _cuts(dim)
    return np.indices((cuts,) * (dim - 1)).reshape(dim - 1, cuts ** (dim - 1)).T


def bin_of(genomes: Matrix) -> Bins:
    """(n, dim - 1) the bin that each of (n, dim) points without negative coordinates lies in."""
    cuts = _cuts(genomes.shape[1])
    return np.minimum(angles_of(genomes) / _RIGHT_ANGLE * cuts, cuts - 1).astype(np.int64)


def angles_of(points: Matrix) -> Matrix:
    """(n, dim - 1) hyperspherical angles in [0, pi / 2] of (n, dim) points not below 0.

    The i-th is that between the i-th axis and what is left without the axes before.
    """
    rest = np.sqrt(np.cumsum(points[:, ::-1] ** 2, axis=1))[:, ::-1]
    return np.asarray(np.arctan2(rest[:, 1:], points[:, :-1]))


def point_at(angles: Vector, radius: float) -> Genome:
    """(dim,) the point at (dim - 1,) angles and a distance from the origin."""
    sines = np.concatenate(([1.0], np.cumprod(np.sin(angles))))
    cosines = np.concatenate((np.cos(angles), [1.0]))
    genome: Genome = radius * sines * cosines
    return genome


def bin_scores(places: Bins, squared: Vector, everything: Bins, rng: np.random.Generator) -> Vector:
    """(bins,) how badly each bin needs a point: mean error, and half the spread of that mean.

    Args:
        places: (n, dim - 1) the bins of the points.
        squared: (n,) their squared errors.
        everything: (bins, dim - 1) all bins.
        rng: leaves points out.
    """
    scores = np.full(len(everything), -np.inf)
    for index, place in enumerate(everything):
        inside = squared[(places == place).all(axis=1)]
        if len(inside):
            scores[index] = inside.mean() + _SPREAD * _spread(inside, rng)
    # What nobody knows may be as bad as the worst that is known.
    return np.where(np.isfinite(scores), scores, scores.max())


def _spread(squared: Vector, rng: np.random.Generator) -> float:
    """Standard deviation of the mean of (n,) numbers when a fifth of them are left out at random.

    Every round leaves out of all of them, so that none runs out of points.
    """
    kept = len(squared) - int(_LEFT_OUT * len(squared))
    rounds = [rng.choice(squared, size=kept, replace=False).mean() for _ in range(_ROUNDS)]
    return float(np.std(rounds))
