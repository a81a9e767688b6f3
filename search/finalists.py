"""Who wins: finalists by their search scores, then sequential halving on examples of their own.

The best of many noisy scores is mostly a lucky one. So whoever may be the best is looked at again,
on examples that nobody was chosen by: all finalists on the first few, the better half of them on
twice as many, until the last are compared on all (sequential halving, Karnin et al. 2013). A round
costs about as much as two candidates that are scored on everything, so many finalists cost little,
and most of it is spent on those that are hard to tell apart. With gaps D_i to the best, it is
missed with a probability of at most 3 log2(n) exp(-budget / (8 log2(n) H)), where H is the largest
i / D_i^2 (theorem 4.1 there).

Which examples everyone is compared on, and who goes on, follows from the scores alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from search.outcome import Scores
from search.paired import behind
from search.ranking import Points, Ranking

_MOST = 64
_FEWEST = 3
# As many are scored on everything where it is not known how many examples there are.
_MOST_AT_ONCE = 12
# With several objectives so many nondominated ones stay to the end, for other preferences.
_FRONT = 12
# Examples of a task below which a round says nothing.
_FIRST_RUNG = 8
# Candidates that are compared for each that can become a finalist.
_COMPARED = 2


def most_finalists(evaluations: int, examples: int) -> int:
    """How many there may be: a third of the budget, 64 at most, each seen on 8 examples or more.

    Args:
        evaluations: of the search.
        examples: of the largest task on select; 0 where that is not known.
    """
    if examples == 0:
        return max(_FEWEST, min(_MOST_AT_ONCE, evaluations // 10))
    rounds = max(1, math.floor(math.log2(max(1, examples // _FIRST_RUNG))) + 1)
    return max(_FEWEST, min(_MOST, evaluations // 3, 1 << rounds))


def shortlist(ranking: Ranking, points: Points, complete: Iterable[int], most: int) -> list[int]:
    """Ordinals that can become finalists: the front first, then the rest, each the best first.

    Only of candidates that violate the constraints least, mostly not at all.

    Args:
        ranking: of the search.
        points: on the search split.
        complete: who was scored on every search example; who left early was shown to be behind.
        most: finalists that there may be.
    """
    missed = ranking.violations(points)
    ordered = ranking.order(points, complete)
    found = [n for n in ordered if missed[n] <= missed[ordered[0]]]
    front = ranking.front(points, found)
    return [*front, *(n for n in found if n not in set(front))][: _COMPARED * most]


def finalists(
    ranking: Ranking, points: Points, scores: Mapping[int, Scores], *, most: int, seed: int
) -> tuple[int, ...]:
    """The nondominated, then those that are not shown to be behind the best; ascending.

    Args:
        ranking: of the search.
        points: on the search split.
        scores: likewise with all examples, of the shortlist in its order.
        most: that are taken.
        seed: of the search; resamples are drawn from it.
    """
    if not scores:
        return ()
    ordinals = list(scores)
    leader = ranking.order(points, ordinals)[0]
    rng = np.random.default_rng([seed, len(ordinals)])
    worse = behind(
        scores[leader], list(scores.values()), ranking.objectives, ranking.unit(points), rng
    )
    front = set(ranking.front(points, ordinals))
    kept = [n for n, lost in zip(ordinals, worse, strict=True) if n in front or not lost]
    return tuple(sorted(kept[:most]))


@dataclass(frozen=True, slots=True)
class Round:
    """Who is compared, and on how much.

    Args:
        contenders: ordinals, ascending.
        rungs: of how many first examples of each task the rounds so far were, this one's last; a
            task that has fewer is scored whole. Empty where all are scored on everything at once.
    """

    contenders: tuple[int, ...]
    rungs: tuple[int, ...]

    @property
    def first(self) -> int | None:
        """How many examples this round is of; None for all."""
        return self.rungs[-1] if self.rungs else None


def first_round(contenders: tuple[int, ...], examples: int) -> Round:
    """All finalists, on so few examples that there are rounds enough to halve them to two.

    Args:
        contenders: ascending.
        examples: of the largest task on select; 0 where that is not known.
    """
    return Round(contenders, (_share(len(contenders), examples),) if examples else ())


def next_round(now: Round, ranking: Ranking, points: Points, examples: int) -> Round | None:
    """What follows from a round; None where all that are left were scored on everything.

    Args:
        now: that has its scores.
        ranking: of the search.
        points: on the select split, where contenders that could not be scored are missing.
        examples: of the largest task.
    """
    if now.first is None or now.first >= examples:
        return None
    left = survivors(ranking, points, now.contenders)
    if not left:
        return None
    end = min(examples, max(2 * now.first, _share(len(left), examples)))
    return Round(left, (*now.rungs, end))


def survivors(ranking: Ranking, points: Points, contenders: Sequence[int]) -> tuple[int, ...]:
    """The better half, rounded up; of several objectives some of the front as well; ascending."""
    ordered = ranking.order(points, contenders)
    half = math.ceil(len(ordered) / 2)
    kept, rest = ordered[:half], set(ordered[half:])
    if len(ranking.objectives) > 1:
        front = (n for n in ranking.front(points, ordered) if n in rest)
        kept += list(front)[: max(0, _FRONT - half)]
    return tuple(sorted(kept))


def _share(contenders: int, examples: int) -> int:
    """Of the examples, so that they double from round to round and the last two see all."""
    rounds = math.ceil(math.log2(contenders)) if contenders > 1 else 1
    return math.ceil(examples / (1 << (rounds - 1)))
