"""Split points and ratios: how two models become a child, piece by piece.

Abrantes et al. 2025 (arXiv:2508.16204), eq. 2. What the pieces are is the caller's: cells of the
flattened model, genes of a space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Indices = NDArray[np.intp]
Angle = Literal["whole", "segment"]

# Below this sine of the angle SLERP is linear interpolation (the authors' constant).
_STRAIGHT = 1e-6


def slerp_weights(xx: float, xy: float, yy: float, *, ratio: float) -> tuple[float, float]:
    """What SLERP from x to y by ``ratio`` multiplies the two by, from their inner products.

    Where they are parallel, opposite, or one has no length, it is linear interpolation.
    """
    norms = math.sqrt(max(0.0, xx * yy))
    angle = math.acos(min(1.0, max(-1.0, xy / norms))) if norms > 0 else 0.0
    sine = math.sin(angle)
    if sine <= _STRAIGHT:
        return 1.0 - ratio, ratio
    return math.sin((1.0 - ratio) * angle) / sine, math.sin(ratio * angle) / sine


def draw_splits(rng: np.random.Generator, places: int, count: int) -> list[int]:
    """So many different places of ``places`` (all, where there are fewer), in order.

    The first place is the very start, where a split leaves nothing before it.
    """
    if count == 1:
        return [int(rng.integers(places))]
    return sorted(rng.choice(places, size=min(count, places), replace=False).tolist())


def alternating(ratio: float, segments: int) -> list[float]:
    """The ratio of each segment: the ratio itself, one minus it, and so on in turns."""
    return [1.0 - ratio if segment % 2 else ratio for segment in range(segments)]


@dataclass(frozen=True, slots=True, eq=False)
class Crossing:
    """One crossover, before it is known of what.

    Args:
        segment: (pieces,) which segment each piece is in.
        ratios: of the segments: how far each goes from the first parent to the second.
        spans: of the segments: those with the same number have one angle between the parents.
        detail: where it was split and by which ratio, to be read by people.
    """

    segment: Indices
    ratios: tuple[float, ...]
    spans: tuple[int, ...]
    detail: Mapping[str, float]

    def interpolation(self) -> Vector:
        """(pieces,) the ratio of every piece."""
        ratios: Vector = np.array(self.ratios)[self.segment]
        return ratios

    def slerp(self, xx: Vector, xy: Vector, yy: Vector) -> tuple[Vector, Vector]:
        """(pieces,) what each parent's pieces are multiplied by, from (pieces,) inner products."""
        span = np.array(self.spans)[self.segment]
        products = np.zeros((max(self.spans) + 1, 3))
        np.add.at(products, span, np.column_stack((xx, xy, yy)))
        weights = np.array(
            [
                slerp_weights(*products[span].tolist(), ratio=ratio)
                for span, ratio in zip(self.spans, self.ratios, strict=True)
            ]
        )
        first, second = weights[self.segment].T
        return first, second


@dataclass(frozen=True, slots=True, eq=False)
class Chromosomes:
    """The parts of a model that are crossed apart, and the places at which each may be split.

    Args:
        names: of the chromosomes.
        chromosome: (pieces,) which of them each piece belongs to.
        place: (pieces,) which of its chromosome's places each piece is at, or behind.
        starts: of the chromosomes: (places,) where each place is, as a part of the length.
    """

    names: tuple[str, ...]
    chromosome: Indices
    place: Indices
    starts: tuple[Vector, ...]

    @classmethod
    def of(cls, names: Sequence[str], units: Indices, sizes: Vector, *, most: int) -> Chromosomes:
        """Chromosomes by (pieces,) names.

        Args:
            names: of the chromosome that each piece belongs to.
            units: (pieces,) numbers that give the order; equal ones are never split.
            sizes: (pieces,) numbers of elements.
            most: at most so many places are kept in each chromosome, as even as units allow.
        """
        different = tuple(dict.fromkeys(names))
        chromosome: Indices = np.array([different.index(name) for name in names], np.intp)
        place, starts = np.zeros_like(chromosome), []
        for number in range(len(different)):
            mine = chromosome == number
            place[mine], found = _places(units[mine], sizes[mine], most)
            starts.append(found)
        return cls(different, chromosome, place, tuple(starts))

    def joined(self) -> tuple[Indices, Chromosomes]:
        """Neighbours that are never split as one piece; the first index of each, and all of it."""
        differs = (np.diff(self.chromosome) != 0) | (np.diff(self.place) != 0)
        first = np.append(0, np.flatnonzero(differs) + 1)
        return first, replace(self, chromosome=self.chromosome[first], place=self.place[first])

    def cross(self, rng: np.random.Generator, *, split_points: int, angle: Angle) -> Crossing:
        """Draw split points and a ratio for every chromosome.

        From one split point to the next the ratio and one minus it take turns.
        """
        segment = np.zeros_like(self.place)
        ratios: list[float] = []
        spans: list[int] = []
        detail: dict[str, float] = {}
        for number, (name, starts) in enumerate(zip(self.names, self.starts, strict=True)):
            splits = draw_splits(rng, len(starts), split_points)
            ratio = float(rng.random())
            mine = self.chromosome == number
            before = len(ratios)
            segment[mine] = before + np.searchsorted(splits, self.place[mine], side="right")
            ratios += alternating(ratio, len(splits) + 1)
            spans += [before] * (len(splits) + 1)
            detail |= _detail(f"{name} " if len(self.names) > 1 else "", starts[splits], ratio)
        if angle == "segment":
            spans = list(range(len(ratios)))
        return Crossing(segment, tuple(ratios), tuple(spans), detail)


def _places(units: Indices, sizes: Vector, most: int) -> tuple[Indices, Vector]:
    """(pieces,) the place that each piece is at or after, and (places,) where places are."""
    _, unit = np.unique(units, return_inverse=True)
    ends = np.bincount(unit, sizes).cumsum()
    edges = np.append(0.0, ends)
    kept = _even(edges, most)
    return np.searchsorted(kept, unit, side="right") - 1, edges[kept] / max(edges[-1], 1.0)


def _even(edges: NDArray[np.float64], most: int) -> Indices:
    """Indices of at most so many edges (the last one left out) at about equal distances."""
    inner = edges[:-1]
    if len(inner) <= most:
        return np.arange(len(inner))
    wanted = edges[0] + (edges[-1] - edges[0]) * np.arange(most) / most
    right = np.searchsorted(inner, wanted).clip(1, len(inner) - 1)
    nearer_left = wanted - inner[right - 1] <= inner[right] - wanted
    return np.unique(np.where(nearer_left, right - 1, right))


def _detail(chromosome: str, splits: Vector, ratio: float) -> dict[str, float]:
    numbers = [""] if len(splits) == 1 else [f" {n + 1}" for n in range(len(splits))]
    places = zip(numbers, splits.tolist(), strict=True)
    return {
        **{f"{chromosome}split{number}": place for number, place in places},
        f"{chromosome}ratio": ratio,
    }
