"""Which tasks there are: found by name, read, and checked without running their Python."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from evals.task_files import TaskFile, names_in, read_task
from evals.task_rules import Known, refusals
from search.problems import Invalid
from search.registry import UnknownName

OWN_TASKS = Path(__file__).parents[1] / "tasks"


def find(name: str, folders: Sequence[Path]) -> TaskFile:
    """The task file of a name: in the given folders in order, then our own, then lm-eval's.

    Raises:
        UnknownName: when there is none.
        Invalid: when the file cannot be used.
    """
    names = task_names(folders)
    if name in names:
        return usable(names[name])
    builtin = _builtin_names()
    if name in builtin:
        return usable(builtin[name], trusted=True)
    raise UnknownName("task", name, names or builtin)


def task_names(folders: Sequence[Path]) -> dict[str, Path]:
    """Tasks of the given folders and our own; of two with one name, the first."""
    names: dict[str, Path] = {}
    for folder in (*folders, OWN_TASKS):
        names = names_in(folder) | names
    return names


@functools.cache
def _builtin_names() -> dict[str, Path]:
    """Tasks of the installed lm-eval: a second or two, once, where its own index takes ten."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        return {}
    return names_in(Path(spec.origin).parent / "tasks")


def usable(path: Path, *, trusted: bool = False) -> TaskFile:
    """The task in a file.

    Raises:
        Invalid: when it cannot be used.
    """
    task_file = read_task(path, trusted=trusted)
    problems = refusals(task_file, known_names())
    if problems:
        raise Invalid(problems)
    return task_file


@functools.cache
def known_names() -> Known:
    """What lm-eval's registries hold."""
    from lm_eval import filters  # noqa: F401  # fills the registry
    from lm_eval.api import metrics  # noqa: F401  # likewise
    from lm_eval.api.registry import aggregation_registry, filter_registry, metric_registry

    return Known(
        metrics=frozenset(metric_registry.keys()),
        aggregations=frozenset(aggregation_registry.keys()),
        filters=frozenset(filter_registry.keys()),
    )
