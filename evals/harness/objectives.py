"""What can be an objective: the catalogue of tasks, and what is wrong with a list of objectives."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evals import weight_metrics
from evals.harness.spellings import direction, listed, reference_of, spellings
from evals.harness.task_index import Library
from evals.leaderboards import ranked_by
from evals.suite import Split, Suite
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

    Last comes what the weights alone tell.

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
    weights = weight_metrics.TASK
    return [*infos, TaskInfo(weights, weights, weight_metrics.METRICS, {})]


def check(objectives: Sequence[Objective], library: Library) -> list[Problem]:
    """What is wrong with the objectives, as far as task files tell; none of their Python runs."""
    problems = []
    if objectives and all(objective.task == weight_metrics.TASK for objective in objectives):
        message = "ask nothing of the model; name a task, or a text, as well"
        problems.append(Problem(field="objectives", message=message))
    for index, objective in enumerate(objectives):
        field = f"objectives[{index}]"
        if objective.task == weight_metrics.TASK:
            problems += _unknown_metric(field, objective, weight_metrics.METRICS)
            continue
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
            elif direction(item, objective.metric) is None:
                problems += _unknown_metric(field, objective, listed(item))
    return problems


def _unknown_metric(
    field: str, objective: Objective, known: Mapping[str, bool]
) -> Iterator[Problem]:
    if objective.metric not in known:
        near = suggestion(objective.metric, known)
        message = f"task '{objective.task}' has no metric '{objective.metric}'; {near}"
        yield Problem(field=f"{field}.metric", message=message)


def references(objectives: Sequence[Objective]) -> dict[str, str]:
    """The models that divergences are taken to, by the field of the objective that says so."""
    found = {f"objectives[{n}].metric": reference_of(o.metric) for n, o in enumerate(objectives)}
    return {field: name for field, name in found.items() if name is not None}


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


def standing_alone(suite: Suite) -> tuple[Objective, ...]:
    """What can be asked of a model without any other: divergences give way to another metric."""
    library, found = Library.of(suite), dict[str, Objective]()
    for objective in suite.asked:
        metric = objective.metric
        if reference_of(metric) is not None:
            metric = next(iter(listed(library.find(objective.task))), "")
        if metric:
            alone = Objective(task=objective.task, metric=metric)
            found[alone.key] = alone
    return tuple(found.values())


def directions(objectives: Sequence[Objective], library: Library) -> dict[str, bool]:
    """Whether higher is better, by objective key.

    Raises:
        Invalid: for objectives that do not pass `check`.
    """
    problems = check(objectives, library)
    if problems:
        raise Invalid(problems)
    return {objective.key: _direction(objective, library) for objective in objectives}


def _direction(objective: Objective, library: Library) -> bool:
    if objective.task == weight_metrics.TASK:
        return weight_metrics.METRICS[objective.metric]
    return bool(direction(library.find(objective.task), objective.metric))


def example_count(objectives: Sequence[Objective], library: Library) -> int:
    """About how many examples a candidate is scored on; a task that does not tell counts 1000."""
    names = dict.fromkeys(o.task for o in objectives if o.task != weight_metrics.TASK)
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
