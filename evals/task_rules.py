"""Which tasks can be objectives."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from evals.suite import Split
from evals.task_files import TaskFile
from search.problems import Problem
from search.registry import suggestion

_FILE_FORMATS = frozenset({"json", "csv", "parquet", "text", "arrow"})
_LENGTH_OPTIONS = frozenset({"max_gen_toks", "max_new_tokens", "max_tokens"})
_GREEDY_OPTIONS = _LENGTH_OPTIONS | {
    "max_completion_tokens",
    "until",
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
}

_HARMLESS = frozenset(
    {"task_alias", "tag", "num_fewshot", "description", "fewshot_delimiter", "target_delimiter"}
    | {"doc_to_text", "doc_to_choice", "doc_to_target", "gen_prefix", "repeats"}
)


@dataclass(frozen=True, slots=True)
class Known:
    """The names that lm-eval has functions for."""

    metrics: Collection[str]
    aggregations: Collection[str]
    filters: Collection[str]


def refusals(task_file: TaskFile, known: Known) -> list[Problem]:
    """Why a task that was read cannot be an objective; the field is ``file: key``."""
    found = [*_unusable(task_file), *_bad_splits(task_file)]
    if not task_file.trusted:
        found += _untrusted(task_file, known)
    return [Problem(field=f"{task_file.path}: {key}", message=message) for key, message in found]


def forbidden_overrides(group: Path, overrides: Mapping[str, object]) -> list[Problem]:
    """What a group of an untrusted folder must not change in a task that may run Python."""
    return [
        Problem(
            field=f"{group}: {key}",
            message="must not be changed in a task that brings Python;"
            f" what may be: {', '.join(sorted(_HARMLESS))}",
        )
        for key in sorted(overrides.keys() - _HARMLESS)
    ]


def example_counts(task_file: TaskFile) -> dict[str, int]:
    """Number of examples by split, where the lines of local files tell."""
    counts = {}
    for split, dataset_split in (task_file.config.splits or {}).items():
        files = _data_files(task_file).get(dataset_split, [])
        if files and all(path.suffix == ".jsonl" and path.is_file() for path in files):
            counts[str(split)] = sum(_lines(path) for path in files)
    return counts


def shows_what_it_asks(task_file: TaskFile) -> bool:
    """Whether few-shot examples come from the very documents that have to be divided."""
    config = task_file.config
    return bool(
        config.splits is None
        and config.num_fewshot
        and config.fewshot_source == config.evaluated_split
    )


def _unusable(task_file: TaskFile) -> Iterator[tuple[str, str]]:
    config, raw = task_file.config, task_file.raw
    if config.unsafe_code:
        yield "unsafe_code", "this task runs what the model writes, which workers never do"
    if "class" in raw:
        yield "class", "tasks written in Python are not supported; describe the task in YAML"
    for key in ("doc_to_image", "doc_to_audio"):
        if raw.get(key) is not None:
            yield key, "only tasks of text are supported"
    for index, entry in enumerate(config.metric_list or ()):
        if entry.metric == "likelihood" and entry.aggregation in (None, "mean"):
            yield f"metric_list[{index}].metric", "is a pair, which lm-eval cannot average"
    options = config.generation_kwargs or {}
    sampled = options.get("do_sample")
    if sampled or (sampled is None and options.get("temperature")):
        message = "answers would be sampled, so that no score repeats; set do_sample: false"
        yield "generation_kwargs", message
    for name in sorted(options.keys() - _GREEDY_OPTIONS):
        yield f"generation_kwargs.{name}", "is not supported; answers are decoded greedily"


def _bad_splits(task_file: TaskFile) -> Iterator[tuple[str, str]]:
    config = task_file.config
    if config.evaluated_split is None:
        yield "test_split", "is required (or validation_split)"
    try:
        splits = config.splits
    except ValueError as error:
        yield "metadata.splits", str(error)
        return
    if splits and config.num_fewshot and config.fewshot_source == splits[Split.REPORT]:
        message = "is the report split, whose answers must not be shown; take the search split"
        yield "fewshot_split", message
    for split, files in _data_files(task_file).items():
        for path in files:
            if not path.is_file():
                yield f"dataset_kwargs.data_files.{split}", f"there is no file {path}"


def _untrusted(task_file: TaskFile, known: Known) -> Iterator[tuple[str, str]]:
    """What a task file from a folder must not do: bring or fetch code."""
    config, raw = task_file.config, task_file.raw
    if raw.get("custom_dataset") is not None:
        yield "custom_dataset", "would run Python; name a dataset or data files"
    if raw.get("use_prompt") is not None:
        yield "use_prompt", "would load a prompt from elsewhere; write doc_to_text"
    if (config.dataset_kwargs or {}).get("trust_remote_code"):
        yield "dataset_kwargs.trust_remote_code", "would run the dataset's code; leave it out"
    for index, entry in enumerate(config.metric_list or ()):
        key = f"metric_list[{index}]"
        if entry.hf_evaluate:
            yield f"{key}.hf_evaluate", "would download and run code; use a metric of lm-eval"
        yield from _unknown(f"{key}.metric", entry.metric, known.metrics)
        yield from _unknown(f"{key}.aggregation", entry.aggregation, known.aggregations)
    for index, named in enumerate(config.filter_list or ()):
        for step, function in enumerate(named.filter):
            key = f"filter_list[{index}].filter[{step}].function"
            yield from _unknown(key, function.function, known.filters)


def _unknown(key: str, name: object, known: Collection[str]) -> Iterator[tuple[str, str]]:
    if isinstance(name, str) and name not in known:
        yield key, f"lm-eval has no '{name}'; {suggestion(name, known)}"


def _data_files(task_file: TaskFile) -> dict[str, list[Path]]:
    """Local data files by dataset split, where the task names them one by one."""
    config = task_file.config
    files = (config.dataset_kwargs or {}).get("data_files")
    if config.dataset_path not in _FILE_FORMATS or not isinstance(files, Mapping):
        return {}
    listed = {str(split): [v] if isinstance(v, str) else v for split, v in files.items()}
    return {
        split: [Path(path) for path in paths]
        for split, paths in listed.items()
        if isinstance(paths, list) and all(_is_local(path) for path in paths)
    }


def _is_local(path: object) -> bool:
    return isinstance(path, str) and "://" not in path and not set("*?[") & set(path)


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())
