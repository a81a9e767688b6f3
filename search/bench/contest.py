"""Every optimizer on every problem: how much of the best front, after how many evaluations."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from search.bench.known import PROBLEMS, KnownProblem
from search.bench.published_map import PublishedMAP
from search.bench.random_points import RandomPoints
from search.optimizer import OptimizerClass, optimizers
from search.problems import Invalid, Problem
from search.registry import suggestion
from search.trial import evaluations

CHECKPOINTS = (20, 50, 100, 200)
# Those that stand in the table unless others are asked for, as far as they are there.
COLUMNS = (
    "random",
    "uniform",
    "nsga2",
    "optuna_tpe",
    "cma_es",
    "map_published",
    "map",
    "m2n2",
    "auto",
)
_BASELINES: tuple[OptimizerClass, ...] = (RandomPoints, PublishedMAP)


@dataclass(frozen=True, slots=True)
class Run:
    """One search.

    Args:
        problem, optimizer: names.
        in_flight: candidates at the same time.
        seed: of the optimizer, and of the problem's networks.
        shares: evaluations -> hypervolume in parts of what can be reached; all are charged.
        seconds: of the processor, that the optimizer takes per candidate.
    """

    problem: str
    optimizer: str
    in_flight: int
    seed: int
    shares: dict[int, float]
    seconds: float


def contestants(names: Sequence[str] = ()) -> list[OptimizerClass]:
    """The optimizers of these names, baselines of the benchmark among them; else the usual ones.

    Raises:
        Invalid: there is none of that name.
    """
    known = {entry.name: entry for entry in (*_BASELINES, *optimizers)}
    _refuse_unknown("optimizer", names, known)
    return [known[name] for name in names or COLUMNS if name in known]


def contest(
    entries: Iterable[OptimizerClass],
    *,
    problems: Sequence[str],
    evaluated: int,
    in_flight: Sequence[int],
    seeds: int,
) -> Iterator[Run]:
    """Search and measure; an optimizer that cannot search functions is left out.

    Args:
        entries: optimizers.
        problems: their names; all there are when empty.
        evaluated: evaluations of each search.
        in_flight: candidates at the same time, each in turn.
        seeds: searches of each kind.

    Raises:
        Invalid: there is no such problem.
    """
    _refuse_unknown("problem", problems, PROBLEMS)
    left = list(entries)
    for name in problems or PROBLEMS:
        for seed in range(seeds):
            problem = PROBLEMS[name](1 + seed)
            for entry in tuple(left):
                for parallel in in_flight:
                    try:
                        yield _run(problem, entry, evaluated, parallel, seed)
                    except Invalid:
                        left.remove(entry)
                        break


def _run(
    problem: KnownProblem, entry: OptimizerClass, evaluated: int, in_flight: int, seed: int
) -> Run:
    found = list(
        evaluations(problem.problem, entry, count=evaluated, in_flight=in_flight, seed=seed)
    )
    values = [evaluation.objectives for evaluation in found]
    ends = [count for count in CHECKPOINTS if count < evaluated] + [evaluated]
    return Run(
        problem=problem.name,
        optimizer=entry.name,
        in_flight=in_flight,
        seed=seed,
        shares={count: problem.share(values[:count]) for count in ends},
        seconds=statistics.fmean(evaluation.seconds for evaluation in found),
    )


def contest_lines(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a table: medians over the seeds, an optimizer to a column.

    Problems have a line for each number of evaluations and of candidates in flight, then come the
    processor's milliseconds that each optimizer takes per candidate, over all problems.
    """
    columns = list(dict.fromkeys(run.optimizer for run in runs))
    lines = []
    for problem in dict.fromkeys(run.problem for run in runs):
        for parallel in dict.fromkeys(run.in_flight for run in runs):
            of_line = [r for r in runs if r.problem == problem and r.in_flight == parallel]
            for count in of_line[0].shares if of_line else ():
                shares = [
                    _median([r.shares[count] for r in of_line if r.optimizer == column])
                    for column in columns
                ]
                lines.append([problem, str(parallel), str(count), *shares])
    costs = [
        _median([1000 * r.seconds for r in runs if r.optimizer == column], digits=1)
        for column in columns
    ]
    lines.append(["ms per candidate", "", "", *costs])
    return ["problem", "in flight", "evaluations", *columns], lines


def _median(values: Sequence[float], digits: int = 3) -> str:
    return f"{statistics.median(values):.{digits}f}" if values else ""


def _refuse_unknown(field: str, names: Iterable[str], known: Iterable[str]) -> None:
    there = list(known)
    problems = [
        Problem(field=field, message=f"unknown {field} '{name}'; {suggestion(name, there)}")
        for name in names
        if name not in there
    ]
    if problems:
        raise Invalid(problems)
