"""A scoring as lm-eval itself reports it: results, table, and a line for every example."""

from __future__ import annotations

import contextlib
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.harness.building import task_faults
from evals.harness.loading import Loaded
from evals.harness.task import Task
from evals.requests import Response
from evals.task_files import Group
from search.problems import Invalid, Problem

# As often as lm-eval resamples where a standard error has no formula.
RESAMPLES = 100_000


@dataclass(frozen=True, slots=True)
class Report:
    """What lm-eval's ``simple_evaluate`` returns of the same answers.

    Args:
        results: its dictionary, without samples and without what it says of the machine.
        samples: by task, a dictionary for every example and filter, as it logs them.
        table: as its command line prints it; with that of groups where there are any.
    """

    results: Mapping[str, Any]
    samples: Mapping[str, Sequence[Mapping[str, Any]]]
    table: str


def report(loaded: Loaded, responses: Sequence[Response], *, resamples: int = RESAMPLES) -> Report:
    """Put a model's answers through lm-eval's own accounts.

    Args:
        loaded: whose requests were answered.
        responses: one to each request.
        resamples: for standard errors without a formula; none are given for 0.

    Raises:
        Invalid: when a task's own Python fails on an answer.
    """
    from lm_eval.evaluator_utils import _process_results
    from lm_eval.utils import make_table

    accounts = {}
    for task, part in loaded.parts(responses):
        try:
            accounts[task.name] = _account(task, part)
        except task_faults() as error:
            message = f"its answers cannot be judged: {type(error).__name__}: {error}"
            raise Invalid([Problem(field=task.name, message=message)]) from error
    # It says on standard output what it resamples.
    with contextlib.redirect_stdout(io.StringIO()):
        results = _process_results(accounts, _groups(loaded), resamples)._to_eval_results()
    tables = [make_table(results)]
    if "groups" in results:
        tables.append(make_table(results, "groups"))
    samples = {name: account["logged_samples"] for name, account in accounts.items()}
    return Report(results, samples, "\n".join(tables))


def _account(task: Task, responses: Sequence[Response]) -> dict[str, Any]:
    """What lm-eval's evaluator keeps of a task."""
    task.answer(responses)
    raw: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
    samples: list[dict[str, Any]] = []
    for ensemble in task.lm_eval_task._filters:
        results = task.results(ensemble.name)
        samples += _samples(task, ensemble.name, results)
        for result in results:
            for metric, value in result.items():
                raw[metric, ensemble.name].append(value)
    return {"task": task.lm_eval_task, "raw_metrics": raw, "logged_samples": samples}


def _samples(
    task: Task, name: str, results: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    from lm_eval.utils import handle_non_serializable, hash_string

    for example, result in zip(task.examples, results, strict=True):
        target = task.lm_eval_task.doc_to_target(example.document)
        text = json.dumps(
            example.document, indent=2, default=handle_non_serializable, ensure_ascii=False
        )
        yield {
            "doc_id": example.place,
            "doc": example.document,
            "target": target,
            "arguments": [instance.args for instance in example.asked],
            "resps": [instance.resps for instance in example.asked],
            "filtered_resps": [instance.filtered_resps[name] for instance in example.asked],
            "filter": name,
            "metrics": list(result),
            "doc_hash": hash_string(text),
            "prompt_hash": hash_string(example.asked[0].arguments[0]),
            "target_hash": hash_string(str(target)),
            **result,
        }


def _groups(loaded: Loaded) -> dict[str, Any]:
    """lm-eval's Groups by name, with its task objects in them."""
    tasks = {task.name: task.lm_eval_task for task in loaded.tasks}
    groups: dict[str, Any] = {}

    def built(group: Group) -> Any:
        from lm_eval.api.group import Group as LmEvalGroup
        from lm_eval.config.group import AggMetricConfig, GroupConfig

        config = group.config
        listed = [
            AggMetricConfig(
                metric=entry.metric,
                filter_list=None if entry.filter_list is None else list(entry.filter_list),
                weight_by_size=entry.weight_by_size,
            )
            for entry in config.aggregate_metric_list or ()
        ]
        made = LmEvalGroup.from_config(
            GroupConfig(
                group=group.name,
                group_alias=config.group_alias,
                task=[member.name for member in group.members],
                aggregate_metric_list=listed or None,
                metadata=config.metadata or {},
            )
        )
        groups[group.name] = made
        for member in group.members:
            made.add(built(member) if isinstance(member, Group) else tasks[member.name])
        return made

    for item in loaded.items:
        if isinstance(item, Group):
            built(item)
    return groups
