"""Independent random points: what a search must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from search.optimizer import Options, RacesOn, Task, needs_genes
from search.outcome import Candidate, Origin, Outcome
from search.spec import SearchSpec


class RandomPoints:
    """Points of the cube, each with the generator of its candidate."""

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "Independent random points."
    source: ClassVar[str] = "none"
    options: ClassVar[type[Options]] = Options
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "front"

    def __init__(self, task: Task, _options: Options) -> None:
        self._task = task

    def ask(
        self, ordinal: int, rng: np.random.Generator, _pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        return self._task.candidate(ordinal, rng.random(self._task.space.dim), Origin("sample"))

    def tell(self, outcome: Outcome) -> None:
        pass

    def status(self) -> str:
        return "Draws points at random."

    @staticmethod
    def problems(spec: SearchSpec, dim: int, options: Options) -> Mapping[str, str]:  # noqa: ARG004  # any spec will do
        return needs_genes(dim)
