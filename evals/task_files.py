"""Task files and group files, read without running anything that they mention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from evals.suite import Split
from search.problems import Invalid, Problem
from search.spec import problems_of

OutputType = Literal["loglikelihood", "loglikelihood_rolling", "multiple_choice", "generate_until"]

MAX_BYTES = 1 << 20
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Function:
    """A ``!function`` of a task file: a reference to Python, never followed here.

    Args:
        reference: ``module.name``.
        folder: where its module is looked for first: that of the file that says so.
    """

    reference: str
    folder: Path


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", arbitrary_types_allowed=True)


Part = TypeVar("Part", bound=_Part)


class MetricEntry(_Part):
    """One entry of ``metric_list``."""

    metric: str | Function
    aggregation: str | Function | None = None
    higher_is_better: bool | None = None
    hf_evaluate: bool = False


class FilterStep(_Part):
    """One step of a filter."""

    function: str | Function


class FilterEntry(_Part):
    """One entry of ``filter_list``: a named way to read an answer out of what was generated."""

    name: str
    filter: Sequence[FilterStep]


class Aggregate(_Part):
    """One entry of ``aggregate_metric_list``: a metric of the tasks of a group, averaged."""

    metric: str
    filter_list: Sequence[str] | None = None
    aggregation: str | Function = "mean"
    weight_by_size: bool = True

    @field_validator("filter_list", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("aggregation")
    @classmethod
    def _known(cls, value: object) -> object:
        if isinstance(value, str) and value != "mean":
            raise ValueError("lm-eval averages groups with mean, and with nothing else")
        return value


class GroupConfig(_Part):
    """What nichemerge itself reads of a group file; any further key overrides it in every task."""

    group: str
    group_alias: str | None = None
    task: Sequence[str | Mapping[str, Any]] = ()
    aggregate_metric_list: Sequence[Aggregate] | None = None
    metadata: Any = None

    @field_validator("task", "aggregate_metric_list", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return [value] if isinstance(value, str | dict) else value

    @property
    def overrides(self) -> dict[str, Any]:
        """Keys that every task below gets."""
        return dict(self.model_extra or {})


class FewShot(_Part):
    """Where the examples in front of a question come from, when the file says more than a split."""

    split: str | None = None
    samples: Any = None


class TaskConfig(_Part):
    """What nichemerge itself reads of a task file; lm-eval reads the rest."""

    task: str
    output_type: OutputType = "generate_until"
    dataset_path: str | None = None
    dataset_kwargs: Mapping[str, Any] | None = None
    training_split: str | None = None
    validation_split: str | None = None
    test_split: str | None = None
    fewshot_split: str | None = None
    fewshot_config: FewShot | None = None
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    metric_list: Sequence[MetricEntry] | None = None
    filter_list: Sequence[FilterEntry] | None = None
    generation_kwargs: Mapping[str, Any] | None = None
    metadata: Any = None
    unsafe_code: bool = False

    @property
    def roles(self) -> dict[str, str]:
        """The dataset split of each of training, validation and test, where there is one."""
        named = {
            "training": self.training_split,
            "validation": self.validation_split,
            "test": self.test_split,
        }
        return {role: split for role, split in named.items() if split}

    @property
    def evaluated_split(self) -> str | None:
        """The dataset split that lm-eval scores."""
        return self.test_split or self.validation_split

    @property
    def fewshot_source(self) -> str | None:
        """The dataset split that few-shot examples come from; None when the file lists them."""
        if self.fewshot_config and self.fewshot_config.split:
            return self.fewshot_config.split
        if self.fewshot_split:
            return self.fewshot_split
        if self.fewshot_config and self.fewshot_config.samples is not None:
            return None
        return self.training_split or self.validation_split or self.test_split

    @property
    def splits(self) -> dict[Split, str] | None:
        """The dataset split behind each of ours; None when the evaluated split has to be divided.

        A file says so by ``metadata: {splits: {search: training, select: validation, report:
        test}}``, or by calling its dataset splits search, select and report.

        Raises:
            ValueError: when ``metadata.splits`` makes no sense.
        """
        declared = self.metadata.get("splits") if isinstance(self.metadata, Mapping) else None
        roles = self.roles
        if declared is None:
            named = set(roles.values()) == set(Split)
            return {split: str(split) for split in Split} if named else None
        if not isinstance(declared, Mapping) or set(declared) != set(Split):
            raise ValueError("name a role for each of search, select and report, and nothing else")
        for role in declared.values():
            if role not in roles:
                known = ", ".join(roles)
                raise ValueError(f"'{role}' has no split in this file; roles that have: {known}")
        mapped = {split: roles[declared[split]] for split in Split}
        if len(set(mapped.values())) < len(Split):
            raise ValueError("search, select and report must be three different splits")
        return mapped


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A task file that was read.

    Args:
        path: where it lies.
        trusted: it came with lm-eval, so its Python may run.
        config: what we understand of it.
        raw: all of it, includes merged, `Function` for every ``!function``.
    """

    path: Path
    trusted: bool
    config: TaskConfig
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """That results are listed under."""
        return self.config.task

    @property
    def leaves(self) -> tuple[TaskFile, ...]:
        """Itself, as in a group of one."""
        return (self,)


@dataclass(frozen=True, slots=True)
class Group:
    """A group of tasks and other groups.

    Args:
        config: what the file says.
        members: tasks as the group overrides them, and groups, in the order of the file.
    """

    config: GroupConfig
    members: tuple[TaskFile | Group, ...]

    @property
    def name(self) -> str:
        """That results are listed under."""
        return self.config.group

    @property
    def leaves(self) -> tuple[TaskFile, ...]:
        """The tasks of the group and of the groups in it."""
        return tuple(leaf for member in self.members for leaf in member.leaves)


def read_task(path: Path, *, trusted: bool = False) -> TaskFile:
    """Read and check a task file.

    Raises:
        Invalid: with every problem; the field is ``file: key``.
    """
    return task_of(path, read_document(path, trusted=trusted), trusted=trusted)


def read_document(path: Path, *, trusted: bool = False) -> dict[str, Any]:
    """A file over the files that it includes; data files are looked for beside it.

    Raises:
        Invalid: when it cannot be read, or has Python without being trusted.
    """
    raw = _beside(_with_includes(path, ()), path.resolve().parent)
    problems = [
        Problem(
            field=f"{path}: {key}",
            message=f"is Python (!function {function.reference}), which only the task folders"
            " that the operator trusts may bring; use a Jinja template or a metric and filter"
            " that lm-eval has",
        )
        for key, function in _functions(raw, "")
        if not trusted
    ]
    if problems:
        raise Invalid(problems)
    return raw


def task_of(path: Path, raw: Mapping[str, Any], *, trusted: bool = False) -> TaskFile:
    """The task that a document describes.

    Raises:
        Invalid: with every problem; the field is ``file: key``.
    """
    return TaskFile(path, trusted, parsed(TaskConfig, path, raw), raw)


def parsed(model: type[Part], path: Path, raw: Mapping[str, Any]) -> Part:
    """What we understand of a document.

    Raises:
        Invalid: with every problem; the field is ``file: key``.
    """
    try:
        return model.model_validate(dict(raw))
    except ValidationError as error:
        raise Invalid(
            [
                Problem(field=f"{path}: {problem.field}", message=problem.message)
                for problem in problems_of(error, model)
            ]
        ) from None


def _with_includes(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """A file over the files that it includes, later keys winning, as lm-eval merges them."""
    path = path.resolve()
    if path in seen:
        raise Invalid([Problem(field=str(path), message="includes itself")])
    own = _parse(path)
    includes = own.pop("include", [])
    merged: dict[str, Any] = {}
    for include in includes if isinstance(includes, list) else [includes]:
        if not isinstance(include, str):
            raise Invalid([Problem(field=f"{path}: include", message="must be a file name")])
        merged |= _with_includes(path.parent / include, (*seen, path))
    merged.pop("task_list", None)  # defines tasks of the included file only
    return merged | own


def _beside(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same, with relative data files (of a group's tasks too) looked for beside the file."""
    if isinstance(members := raw.get("task"), list):
        placed_members = [_beside(m, folder) if isinstance(m, dict) else m for m in members]
        raw = raw | {"task": placed_members}
    options = raw.get("dataset_kwargs")
    if not isinstance(options, dict) or not isinstance(files := options.get("data_files"), dict):
        return raw

    def placed(value: object) -> object:
        if isinstance(value, list):
            return [placed(item) for item in value]
        return str(folder / value) if isinstance(value, str) and "://" not in value else value

    placed_files = {split: placed(value) for split, value in files.items()}
    return raw | {"dataset_kwargs": options | {"data_files": placed_files}}


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise Invalid([Problem(field=str(path), message="is larger than 1 MiB")])
        _refuse_bombs(text)
        document = _Loader(text, path.parent).get_single_data()
    except OSError as error:
        raise Invalid(
            [Problem(field=str(path), message=f"cannot be read: {error.strerror}")]
        ) from None
    except (yaml.YAMLError, _Bomb) as error:
        raise Invalid([Problem(field=str(path), message=_yaml_message(error))]) from None
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise Invalid([Problem(field=str(path), message="is not a mapping of names to values")])
    return document


class _Loader(yaml.CSafeLoader):
    """Plain data only; ``!function`` becomes a `Function`, any other tag is an error."""

    def __init__(self, text: bytes, folder: Path) -> None:
        super().__init__(text)
        self.folder = folder


def _inert(loader: _Loader, node: yaml.Node) -> Function:
    return Function(str(node.value), loader.folder)


_Loader.add_constructor("!function", _inert)


class _Bomb(ValueError):
    """A document that is built to exhaust its reader."""


def _refuse_bombs(text: bytes) -> None:
    """Stop at deep nesting and at aliases, both before any object is built.

    Aliases are how a few lines become billions; no task needs them.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            raise _Bomb(f"line {line}: aliases (*{event.anchor}) are not read; write it out")
        if depth > _MAX_DEPTH:
            raise _Bomb(f"line {line}: is nested more than {_MAX_DEPTH} levels deep")


def _yaml_message(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or next(iter(str(error).splitlines()), "not YAML")
    return f"line {mark.line + 1}: {what}" if mark is not None else str(what)


def _functions(value: object, key: str) -> Iterator[tuple[str, Function]]:
    """Every `Function` in a document with the path of its key."""
    match value:
        case Function():
            yield key, value
        case dict():
            for name, inner in value.items():
                yield from _functions(inner, f"{key}.{name}" if key else str(name))
        case list():
            for index, inner in enumerate(value):
                yield from _functions(inner, f"{key}[{index}]")
