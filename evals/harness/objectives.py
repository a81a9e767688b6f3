"""What can be an objective: the catalogue of tasks, and what is wrong with a list of objectives."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.harness.finding import find, task_names, usable
from evals.harness.spellings import listed, spellings
from evals.suite import Split
from evals.task_files import TaskFile
from evals.task_rules import example_counts
from search.problems import Invalid, Problem
from search.registry import UnknownName, suggestion
from search.spec import Objective

_log = logging.getLogger(__name__)

# Examples of a task whose data has not been loaded, for estimates.
_UNKNOWN_COUNT = 1000


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task as the catalogue shows it.

    Args:
        name: as written in a spec.
        output_type: lm-eval's word for what is asked of the model.
        metrics: metric -> higher is better; ``metric,filter`` where there are several filters.
        examples: number of examples per split, where that is known without loading data.
    """

    name: str
    output_type: str
    metrics: Mapping[str, bool]
    examples: Mapping[str, int]


def catalogue(folders: Sequence[Path]) -> Sequence[TaskInfo]:
    """The tasks of the given folders and our own, by name; unusable files are left out.

    lm-eval's own eleven thousand tasks can be objectives, but are not listed.
    """
    infos = []
    for name, path in sorted(task_names(folders).items()):
        try:
            infos.append(_info(usable(path)))
        except Invalid as error:
            _log.warning("Task %s is left out: %s", name, error, extra={"event": "bad_task"})
    return infos


def check(objectives: Sequence[Objective], folders: Sequence[Path]) -> list[Problem]:
    """What is wrong with the objectives, as far as task files tell; none of their Python runs."""
    problems = []
    for index, objective in enumerate(objectives):
        field = f"objectives[{index}]"
        try:
            task_file = find(objective.task, folders)
            known = spellings(task_file)
        except UnknownName as error:
            problems.append(Problem(field=f"{field}.task", message=str(error)))
        except Invalid as error:
            problems += [
                Problem(field=f"{field}.task", message=f"{problem.field} {problem.message}")
                for problem in error.problems
            ]
        else:
            if objective.metric not in known:
                near = suggestion(objective.metric, listed(task_file))
                message = f"task '{objective.task}' has no metric '{objective.metric}'; {near}"
                problems.append(Problem(field=f"{field}.metric", message=message))
    return problems


def directions(objectives: Sequence[Objective], folders: Sequence[Path]) -> dict[str, bool]:
    """Whether higher is better, by objective key.

    Raises:
        Invalid: for objectives that do not pass `check`.
    """
    problems = check(objectives, folders)
    if problems:
        raise Invalid(problems)
    return {
        objective.key: spellings(find(objective.task, folders))[objective.metric]
        for objective in objectives
    }


def example_count(objectives: Sequence[Objective], folders: Sequence[Path]) -> int:
    """About how many examples a candidate is scored on; a task that does not tell counts 1000."""
    count = 0
    for name in dict.fromkeys(objective.task for objective in objectives):
        try:
            known = example_counts(find(name, folders))
        except (UnknownName, Invalid):  # reported by `check`
            known = {}
        count += known.get(Split.SEARCH, _UNKNOWN_COUNT)
    return count


def _info(task_file: TaskFile) -> TaskInfo:
    config = task_file.config
    metrics = listed(task_file)
    return TaskInfo(config.task, config.output_type, metrics, example_counts(task_file))
