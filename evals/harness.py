"""The one place that knows lm-eval: finds its tasks and turns them into requests and scores.

Everything untyped of lm-eval stays in here.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from jinja2.sandbox import SandboxedEnvironment
from numpy.typing import NDArray

from evals.requests import Answer, Continuation, Prompt, Request, Response, Text
from evals.suite import Split, Suite
from evals.task_files import Function, TaskFile, names_in, read_task
from evals.task_rules import Known, example_counts, refusals, shows_what_it_asks, split_of
from search.problems import Invalid, Problem
from search.registry import UnknownName, suggestion
from search.spec import Objective

_log = logging.getLogger(__name__)

OWN_TASKS = Path(__file__).parent / "tasks"

# lm-eval's command line draws few-shot examples with this seed.
_FEWSHOT_SEED = 1234
# lm-eval resamples 100,000 times in a pool of processes: too much for every candidate.
_RESAMPLES = 100
# Examples of a task whose data has not been loaded, for estimates.
_UNKNOWN_COUNT = 1000
# What can go wrong between a task's file and its data.
_FAULTS = (OSError, ValueError, TypeError, LookupError, AttributeError, AssertionError, SyntaxError)


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


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one task on one model, in the metric's own sign.

    Args:
        value: lm-eval's aggregate.
        stderr: lm-eval's standard error; NaN where it has none.
        examples: (count,) float64; where the metric is no mean of numbers, what it says of one
            example alone.
    """

    value: float
    stderr: float
    examples: NDArray[np.float64]


def catalogue(folders: Sequence[Path]) -> Sequence[TaskInfo]:
    """The tasks of the given folders and our own, by name; unusable files are left out.

    lm-eval's own eleven thousand tasks can be objectives, but are not listed.
    """
    infos = []
    for name, path in sorted(_names(folders).items()):
        try:
            infos.append(_info(_usable(path)))
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
            known = _spellings(task_file)
        except UnknownName as error:
            problems.append(Problem(field=f"{field}.task", message=str(error)))
        except Invalid as error:
            problems += [
                Problem(field=f"{field}.task", message=f"{problem.field} {problem.message}")
                for problem in error.problems
            ]
        else:
            if objective.metric not in known:
                near = suggestion(objective.metric, _listed(task_file))
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
        objective.key: _spellings(find(objective.task, folders))[objective.metric]
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


def find(name: str, folders: Sequence[Path]) -> TaskFile:
    """The task file of a name: in the given folders in order, then our own, then lm-eval's.

    Raises:
        UnknownName: when there is none.
        Invalid: when the file cannot be used.
    """
    names = _names(folders)
    if name in names:
        return _usable(names[name])
    builtin = _builtin_names()
    if name in builtin:
        return _usable(builtin[name], trusted=True)
    raise UnknownName("task", name, names or builtin)


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
        self.metrics: Mapping[str, bool] = _spellings(task_file)
        try:
            self._task = _lm_eval_task(task_file, split)
            self._examples = _examples(self._task, task_file, split, limit)
        except _task_faults() as error:
            what = next(iter(str(error).splitlines()), "no reason given")
            message = f"cannot be built from {task_file.path}: {type(error).__name__}: {what}"
            raise Invalid([Problem(field=self.name, message=message)]) from error
        if not self._examples:
            raise Invalid([Problem(field=self.name, message=f"has no {split} examples")])
        self._instances = [instance for _, asked in self._examples for instance in asked]
        self.requests: Sequence[Request] = tuple(_request(i) for i in self._instances)

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
            measured[spelling] = self._aggregated(metric, items)
        return measured

    def _results(self, name: str) -> list[Mapping[str, Any]]:
        """lm-eval's results for each example, as one filter reads the answers."""
        return [
            self._task.process_results(doc, [i.filtered_resps[name] for i in asked])
            for doc, asked in self._examples
        ]

    def _aggregated(self, metric: str, items: list[Any]) -> Measured:
        from lm_eval.api import metrics

        aggregate = self._task.aggregation().get(metric, metrics.mean)
        try:
            value, stderr = float(aggregate(items)), _stderr(aggregate, items)
        except OverflowError:  # a perplexity beyond all numbers
            value, stderr = math.inf, math.nan
        return Measured(
            value=value,
            stderr=stderr,
            examples=np.array([_of_one(aggregate, item) for item in items], dtype=np.float64),
        )


def rolling_windows(
    tokens: Sequence[int], prefix: int, length: int
) -> list[tuple[list[int], list[int]]]:
    """(context, continuation) windows that cover a text once, as lm-eval cuts them."""
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    windows = get_rolling_token_windows(
        token_list=list(tokens), prefix_token=prefix, max_seq_len=length, context_len=1
    )
    return [make_disjoint_window(window) for window in windows]


def context_length(model_config: object, tokenizer: object) -> int:
    """How many tokens a model reads, by the rules of lm-eval."""
    from lm_eval.models.utils import resolve_max_length

    return int(resolve_max_length(model_config, tokenizer))


def _names(folders: Sequence[Path]) -> dict[str, Path]:
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


def _usable(path: Path, *, trusted: bool = False) -> TaskFile:
    task_file = read_task(path, trusted=trusted)
    problems = refusals(task_file, _known())
    if problems:
        raise Invalid(problems)
    return task_file


@functools.cache
def _known() -> Known:
    from lm_eval import filters  # noqa: F401  # fills the registry
    from lm_eval.api import metrics  # noqa: F401  # likewise
    from lm_eval.api.registry import aggregation_registry, filter_registry, metric_registry

    return Known(
        metrics=frozenset(metric_registry.keys()),
        aggregations=frozenset(aggregation_registry.keys()),
        filters=frozenset(filter_registry.keys()),
    )


def _metrics(task_file: TaskFile) -> dict[str, bool]:
    """Metric -> whether higher is better."""
    _known()
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


def _spellings(task_file: TaskFile) -> dict[str, bool]:
    """Every way to write a metric of a task; a bare metric means the first filter."""
    metrics = _metrics(task_file)
    with_filter = {
        f"{metric},{name}": higher
        for name in _filter_names(task_file)
        for metric, higher in metrics.items()
    }
    return metrics | with_filter


def _listed(task_file: TaskFile) -> dict[str, bool]:
    """One spelling of each metric: with the filter only where there are several."""
    several = len(_filter_names(task_file)) > 1
    return {
        spelling: higher
        for spelling, higher in _spellings(task_file).items()
        if ("," in spelling) == several
    }


def _info(task_file: TaskFile) -> TaskInfo:
    config = task_file.config
    metrics = _listed(task_file)
    return TaskInfo(config.task, config.output_type, metrics, example_counts(task_file))


def _task_faults() -> tuple[type[Exception], ...]:
    """What lm-eval raises over a bad task or missing data."""
    from datasets.exceptions import DatasetsError

    return (*_FAULTS, DatasetsError, jinja2.TemplateError)


def _lm_eval_task(task_file: TaskFile, split: Split) -> Any:
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


# An example of a task: the document, and what is asked about it (lm-eval's Instances).
_Example = tuple[Any, list[Any]]


def _examples(task: Any, task_file: TaskFile, split: Split, limit: int | None) -> list[_Example]:
    """The examples of a split with their requests, contexts drawn exactly as lm-eval draws them."""
    divided = task_file.config.splits is None
    if shows_what_it_asks(task_file):
        # Only search documents are ever shown with their answers.
        shown = [doc for doc in task.fewshot_docs() if split_of(doc) is Split.SEARCH]
        task.sampler.replace_df(shown)
    examples: list[_Example] = []
    for index, doc in enumerate(task.eval_docs):
        if limit is not None and len(examples) >= limit:
            break
        chosen = not divided or split_of(doc) is split
        # Few-shot examples are drawn for one document after the other: none may be passed over.
        if chosen or task.config.num_fewshot:
            context = task.fewshot_context(
                doc, num_fewshot=task.config.num_fewshot, gen_prefix=task.doc_to_prefix(doc)
            )
        if chosen:
            metadata = (task.config.task, index, task.config.repeats)
            asked = task.construct_requests(doc=doc, ctx=context, metadata=metadata)
            examples.append((doc, asked if isinstance(asked, list) else [asked]))
    return examples


def _request(instance: Any) -> Request:
    match instance.request_type:
        case "loglikelihood":
            return Continuation(*instance.args)
        case "loglikelihood_rolling":
            return Text(*instance.args)
        case _:
            return _prompt(*instance.args)


def _prompt(context: str, options: Mapping[str, Any]) -> Prompt:
    from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

    normal = normalize_gen_kwargs(dict(options))
    until = handle_stop_sequences(normal["until"], eos=None)
    return Prompt(context, tuple(until), normal["max_gen_toks"])


def _as_lm_eval(response: Response) -> object:
    if isinstance(response, Answer):
        return (response.loglikelihood, response.greedy)
    return response


def _stderr(aggregate: Callable[..., float], items: list[Any]) -> float:
    """lm-eval's standard error, with fewer resamples where it has to resample."""
    from lm_eval.api import metrics

    function = metrics.stderr_for_metric(aggregate, _RESAMPLES)
    if function is None or len(items) < 2:
        return math.nan
    if aggregate in (metrics.mean, metrics.acc_all):
        return float(function(items))
    resampled = metrics._bootstrap_internal(aggregate, _RESAMPLES)((0, items))
    return float(metrics.sample_stddev(resampled))


def _of_one(aggregate: Callable[..., float], item: Any) -> float:
    """What a metric says of one example, smaller or larger as the metric itself is.

    Perplexities are given in nats, which do not overflow. An empty text says nothing, 0.
    """
    from lm_eval.api import metrics

    if aggregate is metrics.perplexity:
        return -float(item)
    if aggregate in (metrics.weighted_perplexity, metrics.bits_per_byte) and item[1] == 0:
        return 0.0
    if aggregate is metrics.weighted_perplexity:
        return -float(item[0]) / float(item[1])
    if aggregate in (metrics.f1_score, metrics.matthews_corrcoef):
        return float(item[0] == item[1])
    return float(aggregate([item]))
