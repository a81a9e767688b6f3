"""How much of a score is the order in which numbers were added up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.outcome import Score, Scores


@dataclass(frozen=True, slots=True)
class Noise:
    """How one objective of one model differs between two ways to batch the same examples.

    Args:
        count: number of examples.
        largest: absolute difference of an example's score.
        flips: examples that are right one way and wrong the other; 0 where scores are no such.
    """

    count: int
    largest: float
    flips: int


def noise(together: Scores, alone: Scores) -> dict[str, Noise]:
    """By objective, of one model on the same examples.

    A difference between two candidates that is not above this says nothing.

    Args:
        together: scored in batches as always.
        alone: scored with each example in a batch of its own.
    """
    return {key: _difference(together[key], alone[key]) for key in together}


def _difference(one: Score, other: Score) -> Noise:
    scores = np.stack([one.examples, other.examples]).astype(np.float64)
    gaps = np.abs(scores[0] - scores[1])
    right_or_wrong = np.isin(np.abs(scores), (0.0, 1.0)).all(axis=0)
    return Noise(
        count=len(gaps),
        largest=float(gaps.max(initial=0.0)),
        flips=int(np.count_nonzero(right_or_wrong & (gaps == 1))),
    )
