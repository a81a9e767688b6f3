"""Try an optimizer on any function of coefficients, without models."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.geometry import Geometry
from search.layout import Layout, Tensor
from search.method import MethodDeclaration, Parameter
from search.optimizer import OptimizerClass, Task, optimizers
from search.outcome import Candidate, Outcome, Score, Scored
from search.problems import Invalid, Problem
from search.registry import UnknownName
from search.run import SearchRun, opening
from search.space import SearchSpace
from search.spec import SearchSpec, parse_spec

_METHOD = MethodDeclaration(
    name="coefficients",
    summary="The base plus coefficient times difference, for each parent.",
    source="Ilharco et al. 2023, arXiv:2212.04089",
    parameters=(Parameter("weight", "of a parent's difference to the base", per_parent=True),),
    uses_base=True,
    parent_values={},
)
_MOST_PARENTS = 64
# Objectives are given as bare numbers: taken for means over so many examples.
_EXAMPLES = 1000


@runtime_checkable
class MergeProblem(Protocol):
    """A function of coefficients in [0, 1]^n, one for each of n parents, to be maximized.

    All zeros are the base, a single one is a parent. It may have a ``reference``: (objectives,)
    what a merge must reach to be of use.
    """

    @property
    def n(self) -> int:
        """Number of coefficients."""

    def __call__(self, coefficients: NDArray[np.float64], /) -> ArrayLike:
        """(objectives,) values, higher is better."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluated point.

    Args:
        coefficients: (n,).
        objectives: what the problem said of them.
        seconds: of the processor, that the optimizer took to propose it and to learn from what came
            before; other work on the machine does not count.
    """

    coefficients: tuple[float, ...]
    objectives: tuple[float, ...]
    seconds: float


def load_problem(reference: str) -> MergeProblem:
    """The problem that ``FILE.py:FACTORY`` makes; the file's code is run.

    Raises:
        Invalid: when there is no such file or factory, or it makes something else.
    """
    path, _, name = reference.rpartition(":")
    file = Path(path)
    if not file.is_file():
        raise _invalid(f"{path or reference} is no file; write FILE.py:FACTORY")
    loader = importlib.util.spec_from_file_location(file.stem, file)
    if loader is None or loader.loader is None:
        raise _invalid(f"{file} is no Python file")
    module = importlib.util.module_from_spec(loader)
    try:
        loader.loader.exec_module(module)
        problem = getattr(module, name)()
    except Exception as error:  # the user's own code may raise anything
        raise _invalid(f"{type(error).__name__}: {error}") from error
    if not isinstance(problem, MergeProblem):
        raise _invalid(f"{name} makes no function with an attribute n")
    return problem


def evaluations(
    problem: MergeProblem,
    optimizer: str | OptimizerClass,
    *,
    count: int,
    in_flight: int,
    seed: int,
) -> Iterator[Evaluation]:
    """Search, every evaluation charged: also those of the base, the parents and their average.

    Args:
        problem: what is maximized; called once more, to learn how many objectives it has.
        optimizer: its name, or one that is registered nowhere.
        count: evaluations.
        in_flight: candidates at the same time; a candidate is proposed before the outcomes of so
            many others, less one, are known.
        seed: of the optimizer.

    Raises:
        Invalid: there is no such optimizer, or it cannot search this problem.
    """
    objectives = np.atleast_1d(problem(np.zeros(problem.n))).size
    chosen = _chosen(optimizer) if isinstance(optimizer, str) else optimizer
    spec = _spec(problem.n, objectives, chosen.name, count=count, in_flight=in_flight, seed=seed)
    layout = Layout.of(Tensor(name=f"w{i}", shape=(1,), dtype="F32") for i in range(problem.n))
    space = SearchSpace(_METHOD, spec, layout)
    floor = getattr(problem, "reference", None)
    run = _run(chosen, spec, space, None if floor is None else np.asarray(floor, dtype=np.float64))
    outcomes: list[Outcome] = []
    for ordinal in range(count):
        start = time.process_time()
        while run.absorbed < run.needed(ordinal):
            run.absorb(outcomes[run.absorbed])
        candidate = run.propose(ordinal, [o.candidate for o in outcomes[run.absorbed :]])
        seconds = time.process_time() - start
        coefficients = _coefficients(candidate, space)
        values = np.atleast_1d(np.asarray(problem(coefficients), dtype=np.float64))
        outcomes.append(_scored(candidate, spec, values))
        yield Evaluation(tuple(coefficients.tolist()), tuple(values.tolist()), seconds)


def _spec(
    n: int, objectives: int, optimizer: str, *, count: int, in_flight: int, seed: int
) -> SearchSpec:
    """One weight for each parent; more than a spec has parents become blocks of one parent."""
    parents = n if n <= _MOST_PARENTS else 1
    return parse_spec(
        {
            "name": "trial",
            "base": {"path": "base"},
            "parents": [{"name": f"p{i}", "path": f"p{i}"} for i in range(parents)],
            "method": _METHOD.name,
            "space": {
                "blocks": "model" if parents == n else "tensor",
                "parameters": {"weight": {"low": 0.0, "high": 1.0}},
            },
            "objectives": [{"task": f"t{i}", "metric": "value"} for i in range(objectives)],
            "optimizer": {"name": optimizer},
            "budget": {"evaluations": count, "parallel": in_flight},
            "seed": seed,
        }
    )


def _chosen(name: str) -> OptimizerClass:
    try:
        return optimizers[name]
    except UnknownName as error:
        raise Invalid([Problem(field="optimizer", message=str(error))]) from None


def _run(
    chosen: OptimizerClass,
    spec: SearchSpec,
    space: SearchSpace,
    floor: NDArray[np.float64] | None,
) -> SearchRun:
    options = chosen.options()
    problems = chosen.problems(spec, space.dim, options)
    if problems:
        raise Invalid([Problem(field=field, message=text) for field, text in problems.items()])
    start = opening(space)
    task = Task(
        space=space,
        objectives=spec.objectives,
        opening=len(start),
        parallel=spec.budget.parallel,
        seed=spec.seed,
        geometry=_geometry(space) if chosen.needs_geometry else None,
        floor=floor,
    )
    return SearchRun(start, chosen(task, options), parallel=spec.budget.parallel, seed=spec.seed)


def _geometry(space: SearchSpace) -> Geometry:
    """As if the coefficients were the weights: the base is the origin, and parents are axes."""
    changes = np.eye(space.dim) if len(space.parents) == space.dim else np.ones((1, space.dim))
    models = np.concatenate((np.zeros((1, space.dim)), changes))
    return Geometry(np.arange(space.dim + 1), np.einsum("ic,jc->cij", models, models))


def _coefficients(candidate: Candidate, space: SearchSpace) -> NDArray[np.float64]:
    """(n,) the point that a candidate stands for."""
    if candidate.genome is not None:
        return np.array(candidate.genome)
    return np.zeros(space.dim)  # the base, which is no point of every method's space


def _scored(candidate: Candidate, spec: SearchSpec, values: NDArray[np.float64]) -> Scored:
    """Without examples: a function has one value for all of them."""
    scores = {
        objective.key: Score(value, math.nan, _EXAMPLES, np.array([value], dtype=np.float32))
        for objective, value in zip(spec.objectives, values.tolist(), strict=True)
    }
    return Scored(candidate, scores)


def _invalid(message: str) -> Invalid:
    return Invalid([Problem(field="problem", message=message)])
