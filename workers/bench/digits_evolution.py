"""The M2N2 paper's digits experiment with this project's archive and crossover."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import mannwhitneyu

from search.archives.niches import NicheArchive
from search.crossover import alternating, draw_splits, slerp_weights
from workers.bench.digits_network import SPREAD, WEIGHTS, Examples, Vector, digits, specialists
from workers.bench.tables import columns

# Where test accuracies are taken, up to the number of steps.
_CHECKPOINTS = (100, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
# Of the ratios of the best single merge.
_GRID = 1001
_POPULATION = 20


@dataclass(frozen=True, slots=True)
class Variant:
    """M2N2, or M2N2 without some part of it."""

    name: str
    alpha: float = 1.0
    matchmaker: bool = True
    split_points: int = 1


M2N2 = Variant("M2N2")
VARIANTS = (
    M2N2,
    Variant("no split point", split_points=0),
    Variant("no attraction", matchmaker=False),
    Variant("no competition", alpha=0.0),
    Variant("neither (genetic algorithm)", alpha=0.0, matchmaker=False),
)


@dataclass(frozen=True, slots=True)
class Start:
    """What evolution starts from.

    Args:
        name: of the two models.
        mutation: standard deviation of what is added to every weight of a child.
    """

    name: str
    mutation: float

    def models(self, train: Examples, rng: np.random.Generator) -> tuple[Vector, Vector]:
        """Random weights where there is mutation, else the paper's two specialists."""
        if not self.mutation:
            return specialists(train)
        return noise(SPREAD, rng), noise(SPREAD, rng)


SCRATCH = Start("from scratch", mutation=0.01)
SPECIALISTS = Start("from two specialists", mutation=0.0)


@dataclass(frozen=True, slots=True)
class Run:
    """One evolution.

    Args:
        variant, start, seed: which.
        test: step -> accuracy on test examples of whoever is best on those of the search.
        train: the same on those of the search, after the last step.
        seconds: of processor time for each step, without what test accuracies took.
    """

    variant: str
    start: str
    seed: int
    test: dict[int, float]
    train: float
    seconds: float


def evolve(
    variant: Variant, start: Start, *, steps: int, seed: int, data: tuple[Examples, Examples]
) -> Run:
    """Steady-state: each step makes, scores and offers one child."""
    train, test = data
    rng = np.random.Generator(np.random.SFC64([seed, 0]))
    archive: NicheArchive[Vector] = NicheArchive(
        _POPULATION, alpha=variant.alpha, matchmaker=variant.matchmaker
    )
    for model in start.models(train, rng):
        archive.add(model, [train.right(model)])
    found: dict[int, float] = {}
    seconds = 0.0
    for before, step in pairwise((0, *checkpoints(steps))):
        began = time.process_time()
        for _ in range(before, step):
            child = _child(archive, variant, start.mutation, rng)
            archive.add(child, [train.right(child)])
        seconds += time.process_time() - began
        best = max(archive.members, key=train.accuracy)
        found[step] = test.accuracy(best)
    return Run(variant.name, start.name, seed, found, train.accuracy(best), seconds / steps)


def checkpoints(steps: int) -> tuple[int, ...]:
    """After how many steps test accuracies are taken; the last of them included."""
    return (*(step for step in _CHECKPOINTS if step < steps), steps)


def _child(
    archive: NicheArchive[Vector], variant: Variant, mutation: float, rng: np.random.Generator
) -> Vector:
    x, y = (archive.members[i] for i in archive.draw(rng))
    splits = draw_splits(rng, WEIGHTS, variant.split_points)
    child = crossed(x, y, splits, float(rng.random()))
    if mutation:
        child += noise(mutation, rng)
    return child


def crossed(x: Vector, y: Vector, splits: Sequence[int], ratio: float) -> Vector:
    """SLERP on each side of split points; the angle is that between the whole vectors."""
    child = np.empty_like(x)
    products = float(x @ x), float(x @ y), float(y @ y)
    edges = (0, *splits, len(x))
    for (start, stop), share in zip(
        pairwise(edges), alternating(ratio, len(splits) + 1), strict=True
    ):
        first, second = slerp_weights(*products, ratio=share)
        np.multiply(x[start:stop], first, out=child[start:stop])
        child[start:stop] += second * y[start:stop]
    return child


def noise(spread: float, rng: np.random.Generator) -> Vector:
    """(weights,) normals of a standard deviation (Box and Muller, who vectorize)."""
    radius, turn = rng.random((2, WEIGHTS // 2), dtype=np.float32)
    radius = np.float32(spread) * np.sqrt(np.float32(-2) * np.log1p(-radius))
    turn *= np.float32(2 * np.pi)
    return np.concatenate((radius * np.cos(turn), radius * np.sin(turn)))


def best_single_merge(data: tuple[Examples, Examples]) -> float:
    """Test accuracy of the one SLERP of the specialists that is best on the search's examples."""
    train, test = data
    x, y = specialists(train)
    merges = (crossed(x, y, (), ratio) for ratio in np.linspace(0, 1, _GRID).tolist())
    return test.accuracy(max(merges, key=train.accuracy))


def experiment(*, steps: int, seeds: int) -> Iterator[Run]:
    """Every variant from both starts, so many times."""
    data = digits()
    for start in (SCRATCH, SPECIALISTS):
        for seed in range(seeds):
            for variant in VARIANTS:
                yield evolve(variant, start, steps=steps, seed=seed, data=data)


def evolution_table(runs: Sequence[Run], start: Start) -> str:
    """Test accuracies in percent: medians, and at the end the quartiles and the likeness of chance.

    The last column is how probable a difference to M2N2 as large as this is if there is none
    (Mann and Whitney); what is not small is noise.
    """
    of = {
        variant.name: [r for r in runs if r.variant == variant.name and r.start == start.name]
        for variant in VARIANTS
    }
    steps = list(of[M2N2.name][0].test)
    lines = []
    for name, mine in of.items():
        last = _last(mine)
        low, high = np.percentile(last, (25, 75))
        chance = mannwhitneyu(last, _last(of[M2N2.name])).pvalue
        lines.append(
            (
                name,
                *(_percent(np.median([r.test[step] for r in mine])) for step in steps),
                f"{_percent(low)} to {_percent(high)}",
                f"{_percent(min(last))} to {_percent(max(last))}",
                _percent(np.median([r.train for r in mine])),
                f"{1 / np.median([r.seconds for r in mine]):,.0f}",
                "" if name == M2N2.name else f"{chance:.2g}",
            )
        )
    header = (
        start.name,
        *(f"{step:,}" for step in steps),
        "quartiles",
        "range",
        "train",
        "steps/s",
        "p",
    )
    return columns(header, lines)


def _last(runs: Iterable[Run]) -> list[float]:
    return [list(run.test.values())[-1] for run in runs]


def _percent(share: float | np.floating) -> str:
    return f"{100 * share:.1f}"
