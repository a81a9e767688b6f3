"""How the metrics of a task are written in a spec, and which way is better."""

from __future__ import annotations

from evals.harness.task_index import known_names
from evals.task_files import Function, Group, TaskFile

#: How many tokens an answer has, on average: a metric of ours for every task whose answers are
#: written. No filter has read them; a task's own metric of that name comes first.
OUTPUT_TOKENS = "output_tokens"
#: How differently the model goes on than base or a parent: `kl_to_base`, `kl_to_NAME`. A metric of
#: ours for every task.
_DIVERGENCE = "kl_to_"


def reference_of(metric: str) -> str | None:
    """The model that a divergence is taken to; None of any other metric."""
    name = metric.removeprefix(_DIVERGENCE)
    return name if name and name != metric else None


def direction(item: TaskFile | Group, metric: str) -> bool | None:
    """Whether higher is better; None where the item has no such metric."""
    if isinstance(item, TaskFile) and reference_of(metric) is not None:
        return False
    return spellings(item).get(metric)


def spellings(item: TaskFile | Group) -> dict[str, bool]:
    """Every way to write a metric; a bare metric means the first filter."""
    complete = _complete(item)
    bare: dict[str, bool] = {}
    for spelling, higher in complete.items():
        bare.setdefault(spelling.partition(",")[0], higher)
    found = bare | complete
    if isinstance(item, TaskFile) and item.config.output_type == "generate_until":
        found.setdefault(OUTPUT_TOKENS, False)
    return found


def listed(item: TaskFile | Group) -> dict[str, bool]:
    """One spelling of each metric: with the filter only where there are several."""
    complete = _complete(item)
    several = len({spelling.partition(",")[2] for spelling in complete}) > 1
    return {
        spelling: higher
        for spelling, higher in spellings(item).items()
        if ("," in spelling) == several or in_full(item, spelling) == OUTPUT_TOKENS
    }


def in_full(item: TaskFile | Group, spelling: str) -> str:
    """With its filter; without where none reads it."""
    full = (full for full in _complete(item) if full.partition(",")[0] == spelling)
    return next(full, spelling)


def _complete(item: TaskFile | Group) -> dict[str, bool]:
    """Every metric with every filter that reads it."""
    if isinstance(item, Group):
        return _aggregates(item)
    return {
        f"{metric},{name}": higher
        for name in _filter_names(item)
        for metric, higher in _metrics(item).items()
    }


def _aggregates(group: Group) -> dict[str, bool]:
    """The metrics that a group has an average of: those of its list that a task of it has.

    One that is better high in one task and low in another has no meaning, and is left out.
    """
    known: dict[str, set[bool]] = {}
    for leaf in group.leaves:
        for spelling, higher in _complete(leaf).items():
            known.setdefault(spelling, set()).add(higher)
    wanted = [
        spelling
        for entry in group.config.aggregate_metric_list or ()
        for spelling in sorted(known)
        if spelling.partition(",")[0] == entry.metric
        and (entry.filter_list is None or spelling.partition(",")[2] in entry.filter_list)
    ]
    return {spelling: max(known[spelling]) for spelling in wanted if len(known[spelling]) == 1}


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
