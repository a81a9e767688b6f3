import numpy as np
import pytest

from search.finalists import finalists, most_finalists, shortlist
from search.outcome import Score, Scores
from search.spec import Objective

OBJECTIVES = (Objective(task="a", metric="acc"), Objective(task="b", metric="acc"))
UNIT = np.ones(2)


def scores(*shares: float, count: int = 200) -> Scores:
    """The more able solve all that the less able solve: differences are as sure as can be."""
    return {
        objective.key: Score(
            share, 0.01, count, (np.arange(count) < share * count).astype(np.float32)
        )
        for objective, share in zip(OBJECTIVES, shares, strict=False)
    }


@pytest.mark.parametrize(("evaluations", "most"), [(8, 3), (60, 6), (100, 10), (5000, 12)])
def test_there_are_few_finalists_in_small_searches(evaluations: int, most: int) -> None:
    assert most_finalists(evaluations) == most


def test_the_front_is_finalist_whatever_the_preference() -> None:
    given = {4: scores(0.9, 0.1), 2: scores(0.5, 0.5), 9: scores(0.1, 0.9), 1: scores(0.1, 0.1)}
    assert finalists(given, OBJECTIVES, UNIT, most=3, seed=0) == (2, 4, 9)


def test_who_is_not_shown_to_be_behind_is_finalist_though_dominated() -> None:
    given = {0: scores(0.8, 0.8), 1: scores(0.8, 0.795), 2: scores(0.6, 0.6)}
    assert finalists(given, OBJECTIVES, UNIT, most=3, seed=0) == (0, 1)


def test_there_are_no_more_than_allowed_and_the_front_comes_first() -> None:
    equals = {n: scores(0.8, 0.795) for n in range(5)}
    given = {7: scores(0.8, 0.8), **equals}
    assert finalists(given, OBJECTIVES, UNIT, most=3, seed=0) == (0, 1, 7)


def test_nobody_scored_is_nobody_finalist() -> None:
    assert finalists({}, OBJECTIVES, UNIT, most=3, seed=0) == ()
    assert shortlist(np.zeros((0, 2)), [1, 1], UNIT, 3) == []


def test_the_shortlist_is_the_front_and_then_the_preferred() -> None:
    points = np.array([[0.5, 0.5], [0.9, 0.0], [0.4, 0.4], [0.45, 0.45], [0.0, 0.9]])
    assert shortlist(points, [1, 1], UNIT, 3) == [0, 1, 4, 3, 2]
    many = np.repeat(points, 10, axis=0)
    assert len(shortlist(many, [1, 1], UNIT, 3)) == 12
