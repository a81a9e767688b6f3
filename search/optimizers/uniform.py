"""Points spread evenly over the space: the baseline, and where other optimizers start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from search.optimizer import Options, RacesOn, Task, needs_genes, optimizers
from search.outcome import Candidate, Origin, Outcome
from search.spec import SearchSpec

# A power of two, as the balance of Sobol' points asks for.
_CHUNK = 256


class SobolPoints:
    """A scrambled Sobol' sequence by index: the n-th point is the same whoever asks first.

    Args:
        dim: of the cube, at least 1.
        rng: scrambles; used up by the constructor.
    """

    def __init__(self, dim: int, rng: np.random.Generator) -> None:
        self._dim = dim
        self._seed = int(rng.integers(2**63))
        self._chunk = lru_cache(maxsize=4)(self._drawn)

    def __getitem__(self, index: int) -> NDArray[np.float64]:
        """(dim,) point in [0, 1)."""
        chunk, row = divmod(index, _CHUNK)
        point: NDArray[np.float64] = self._chunk(chunk)[row].copy()
        return point

    def _drawn(self, chunk: int) -> NDArray[np.float64]:
        engine = qmc.Sobol(self._dim, scramble=True, rng=np.random.default_rng(self._seed))
        if chunk:
            engine.fast_forward(chunk * _CHUNK)
        points: NDArray[np.float64] = engine.random(_CHUNK)
        return points


class UniformOptions(Options):
    """Uniform sampling has no options."""


@optimizers.register
class Uniform:
    """Scrambled Sobol' points, whatever the outcomes."""

    name: ClassVar[str] = "uniform"
    summary: ClassVar[str] = "Points spread evenly over the space, whatever the scores."
    source: ClassVar[str] = "Sobol' 1967, scrambled (Owen 1995), as in scipy.stats.qmc"
    options: ClassVar[type[Options]] = UniformOptions
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "front"

    def __init__(self, task: Task, _options: UniformOptions) -> None:
        self._task = task
        self._points = SobolPoints(task.space.dim, task.generator(0))

    def ask(
        self, ordinal: int, _rng: np.random.Generator, _pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        genome = self._points[ordinal - self._task.opening]
        return self._task.candidate(ordinal, genome, Origin("sample"))

    def tell(self, outcome: Outcome) -> None:
        pass

    def status(self) -> str:
        return "Spreads points evenly over the space; scores change nothing."

    @staticmethod
    def problems(
        spec: SearchSpec,  # noqa: ARG004  # any spec will do
        dim: int,
        options: UniformOptions,  # noqa: ARG004  # there are none
    ) -> Mapping[str, str]:
        return needs_genes(dim)
