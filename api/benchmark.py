"""The table of ``nichemerge bench``: workers on the playground, then the log and the optimizers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from api.bench import costs
from api.settings import Settings
from evals.playground import Playground, build
from evals.suite import Split, Suite
from search.layout import Layout
from search.recipe import Recipe, mixture
from search.space import SearchSpace
from search.spec import Budget, ModelRef, OptimizerChoice, Parent, SearchSpec
from workers.bench import Row, candidate_rows, merge_rows
from workers.merge_method import methods
from workers.messages import Zoo
from workers.preflight import preflight

_CANDIDATES = 8


def measure(settings: Settings, *, counts: Sequence[int]) -> list[Row]:
    """Seconds per candidate on a worker, merge bandwidth, and what the log and optimizers cost.

    Args:
        settings: the playground is built in its home unless it is there.
        counts: lengths of the logs.
    """
    playground = build(settings.playground)
    parents = tuple((name, str(folder)) for name, folder in playground.parents.items())
    zoo = Zoo(str(playground.base), parents, "float32")
    suite = Suite(tuple(playground.objectives), Split.SEARCH, (str(playground.tasks),))
    found = preflight(("base", playground.base), ())
    rows = candidate_rows(zoo, suite, _mixtures(tuple(playground.parents)))
    if found.layout is not None:
        rows += merge_rows(zoo, _one_of_each_method(playground, found.layout))
    with tempfile.TemporaryDirectory(dir=settings.home) as folder:
        rows += [
            Row(cost.what, cost.seconds * 1000, "ms", f"{cost.outcomes:,} outcomes")
            for cost in costs(Path(folder), counts=counts)
        ]
    return rows


def _mixtures(names: tuple[str, ...]) -> list[Recipe]:
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.2, 0.8, size=(_CANDIDATES, len(names)))
    return [mixture(names, tuple(row.tolist())) for row in weights]


def _one_of_each_method(playground: Playground, layout: Layout) -> Iterator[Recipe]:
    """Every method that takes these parents, with its defaults."""
    for method in methods:
        if method.declaration.takes(len(playground.parents)):
            spec = SearchSpec(
                name="bench",
                base=ModelRef(path="base"),
                parents=tuple(Parent(name=name, path=name) for name in playground.parents),
                method=method.name,
                objectives=tuple(playground.objectives),
                optimizer=OptimizerChoice(name="uniform"),
                budget=Budget(evaluations=1),
            )
            yield SearchSpace(method.declaration, spec, layout).decode([])
