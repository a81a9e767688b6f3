"""Searches on analytic functions: the whole fold, with nothing behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.geometry import Geometry
from search.layout import Layout, Tensor
from search.lineage import Lineage
from search.method import MethodDeclaration, Parameter
from search.optimizer import Optimizer, Task, optimizers
from search.outcome import Candidate, Infeasible, Outcome, Score, Scored
from search.run import SearchRun, opening
from search.space import SearchSpace
from search.spec import SearchSpec, parse_spec

EXAMPLES = 60
WEIGHT = Parameter("weight", "of a parent", per_parent=True, high=1.5, minimum=-5, maximum=5)
SCALE = Parameter("scale", "of the sum", high=2.0, minimum=0, maximum=5)


def declaration(name: str) -> MethodDeclaration:
    return MethodDeclaration(
        name=name, summary="", source="", parameters=(WEIGHT, SCALE), uses_base=True
    )


@dataclass(frozen=True)
class Setup:
    """One search: how large, with which optimizer, and what its candidates score."""

    optimizer: str
    method: str = "task_arithmetic"
    blocks: int = 3
    parents: int = 3
    objectives: int = 3
    parallel: int = 1
    seed: int = 0
    path: dict[str, Any] | None = None
    """Which layers are searched, if any: every block is one."""
    options: dict[str, Any] = field(default_factory=dict)
    bounds: dict[str, Any] = field(default_factory=dict)
    """Of the first objective: ``at_least`` and ``at_most``."""
    tensors: tuple[str, ...] = ("w",)
    """What tensors are called within layers, in turns."""
    partition: Any = "tensor"
    """``space.blocks``; ``blocks`` counts tensors."""
    searched: dict[str, Any] = field(default_factory=lambda: {"low": 0.0, "high": 1.0})

    @cached_property
    def layout(self) -> Layout:
        tensors = [
            Tensor(
                name=f"layers.{i}.{self.tensors[i % len(self.tensors)]}", shape=(8,), dtype="F32"
            )
            for i in range(self.blocks)
        ]
        return Layout.of(tensors)

    @cached_property
    def spec(self) -> SearchSpec:
        searched = self.searched
        return parse_spec(
            {
                "name": "analytic",
                "base": {"path": "base"},
                "parents": [{"name": f"p{i}", "path": f"p{i}"} for i in range(self.parents)],
                "method": self.method,
                "space": {
                    "blocks": self.partition if self.blocks else "model",
                    "parameters": {"weight": searched} if self.blocks else {"scale": searched},
                    **({} if self.path is None else {"path": self.path}),
                },
                "objectives": [
                    {"task": f"t{i}", "metric": "acc", **(self.bounds if i == 0 else {})}
                    for i in range(self.objectives)
                ],
                "optimizer": {"name": self.optimizer, **self.options},
                "budget": {"evaluations": 1000, "parallel": self.parallel},
                "seed": self.seed,
            }
        )

    @cached_property
    def space(self) -> SearchSpace:
        return SearchSpace(declaration(self.method), self.spec, self.layout)

    @property
    def weights(self) -> NDArray[np.float64]:
        """(1 + parents, elements) the flattened models, base first."""
        size = 8 * max(self.blocks, 1)
        return np.random.default_rng(7).standard_normal((1 + self.parents, size))

    @cached_property
    def geometry(self) -> Geometry:
        cells = self.weights.reshape(1 + self.parents, -1, 2)
        boundaries = np.arange(0, self.weights.shape[1] + 1, 2)
        return Geometry(boundaries, np.einsum("ics,jcs->cij", cells, cells))

    def task(self, opened: int | None = None) -> Task:
        return Task(
            space=self.space,
            objectives=self.spec.objectives,
            opening=len(opening(self.space)) if opened is None else opened,
            parallel=self.parallel,
            seed=self.seed,
            geometry=self.geometry if optimizers[self.optimizer].needs_geometry else None,
        )

    def start(self, opened: int | None = None) -> Optimizer:
        entry = optimizers[self.optimizer]
        return entry(self.task(opened), entry.options(**self.options))

    def run(self, start: tuple[Candidate, ...] | None = None) -> SearchRun:
        first = opening(self.space) if start is None else start
        optimizer = self.start(len(first))
        return SearchRun(first, optimizer, parallel=self.parallel, seed=self.seed)


def accuracies(setup: Setup, candidate: Candidate) -> NDArray[np.float64]:
    """(objectives,) scores in (0, 1): how near a candidate comes to each of several optima.

    The optima lie apart and inside of the cube, so there is a front between them, and no parent or
    average is on it.
    """
    point = _features(setup, candidate)
    centres = np.random.default_rng(3).uniform(0.25, 0.75, (setup.objectives, len(point)))
    distance = np.sqrt(((centres - point) ** 2).mean(axis=1))
    return np.asarray(np.exp(-((2.0 * distance) ** 2)))


def _features(setup: Setup, candidate: Candidate) -> NDArray[np.float64]:
    if candidate.genome is not None:
        return np.array(candidate.genome)
    if candidate.recipe.method == "linear" and setup.method == "linear":
        lineage = Lineage(setup.geometry, setup.space.parents)
        table = lineage.table(candidate.recipe)
        assert table is not None
        return table[:, 1:].ravel()
    return np.full(setup.space.dim, 0.02 * candidate.ordinal)


def outcome(candidate: Candidate, values: NDArray[np.float64]) -> Scored:
    """Scores with right-or-wrong examples: objectives share none of the easy ones."""
    scores = {}
    for i, value in enumerate(values):
        right = np.roll(np.arange(EXAMPLES) < round(value * EXAMPLES), 13 * i)
        scores[f"t{i}/acc"] = Score(float(value), 0.01, EXAMPLES, right.astype(np.float32))
    return Scored(candidate, scores)


@dataclass
class Searched:
    """What a search has seen, in ordinal order."""

    outcomes: list[Outcome]

    @property
    def candidates(self) -> list[Candidate]:
        return [o.candidate for o in self.outcomes]

    def points(self) -> NDArray[np.float64]:
        return np.array(
            [
                [score.value for score in o.scores.values()]
                for o in self.outcomes
                if isinstance(o, Scored)
            ]
        )


Judge = Callable[[Candidate], Outcome]


def search(setup: Setup, evaluations: int, judge: Judge | None = None) -> Searched:
    """Run a search to its end."""
    run, outcomes = setup.run(), []
    for ordinal in range(evaluations):
        while run.absorbed < run.needed(ordinal):
            run.absorb(outcomes[run.absorbed])
        waiting = [told.candidate for told in outcomes[run.absorbed :]]
        candidate = run.propose(ordinal, waiting)
        outcomes.append(
            judge(candidate) if judge else outcome(candidate, accuracies(setup, candidate))
        )
    return Searched(outcomes)


def failing(setup: Setup, every: int) -> Judge:
    """Finds every n-th candidate infeasible, and gives every n-th of the others a score of NaN."""

    def judge(candidate: Candidate) -> Outcome:
        if candidate.ordinal % every == 0:
            return Infeasible(candidate, "as the test has it")
        scored = outcome(candidate, accuracies(setup, candidate))
        if candidate.ordinal % every == 1:
            first = scored.scores["t0/acc"]
            nan = Score(float("nan"), float("nan"), first.count, first.examples * np.float32("nan"))
            return Scored(candidate, {**scored.scores, "t0/acc": nan})
        return scored

    return judge
