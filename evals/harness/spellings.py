"""How the metrics of a task are written in a spec, and which way is better."""

from __future__ import annotations

from evals.harness.finding import known_names
from evals.task_files import Function, TaskFile


def spellings(task_file: TaskFile) -> dict[str, bool]:
    """Every way to write a metric of a task; a bare metric means the first filter."""
    metrics = _metrics(task_file)
    with_filter = {
        f"{metric},{name}": higher
        for name in _filter_names(task_file)
        for metric, higher in metrics.items()
    }
    return metrics | with_filter


def listed(task_file: TaskFile) -> dict[str, bool]:
    """One spelling of each metric: with the filter only where there are several."""
    several = len(_filter_names(task_file)) > 1
    return {
        spelling: higher
        for spelling, higher in spellings(task_file).items()
        if ("," in spelling) == several
    }


def _metrics(task_file: TaskFile) -> dict[str, bool]:
    """Metric -> whether higher is better."""
    known_names()  # fills the registries
    from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY, higher_is_better_registry

    config = task_file.config
    known = dict(higher_is_better_registry.items())
    if config.metric_list is None:
        return {name: known[name] for name in DEFAULT_METRIC_REGISTRY[config.output_type]}
    directions = {}
    for entry in config.metric_list:
        name = entry.metric
        if isinstance(name, Function):
            name = name.reference.rpartition(".")[2]  # lm-eval calls it by the function's name
        higher = entry.higher_is_better
        directions[name] = bool(known.get(name, True)) if higher is None else higher
    return directions


def _filter_names(task_file: TaskFile) -> list[str]:
    filters = task_file.config.filter_list
    return [entry.name for entry in filters] if filters else ["none"]
