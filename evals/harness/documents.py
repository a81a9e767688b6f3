"""What an example is about, for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evals.harness.building import task_faults
from evals.requests import Continuation, Divergence, Prompt, Request, Text
from evals.suite import Split

# A question is told by its end, where few-shot examples are left behind; an answer by its start.
_QUESTION, _ANSWER = 300, 100


@dataclass(frozen=True, slots=True)
class Document:
    """An example as people know it.

    Args:
        index: in the data that the task's split is drawn from.
        digest: 16 hex digits of the sha256 of the whole document.
        question: the end of what the model is shown; of a text that it only reads, the start.
        answer: the right one, where the task says.
    """

    index: int
    digest: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Documents:
    """The examples of a split of a task, in the order of per-example scores."""

    task: str
    split: Split
    documents: tuple[Document, ...]


def document_of(task: Any, doc: Any, asked: Sequence[Any], request: Request) -> Document:
    """An example of lm-eval's task object, of which ``request`` is the first of ``asked``."""
    match request:
        case Continuation(context=shown) | Prompt(context=shown):
            question = shown[-_QUESTION:]
        case Text(text=shown):
            question = shown[:_QUESTION]
        case Divergence():  # never the first that is asked
            question = ""
    text = json.dumps(doc, sort_keys=True, default=repr)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Document(int(asked[0].doc_id), digest, question, _answer(task, doc, asked))


def _answer(task: Any, doc: Any, asked: Sequence[Any]) -> str:
    try:
        target = task.doc_to_target(doc)
    except task_faults():  # a task of its own making, which has no use for it
        return ""
    if isinstance(target, int) and asked[0].request_type == "loglikelihood":
        choices = [instance.args[1] for instance in asked]
        target = choices[target] if target < len(choices) else target
    if isinstance(target, list):
        target = target[0] if target else ""
    return str(target).strip()[:_ANSWER]
