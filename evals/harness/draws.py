"""Which examples a search begins with: all splits of all its tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from evals.harness.documents import Document, Documents
from evals.harness.loading import Loaded, load
from evals.harness.task import Task
from evals.suite import Draw, Split, Suite


@dataclass(frozen=True, slots=True)
class Drawn:
    """Draws by task or group and split, and (field, message) pairs of what to know of them.

    ``documents`` are the examples themselves, by task and split.
    """

    draws: tuple[Draw, ...]
    warnings: tuple[tuple[str, str], ...]
    documents: tuple[Documents, ...] = ()


def draw(suite: Suite, tokenizer: PreTrainedTokenizerBase) -> Drawn:
    """Divide the examples of a suite's tasks, whatever its own split is.

    Raises:
        Invalid: when a task cannot be used, its data cannot be read, or a split has no example.
    """
    by_split = {split: load(replace(suite, split=split, digests=()), tokenizer) for split in Split}
    draws = tuple(
        Draw(name, split, count, loaded.digests[name])
        for split, loaded in by_split.items()
        for name, count in _counts(loaded).items()
    )
    warnings = [
        (searched.name, text)
        for searched, *held_out in zip(*(x.tasks for x in by_split.values()), strict=True)
        for split, task in zip((Split.SELECT, Split.REPORT), held_out, strict=True)
        if (text := _shared(searched, task, split))
    ]
    documents = tuple(
        Documents(name, split, found)
        for split, loaded in by_split.items()
        for name, found in _documents(loaded, suite).items()
    )
    return Drawn(draws, tuple(warnings), documents)


def _counts(loaded: Loaded) -> dict[str, int]:
    """Number of examples of every task and group."""
    groups = {group.name: sum(map(len, tasks)) for group, tasks in loaded.groups}
    return {task.name: len(task) for task in loaded.tasks} | groups


def _documents(loaded: Loaded, suite: Suite) -> dict[str, tuple[Document, ...]]:
    """In the order of per-example scores; not of a group that averages some of its tasks only."""
    found = {task.name: tuple(task.documents) for task in loaded.tasks}
    for group, tasks in loaded.groups:
        averaged = [loaded.averaged(one) for one in suite.asked if one.task == group.name]
        names = [task.name for task in tasks]
        if all(part == names for part in averaged):
            found[group.name] = tuple(one for name in names for one in found[name])
    return found


def _shared(searched: Task, other: Task, split: Split) -> str:
    """Only a task that brings its own splits can have an example in two of them."""
    seen = {content.question for content in searched.contents}
    again = sum(content.question in seen for content in other.contents)
    if not again:
        return ""
    return f"{again} of its {len(other)} {split} examples are also among those that the search sees"
