"""From a stored submission to the fold that it describes."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from api.store import Search
from evals.batching import Pacing
from evals.suite import Draw, Split, Suite
from search.geometry import Geometry
from search.method import MethodDeclaration
from search.optimizer import Optimizer, OptimizerClass, Task, optimizers
from search.problems import Invalid, Problem
from search.racing import Racing
from search.registry import UnknownName
from search.run import Kept, SearchRun, baseline_names, opening
from search.space import SearchSpace
from search.spec import SearchSpec, problems_of
from search.stagnation import Stagnation


def chosen_optimizer(spec: SearchSpec) -> OptimizerClass:
    """The optimizer that a spec names, or Invalid."""
    try:
        return optimizers[spec.optimizer.name]
    except UnknownName as error:
        raise Invalid([Problem(field="optimizer.name", message=str(error))]) from None


def build_run(
    search: Search,
    declaration: MethodDeclaration,
    geometry: Geometry | None,
    kept: Sequence[Kept] = (),
) -> SearchRun:
    """The search before its first outcome; ``kept`` is what it continues.

    Raises:
        Invalid: this version of the program cannot run the spec.
    """
    spec = search.spec
    optimizer = chosen_optimizer(spec)
    try:
        options = optimizer.options.model_validate(spec.optimizer.options)
    except ValidationError as error:
        raise Invalid(problems_of(error, optimizer.options, "optimizer.")) from None
    space = SearchSpace(declaration, spec, search.submission.layout, geometry)
    start = opening(space, kept)
    task = Task(
        space=space,
        objectives=spec.objectives,
        opening=len(start),
        parallel=spec.budget.parallel,
        seed=spec.seed,
        geometry=geometry,
        directions=search.submission.directions,
    )
    chosen = optimizer(task, options)
    return SearchRun(
        start,
        chosen,
        parallel=spec.budget.parallel,
        seed=spec.seed,
        racing=_racing(task, spec, chosen),
        stagnation=_stagnation(task, spec),
    )


def _stagnation(task: Task, spec: SearchSpec) -> Stagnation | None:
    if spec.stop is None:
        return None
    return Stagnation(
        spec.stop,
        spec.objectives,
        task.constraints(),
        baselines=len(baseline_names(task.space.parents)),
        opening=task.opening,
    )


def _racing(task: Task, spec: SearchSpec, optimizer: Optimizer) -> Racing | None:
    if spec.racing == 0 or optimizer.races_on == "nothing":
        return None
    weights = {objective.key: objective.weight for objective in spec.objectives}
    return Racing(
        weights,
        error=spec.racing,
        on_preference=optimizer.races_on == "preference",
        constraints=task.constraints(),
    )


def suite(
    search: Search, split: Split, draws: Sequence[Draw] = (), pacing: Pacing | None = None
) -> Suite:
    """What candidates are scored on: the very examples that the search began with."""
    submission = search.submission
    return Suite(
        search.spec.objectives,
        split,
        folders=submission.task_folders,
        trusted=submission.trusted_folders,
        evaluation=search.spec.evaluation,
        seed=search.spec.seed,
        digests=tuple((draw.task, draw.digest) for draw in draws if draw.split is split),
        batching=None if pacing is None else pacing.batching,
    )
