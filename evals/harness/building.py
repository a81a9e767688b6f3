"""lm-eval's task objects, with templates in a sandbox."""

from __future__ import annotations

import functools
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from evals.suite import Split
from evals.task_files import Function, TaskFile

# lm-eval's command line draws few-shot examples with this seed.
_FEWSHOT_SEED = 1234
# What can go wrong between a task's file and its data.
_FAULTS = (OSError, ValueError, TypeError, LookupError, AttributeError, AssertionError, SyntaxError)


def lm_eval_task(task_file: TaskFile, split: Split | None) -> Any:
    """lm-eval's task object, made to evaluate the dataset split that ours is, or is a part of.

    Without a split it is what lm-eval itself would build.
    """
    import datasets
    from lm_eval.tasks._factory import TaskFactory
    from lm_eval.tasks._index import Entry, Kind

    datasets.disable_progress_bars()
    _sandbox_templates()
    config = task_file.config
    entry = Entry(
        name=config.task, kind=Kind.TASK, yaml_path=None, cfg=_resolved(dict(task_file.raw))
    )
    overrides = _overrides(task_file, split)
    task = TaskFactory().build(entry, overrides=overrides, registry={})
    task.set_config(key="num_fewshot", value=config.num_fewshot or 0)
    task.set_fewshot_seed(seed=_FEWSHOT_SEED)
    return task


def task_faults() -> tuple[type[Exception], ...]:
    """What lm-eval raises over a bad task or missing data."""
    from datasets.exceptions import DatasetsError

    return (*_FAULTS, DatasetsError, jinja2.TemplateError)


def _overrides(task_file: TaskFile, split: Split | None) -> dict[str, Any]:
    """What has to be said beside the file, and no more, for few-shot examples follow what is said.

    lm-eval draws one more, and leaves the question itself out, where the split that it evaluates
    and that of the examples are named alike. It compares the names of the file and not what they
    come to mean: where no split of examples is named it may show a question with its answer. Among
    its own examples our splits never do.
    """
    if split is None:
        return {}
    config = task_file.config
    evaluated = config.splits[split] if config.splits else config.evaluated_split
    if config.num_fewshot and config.fewshot_source == evaluated:
        return {"test_split": evaluated, "fewshot_split": evaluated}
    return {} if evaluated == config.evaluated_split else {"test_split": evaluated}


def _resolved(value: Any) -> Any:
    """With Python in the place of every `Function`. Whoever may bring some was settled before."""
    from lm_eval.tasks._yaml_loader import _import_func_in_yml

    match value:
        case Function():
            return _import_func_in_yml(value.reference, value.folder)
        case dict():
            return {key: _resolved(inner) for key, inner in value.items()}
        case list():
            return [_resolved(inner) for inner in value]
    return value


@functools.cache
def _sandbox_templates() -> None:
    """Give lm-eval's Jinja templates a sandbox, and a memory of those that were compiled.

    Without it a template can reach any Python object, and is compiled anew for each document.
    """
    from lm_eval import utils

    class Templates(SandboxedEnvironment):
        def from_string(self, source: Any, *_: Any, **__: Any) -> jinja2.Template:
            return compiled(source)

    templates = Templates(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    compiled = functools.lru_cache(maxsize=1024)(super(Templates, templates).from_string)
    templates.filters |= utils.env.filters
    utils.env = templates
