"""Which examples a search begins with: all splits of all its tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from evals.harness.documents import Documents
from evals.harness.loading import load
from evals.harness.task import Task
from evals.suite import Draw, Split, Suite


@dataclass(frozen=True, slots=True)
class Drawn:
    """Draws by task and split, and (field, message) pairs of what is worth knowing of them.

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
    by_split = {
        split: load(replace(suite, split=split, digests=()), tokenizer).tasks for split in Split
    }
    draws = tuple(
        Draw(task.name, split, len(task), task.digest)
        for split, tasks in by_split.items()
        for task in tasks
    )
    warnings = [
        (searched.name, text)
        for searched, *held_out in zip(*by_split.values(), strict=True)
        for split, task in zip((Split.SELECT, Split.REPORT), held_out, strict=True)
        if (text := _shared(searched, task, split))
    ]
    documents = tuple(
        Documents(task.name, split, tuple(task.documents))
        for split, tasks in by_split.items()
        for task in tasks
    )
    return Drawn(draws, tuple(warnings), documents)


def _shared(searched: Task, other: Task, split: Split) -> str:
    """Only a task that brings its own splits can have an example in two of them."""
    seen = {content.question for content in searched.contents}
    again = sum(content.question in seen for content in other.contents)
    if not again:
        return ""
    return f"{again} of its {len(other)} {split} examples are also among those that the search sees"
