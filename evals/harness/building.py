"""lm-eval's task objects, with templates in a sandbox."""

from __future__ import annotations

import functools
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from evals.suite import Split
from evals.task_files import TaskFile

# lm-eval's command line draws few-shot examples with this seed.
_FEWSHOT_SEED = 1234
# What can go wrong between a task's file and its data.
_FAULTS = (OSError, ValueError, TypeError, LookupError, AttributeError, AssertionError, SyntaxError)


def lm_eval_task(task_file: TaskFile, split: Split) -> Any:
    """lm-eval's task object, made to evaluate the dataset split that ours is, or is a part of."""
    import datasets
    from lm_eval.tasks._factory import TaskFactory
    from lm_eval.tasks._index import Entry, Kind

    datasets.disable_progress_bars()
    _sandbox_templates()
    config = task_file.config
    evaluated = config.splits[split] if config.splits else config.evaluated_split
    overrides: dict[str, Any] = {"test_split": evaluated}
    if config.num_fewshot and config.fewshot_source is not None:
        # Said aloud, lm-eval never shows a document among its own examples.
        overrides["fewshot_split"] = config.fewshot_source
    entry = Entry(
        name=config.task,
        kind=Kind.TASK,
        yaml_path=task_file.path if task_file.trusted else None,
        cfg=None if task_file.trusted else dict(task_file.raw),
    )
    task = TaskFactory().build(entry, overrides=overrides, registry={})
    task.set_config(key="num_fewshot", value=config.num_fewshot or 0)
    task.set_fewshot_seed(seed=_FEWSHOT_SEED)
    return task


def task_faults() -> tuple[type[Exception], ...]:
    """What lm-eval raises over a bad task or missing data."""
    from datasets.exceptions import DatasetsError

    return (*_FAULTS, DatasetsError, jinja2.TemplateError)


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
