"""The tasks of a suite, ready to be asked together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from evals.drawing import digest
from evals.harness.aggregation import Measured, averaged
from evals.harness.objectives import check
from evals.harness.reading import chat_template
from evals.harness.spellings import direction, in_full, spellings
from evals.harness.task import Task
from evals.harness.task_index import Library
from evals.requests import Divergence, Request, Response
from evals.suite import Suite
from evals.task_files import Group, TaskFile
from search.problems import Invalid, Problem
from search.registry import UnknownName
from search.spec import Objective


class Loaded:
    """Tasks and groups, every task once.

    Attributes:
        tasks: in order.
        items: tasks and groups as they were named.
        requests: of all tasks, one task after the other.
    """

    def __init__(self, items: Sequence[TaskFile | Group], tasks: Sequence[Task]) -> None:
        self.items = items
        self.tasks = tasks
        self.requests: Sequence[Request] = tuple(r for task in tasks for r in task.requests)
        self._named = {item.name: item for item in items}

    def higher_is_better(self, objective: Objective) -> bool:
        """Of the metric itself."""
        return bool(direction(self._named[objective.task], objective.metric))

    def averaged(self, objective: Objective) -> list[str]:
        """Names of the tasks that an objective is measured on."""
        return _having(self._named[objective.task], objective.metric)

    def comparisons(self) -> dict[str, list[Divergence]]:
        """What is asked of each model that others are compared with, by its name."""
        found: dict[str, list[Divergence]] = {}
        for request in self.requests:
            if isinstance(request, Divergence):
                found.setdefault(request.reference, []).append(request)
        return found

    @property
    def groups(self) -> list[tuple[Group, list[Task]]]:
        """The groups that were named, with their tasks in order."""
        tasks = {task.name: task for task in self.tasks}
        return [
            (item, [tasks[leaf.name] for leaf in item.leaves])
            for item in self.items
            if isinstance(item, Group)
        ]

    @property
    def digests(self) -> dict[str, str]:
        """By name of task or group: of a group, what it says and those of its tasks."""
        found = {task.name: task.digest for task in self.tasks}
        groups = {
            group.name: digest([group.config.model_dump(mode="json"), *(found[t.name] for t in of)])
            for group, of in self.groups
        }
        return found | groups

    def first(self, count: int) -> Loaded:
        """The same tasks with their first examples only."""
        return Loaded(self.items, [task.first(count) for task in self.tasks])

    def follows_its_examples(self, objective: Objective) -> bool:
        """Whether an objective moves as the mean of its examples does; a group never."""
        named = {task.name: task for task in self.tasks}
        item = self._named[objective.task]
        return isinstance(item, TaskFile) and named[item.name].follows_its_examples(
            objective.metric
        )

    def measure(
        self, responses: Sequence[Response], objectives: Sequence[Objective]
    ) -> dict[str, Measured]:
        """What a model's responses, one to each request, are worth, by objective key.

        Raises:
            Unscorable: when a metric says nothing of some examples.
        """
        wanted = {
            objective.key: (item := self._named[objective.task], in_full(item, objective.metric))
            for objective in objectives
        }
        measured = self._of_tasks(responses, list(wanted.values()))
        return {key: _of_item(item, metric, measured) for key, (item, metric) in wanted.items()}

    def parts(self, responses: Sequence[Response]) -> list[tuple[Task, Sequence[Response]]]:
        """Every task with the responses to its own requests."""
        parts, start = [], 0
        for task in self.tasks:
            stop = start + len(task.requests)
            parts.append((task, responses[start:stop]))
            start = stop
        return parts

    def _of_tasks(
        self, responses: Sequence[Response], wanted: Sequence[tuple[TaskFile | Group, str]]
    ) -> dict[str, dict[str, Measured]]:
        """By name of task and metric, each measured once."""
        metrics: dict[str, dict[str, None]] = {}
        for item, metric in wanted:
            for name in _having(item, metric):
                metrics.setdefault(name, {})[metric] = None
        return {
            task.name: task.measure(part, list(metrics[task.name]))
            for task, part in self.parts(responses)
            if task.name in metrics
        }


def load(suite: Suite, tokenizer: PreTrainedTokenizerBase, *, names: Sequence[str] = ()) -> Loaded:
    """The tasks of a suite, with their requests; ``names`` are of tasks, groups, tags beyond it.

    Raises:
        Invalid: when a task cannot be used, its data cannot be read, its split is empty, or its
            examples are not those that the suite was made for.
    """
    library = Library.of(suite)
    problems = check(suite.objectives, library)
    items: list[TaskFile | Group] = []
    for name in dict.fromkeys([*(objective.task for objective in suite.asked), *names]):
        try:
            items += library.find_all(name)
        except UnknownName as error:
            problems.append(Problem(field=name, message=str(error)))
        except Invalid as error:
            problems += error.problems
    leaves: dict[str, TaskFile] = {}
    for leaf in (leaf for item in items for leaf in item.leaves):
        if leaves.setdefault(leaf.name, leaf) != leaf:
            message = "is asked in two ways; leave out one of the groups that say how"
            problems.append(Problem(field=leaf.name, message=message))
    if problems:
        raise Invalid(problems)
    template = chat_template(tokenizer) if suite.evaluation.apply_chat_template else None

    def width(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    def vocabulary() -> int:
        return len(tokenizer)

    tasks = [Task(leaf, suite, template, width, vocabulary) for leaf in leaves.values()]
    loaded = Loaded(items, tasks)
    if problems := _changed(loaded, suite):
        raise Invalid(problems)
    return loaded


def _changed(loaded: Loaded, suite: Suite) -> list[Problem]:
    """Tasks and groups that are others than those that the suite was made for."""
    known = dict(suite.digests)
    if not known or suite.limit is not None:
        return []
    message = (
        f"its {suite.split} examples or its task file are no longer those that the search began"
        " with; restore them, or start a new search"
    )
    return [
        Problem(field=name, message=message)
        for name, found in loaded.digests.items()
        if known.get(name, found) != found
    ]


def _having(item: TaskFile | Group, metric: str) -> list[str]:
    """Names of the tasks of an item that have a metric: for a group, what it averages."""
    if isinstance(item, TaskFile):
        return [item.name]
    return [leaf.name for leaf in item.leaves if metric in spellings(leaf)]


def _of_item(
    item: TaskFile | Group, metric: str, measured: Mapping[str, Mapping[str, Measured]]
) -> Measured:
    parts = [measured[name][metric] for name in _having(item, metric)]
    if isinstance(item, TaskFile):
        return parts[0]
    by_size = next(
        entry.weight_by_size
        for entry in item.config.aggregate_metric_list or ()
        if entry.metric == metric.partition(",")[0]
    )
    return averaged(parts, by_size=by_size)
