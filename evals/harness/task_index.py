"""Which tasks there are: found by name, read, and checked without running their Python."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.suite import Suite
from evals.task_files import Group, GroupConfig, TaskFile, parsed, read_document, task_of
from evals.task_names import Tag, names_in
from evals.task_rules import Known, forbidden_overrides, refusals
from evals.text_files import PREFIX, find_text, text_document
from search.problems import Invalid, Problem
from search.registry import UnknownName
from search.spec import Evaluation

OWN_TASKS = Path(__file__).parents[1] / "tasks"


class Library:
    """Finds tasks, groups and tags by name: in folders in order, then ours, then lm-eval's.

    ``text:notes.txt`` is the task of a text file in one of the folders.

    Groups are put together by the rules of lm-eval, but for a group that is named as ``task: name``
    in another, with or without overrides: there lm-eval gives all its tasks that one name, and
    scores only the last.

    Args:
        folders: of task files.
        trusted: folders whose task files may bring Python, and all folders below.
        evaluation: how the tasks will be asked.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        trusted: Sequence[Path] = (),
        evaluation: Evaluation | None = None,
    ) -> None:
        self._folders = tuple(folders)
        self._trusted = tuple(folder.resolve() for folder in trusted)
        self._evaluation = evaluation or Evaluation()

    @classmethod
    def of(cls, suite: Suite) -> Library:
        """That a suite's tasks are found in."""
        folders = [Path(folder) for folder in suite.folders]
        return cls(folders, [Path(folder) for folder in suite.trusted], suite.evaluation)

    @property
    def listed(self) -> list[str]:
        """Names of tasks and groups of the folders and our own, in order."""
        return sorted(name for name, found in self._own.items() if isinstance(found, Path))

    def find(self, name: str) -> TaskFile | Group:
        """The task or group of a name.

        Raises:
            UnknownName: when there is none.
            Invalid: when its file cannot be used, or the name is a tag.
        """
        if name.startswith(PREFIX):
            return self._text(name)
        found = self._found(name)
        if isinstance(found, Tag):
            message = f"is a tag, which has no score; name one of its tasks: {_some(found.tasks)}"
            raise Invalid([Problem(field=name, message=message)])
        return self._read(found)

    def find_all(self, name: str) -> list[TaskFile | Group]:
        """As `find`, but a tag is all its tasks."""
        if name.startswith(PREFIX):
            return [self._text(name)]
        found = self._found(name)
        if isinstance(found, Tag):
            return [self.find(task) for task in found.tasks]
        return [self._read(found)]

    def _text(self, name: str) -> TaskFile:
        """The task of a text file in one of the folders."""
        path = find_text(name, self._folders)
        return self._task(path, text_document(name, path), {})

    @functools.cached_property
    def _own(self) -> dict[str, Path | Tag]:
        names: dict[str, Path | Tag] = {}
        for folder in (*self._folders, OWN_TASKS):
            names = names_in(folder) | names
        return names

    def _found(self, name: str) -> Path | Tag:
        found = self._own.get(name) or _builtin_names().get(name)
        if found is None:
            raise UnknownName("task", name, self._own or _builtin_names())
        return found

    def _read(self, path: Path) -> TaskFile | Group:
        document = read_document(path, trusted=self._trusts(path))
        if "group" in document:
            return self._group(path, document, {}, above=())
        return self._task(path, document, {})

    def _trusts(self, path: Path) -> bool:
        roots = (*self._trusted, *_builtin_folders())
        return any(path.resolve().is_relative_to(root) for root in roots)

    def _task(self, path: Path, raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> TaskFile:
        task_file = task_of(path, {**raw, **overrides}, trusted=self._trusts(path))
        shots = self._evaluation.num_fewshot
        if shots is not None and task_file.config.num_fewshot != 0:  # what says 0 stays at 0
            task_file = task_of(
                path, {**task_file.raw, "num_fewshot": shots}, trusted=task_file.trusted
            )
        problems = refusals(task_file, known_names())
        if problems:
            raise Invalid(problems)
        return task_file

    def _group(
        self,
        path: Path,
        document: Mapping[str, Any],
        overrides: Mapping[str, Any],
        above: tuple[str, ...],
    ) -> Group:
        """Members get the group's own further keys, over these the overrides from above."""
        config = parsed(GroupConfig, path, document)
        if config.group in above:
            raise Invalid([Problem(field=f"{path}: task", message="is a group within itself")])
        overrides = {**config.overrides, **overrides}
        above = (*above, config.group)
        members = {
            member.name: member  # named twice, the last counts
            for item in config.task
            for member in self._members(path, item, overrides, above)
        }
        if not members:
            raise Invalid([Problem(field=f"{path}: task", message="names no task")])
        return Group(config, tuple(members.values()))

    def _members(
        self,
        path: Path,
        item: str | Mapping[str, Any],
        overrides: Mapping[str, Any],
        above: tuple[str, ...],
    ) -> Iterator[TaskFile | Group]:
        """What one entry under ``task`` means: a task, a group, the tasks of a tag."""
        own = {"task": item} if isinstance(item, str) else dict(item)
        key = "group" if "group" in own else "task"
        name = own.pop(key, None)
        if not isinstance(name, str):
            message = "every entry is a name, or a mapping with task or group"
            raise Invalid([Problem(field=f"{path}: task", message=message)])
        merged = {**overrides, **own}
        try:
            found = self._found(name)
        except UnknownName as error:
            if isinstance(item, str):
                raise Invalid([Problem(field=f"{path}: task", message=str(error))]) from None
            inner = {**own, key: f"{above[-1]}::{name}"}
            if key == "group":
                yield self._group(path, inner, overrides, above)
            else:
                yield self._task(path, inner, overrides)
            return
        for place in map(self._place, found.tasks) if isinstance(found, Tag) else (found,):
            yield self._member(path, place, merged, above)

    def _place(self, task: str) -> Path:
        found = self._found(task)
        if isinstance(found, Tag):  # a tag lists what is no tag
            raise UnknownName("task", task, self._own)
        return found

    def _member(
        self, group: Path, path: Path, overrides: Mapping[str, Any], above: tuple[str, ...]
    ) -> TaskFile | Group:
        document = read_document(path, trusted=self._trusts(path))
        if self._trusts(path) and not self._trusts(group):
            problems = forbidden_overrides(group, overrides)
            if problems:
                raise Invalid(problems)
        if "group" in document:
            return self._group(path, document, overrides, above)
        return self._task(path, document, overrides)


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


@functools.cache
def _builtin_folders() -> tuple[Path, ...]:
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        return ()
    return ((Path(spec.origin).parent / "tasks").resolve(),)


@functools.cache
def _builtin_names() -> dict[str, Path | Tag]:
    """Names of the installed lm-eval: two seconds, once, where its own index takes seven."""
    names: dict[str, Path | Tag] = {}
    for folder in _builtin_folders():
        names |= names_in(folder)
    return names


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
