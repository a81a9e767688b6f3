"""Accuracies of a multiple-choice task, all examples at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.harness.examples import Example
from evals.requests import Answer, Response

# What the log-likelihood of a choice is divided by before the largest is taken.
_DIVISORS: dict[str, Callable[[str], int]] = {
    "acc": lambda _: 1,
    "acc_norm": len,
    "acc_bytes": lambda choice: len(choice.encode()),
}


class Choices:
    """What lm-eval's ``process_results`` says of right and wrong choices, and nothing else.

    lm-eval computes every metric of one example after the other, most of it from the document
    alone; for a fast model that is the larger part of what is not a forward pass.

    Args:
        task: lm-eval's, which `fits`.
        examples: of it.
    """

    metrics = frozenset(_DIVISORS)

    def __init__(self, task: Any, examples: Sequence[Example]) -> None:
        choices = [task.doc_to_choice(example.document) for example in examples]
        widest = max(map(len, choices))
        # Of the requests, those about choices: others are about choices without their context.
        starts = np.cumsum([0, *(len(example.asked) for example in examples[:-1])])
        self._there = np.array([[i < len(row) for i in range(widest)] for row in choices])
        self._requests = starts[:, None] + np.arange(widest)
        self._requests[~self._there] = 0
        self._right = np.array(
            [_right(task, e.document, row) for e, row in zip(examples, choices, strict=True)]
        )
        self._divisors = {
            metric: np.array(
                [[float(size(c)) for c in row] + [1.0] * (widest - len(row)) for row in choices]
            )
            for metric, size in _DIVISORS.items()
        }

    @staticmethod
    def fits(task: Any, examples: Sequence[Example]) -> bool:
        """Whether a task has one right choice to each question, and nothing of its own to say."""
        return bool(
            task.OUTPUT_TYPE == "multiple_choice"
            and task.config.process_results is None
            and task.config.filter_list is None
            and not task.multiple_target
            and all(
                all(task.doc_to_choice(example.document))  # an empty one has no length to divide by
                and isinstance(_gold(task, example.document), int | str)
                for example in examples
            )
        )

    def items(self, responses: Sequence[Response], metric: str) -> list[float]:
        """1 for every example whose best choice is the right one, else 0."""
        likelihoods = np.array([r.loglikelihood for r in responses if isinstance(r, Answer)])
        table: NDArray[np.float64] = likelihoods[self._requests] / self._divisors[metric]
        table[~self._there] = -np.inf
        right: list[float] = (table.argmax(axis=1) == self._right).astype(np.float64).tolist()
        return right


def _gold(task: Any, document: Any) -> Any:
    return task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)


def _right(task: Any, document: Any, choices: Sequence[str]) -> int:
    """Index of the right choice; one that is none is never chosen."""
    gold = _gold(task, document)
    if isinstance(gold, str):
        return choices.index(gold) if gold in choices else -1
    return int(gold)
