"""What can be an objective: the catalogue of tasks, and what is wrong with a list of objectives."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evals.harness.spellings import listed, spellings
from evals.harness.task_index import Library
from evals.leaderboards import ranked_by
from evals.suite import Split
from evals.task_files import Group, TaskFile
from evals.task_rules import example_counts
from search.problems import Invalid, Problem
from search.registry import UnknownName, suggestion
from search.spec import Objective

_log = logging.getLogger(__name__)

# Examples of a task whose data has not been loaded, for estimates.
_UNKNOWN_COUNT = 1000


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task or group as the catalogue shows it.

    Args:
        name: as written in a spec.
        output_type: lm-eval's word for what is asked of the model; group for a group.
        metrics: metric -> higher is better; ``metric,filter`` where there are several filters.
        examples: number of examples per split, where that is known without loading data.
    """

    name: str
    output_type: str
    metrics: Mapping[str, bool]
    examples: Mapping[str, int]


def catalogue(library: Library) -> Sequence[TaskInfo]:
    """The tasks and groups of a library's folders and our own, by name, that can be objectives.

    Unusable files are left out. lm-eval's own eleven thousand tasks can be objectives, but are not
    listed.
    """
    infos = []
    for name in library.listed:
        try:
            info = _info(name, library.find(name))
        except Invalid as error:
            _log.warning("Task %s is left out: %s", name, error, extra={"event": "bad_task"})
        else:
            infos += [info] if info.metrics else []
    return infos


def check(objectives: Sequence[Objective], library: Library) -> list[Problem]:
    """What is wrong with the objectives, as far as task files tell; none of their Python runs."""
    problems = []
    for index, objective in enumerate(objectives):
        field = f"objectives[{index}]"
        try:
            item = library.find(objective.task)
            known = spellings(item)
        except UnknownName as error:
            problems.append(Problem(field=f"{field}.task", message=str(error)))
        except Invalid as error:
            problems += [
                Problem(field=f"{field}.task", message=f"{problem.field} {problem.message}")
                for problem in error.problems
            ]
        else:
            if isinstance(item, Group) and not known:
                message = (
                    f"group '{objective.task}' averages no metric of its tasks; name some of them:"
                    f" {', '.join(leaf.name for leaf in item.leaves[:5])}"
                )
                problems.append(Problem(field=f"{field}.task", message=message))
            elif objective.metric not in known:
                near = suggestion(objective.metric, listed(item))
                message = f"task '{objective.task}' has no metric '{objective.metric}'; {near}"
                problems.append(Problem(field=f"{field}.metric", message=message))
    return problems


def leaderboards(objectives: Sequence[Objective], library: Library) -> list[Problem]:
    """Objectives that would be searched on the test set of a public leaderboard."""
    problems = []
    for index, objective in enumerate(objectives):
        try:
            leaves = library.find(objective.task).leaves
        except (UnknownName, Invalid):  # reported by `check`
            continue
        reason = next(filter(None, (ranked_by(leaf.config) for leaf in leaves)), None)
        if reason is not None:
            problems.append(Problem(field=f"objectives[{index}].task", message=reason))
    return problems


def directions(objectives: Sequence[Objective], library: Library) -> dict[str, bool]:
    """Whether higher is better, by objective key.

    Raises:
        Invalid: for objectives that do not pass `check`.
    """
    problems = check(objectives, library)
    if problems:
        raise Invalid(problems)
    return {
        objective.key: spellings(library.find(objective.task))[objective.metric]
        for objective in objectives
    }


def example_count(objectives: Sequence[Objective], library: Library) -> int:
    """About how many examples a candidate is scored on; a task that does not tell counts 1000."""
    names = dict.fromkeys(objective.task for objective in objectives)
    return sum(_count(name, library) for name in names)


def _count(name: str, library: Library) -> int:
    try:
        leaves = library.find(name).leaves
    except (UnknownName, Invalid):  # reported by `check`
        return _UNKNOWN_COUNT
    return sum(example_counts(leaf).get(Split.SEARCH, _UNKNOWN_COUNT) for leaf in leaves)


def _info(name: str, item: TaskFile | Group) -> TaskInfo:
    counts = [example_counts(leaf) for leaf in item.leaves]
    common = set(counts[0]).intersection(*counts)
    return TaskInfo(
        name=name,
        output_type="group" if isinstance(item, Group) else item.config.output_type,
        metrics=listed(item),
        examples={split: sum(c[split] for c in counts) for split in counts[0] if split in common},
    )
