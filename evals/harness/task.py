"""A task of lm-eval, ready to be asked and measured."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.harness.aggregation import Measured, aggregated
from evals.harness.building import lm_eval_task, task_faults
from evals.harness.examples import examples_of, request_of
from evals.harness.finding import find
from evals.harness.objectives import check
from evals.harness.spellings import spellings
from evals.requests import Answer, Request, Response
from evals.suite import Split, Suite
from evals.task_files import TaskFile
from search.problems import Invalid, Problem
from search.registry import UnknownName


def load(suite: Suite, *, every: Sequence[str] = ()) -> list[Task]:
    """The tasks of a suite, with their requests; ``every`` names tasks beyond the objectives.

    Raises:
        Invalid: when a task cannot be used, its data cannot be read, or its split is empty.
    """
    folders = [Path(folder) for folder in suite.folders]
    names = dict.fromkeys([*(objective.task for objective in suite.objectives), *every])
    problems = check(suite.objectives, folders)
    files = []
    for name in names:
        try:
            files.append(find(name, folders))
        except UnknownName as error:
            problems.append(Problem(field=name, message=str(error)))
        except Invalid as error:
            problems += error.problems
    if problems:
        raise Invalid(problems)
    return [Task(task_file, suite.split, suite.limit) for task_file in files]


class Task:
    """A task of lm-eval on one split: what it asks, and what it makes of the answers.

    Built once; `measure` may be called for every candidate and remembers none.

    Attributes:
        name: as written in a spec.
        requests: for the model, in the order of the examples.
        metrics: every spelling of every metric -> whether higher is better.
    """

    def __init__(self, task_file: TaskFile, split: Split, limit: int | None) -> None:
        self.name = task_file.config.task
        self.metrics: Mapping[str, bool] = spellings(task_file)
        try:
            self._task = lm_eval_task(task_file, split)
            self._examples = examples_of(self._task, task_file, split, limit)
        except task_faults() as error:
            what = next(iter(str(error).splitlines()), "no reason given")
            message = f"cannot be built from {task_file.path}: {type(error).__name__}: {what}"
            raise Invalid([Problem(field=self.name, message=message)]) from error
        if not self._examples:
            raise Invalid([Problem(field=self.name, message=f"has no {split} examples")])
        self._instances = [instance for _, asked in self._examples for instance in asked]
        self.requests: Sequence[Request] = tuple(request_of(i) for i in self._instances)

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._examples)

    def measure(self, responses: Sequence[Response], metrics: Sequence[str]) -> dict[str, Measured]:
        """Metrics of the model that gave these responses, one to each request.

        Args:
            responses: in the order of ``requests``.
            metrics: spellings among ``self.metrics``.
        """
        for instance, response in zip(self._instances, responses, strict=True):
            instance.resps = [_as_lm_eval(response)] * instance.repeats
            instance.filtered_resps = {}
        for ensemble in self._task._filters:
            ensemble.apply(self._instances)
        results = functools.cache(self._results)
        measured = {}
        for spelling in metrics:
            metric, _, name = spelling.partition(",")
            items = [result[metric] for result in results(name or self._task._filters[0].name)]
            measured[spelling] = aggregated(self._task.aggregation().get(metric), items)
        return measured

    def _results(self, name: str) -> list[Mapping[str, Any]]:
        """lm-eval's results for each example, as one filter reads the answers."""
        return [
            self._task.process_results(doc, [i.filtered_resps[name] for i in asked])
            for doc, asked in self._examples
        ]


def _as_lm_eval(response: Response) -> object:
    if isinstance(response, Answer):
        return (response.loglikelihood, response.greedy)
    return response
