"""Objectives on a text file: how likely a model finds the text, without a task file.

``text:notes.txt`` is the file ``notes.txt`` in a task folder. Its paragraphs are the examples, or
the field ``text`` of each line of a ``.jsonl``; they are divided into splits as those of any task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from search.registry import UnknownName

PREFIX = "text:"

_FORMATS: dict[str, dict[str, Any]] = {
    ".txt": {"dataset_path": "text", "options": {"sample_by": "paragraph"}},
    ".jsonl": {"dataset_path": "json", "options": {}},
}
# lm-eval's metrics of texts with their aggregations, all of them better when lower.
_METRICS = {
    "bits_per_byte": "bits_per_byte",
    "byte_perplexity": "weighted_perplexity",
    "word_perplexity": "weighted_perplexity",
}


def find_text(name: str, folders: Sequence[Path]) -> Path:
    """The file that ``text:...`` names, in the first folder that has it.

    Raises:
        UnknownName: when there is none below the folders.
    """
    wanted = name.removeprefix(PREFIX)
    for folder in folders:
        path = (folder / wanted).resolve()
        if path.suffix in _FORMATS and path.is_relative_to(folder.resolve()) and path.is_file():
            return path
    raise UnknownName("text file", name, _names(folders))


def text_document(name: str, path: Path) -> dict[str, Any]:
    """The task file that lm-eval would need to score a text file."""
    form = _FORMATS[path.suffix]
    return {
        "task": name,
        "dataset_path": form["dataset_path"],
        "dataset_kwargs": {"data_files": {"test": str(path)}, **form["options"]},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [
            {"metric": metric, "aggregation": aggregation, "higher_is_better": False}
            for metric, aggregation in _METRICS.items()
        ],
    }


def _names(folders: Sequence[Path]) -> Iterator[str]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.suffix in _FORMATS:
                yield PREFIX + path.relative_to(folder).as_posix()
