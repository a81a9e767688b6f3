import numpy as np
import pytest

from search.finalists import (
    Round,
    finalists,
    first_round,
    most_finalists,
    next_round,
    shortlist,
    survivors,
)
from search.outcome import Score, Scores
from search.ranking import Ranking
from search.spec import Objective

OBJECTIVES = (Objective(task="a", metric="acc"), Objective(task="b", metric="acc"))
ONE = Ranking(OBJECTIVES[:1], {}, parents=1, baselines=())
TWO = Ranking(OBJECTIVES, {}, parents=1, baselines=())


def scores(*shares: float, count: int = 200) -> Scores:
    """The more able solve all that the less able solve: differences are as sure as can be."""
    return {
        objective.key: Score(
            share, 0.01, count, (np.arange(count) < share * count).astype(np.float32)
        )
        for objective, share in zip(OBJECTIVES, shares, strict=False)
    }


def points(**shares: tuple[float, ...]) -> dict[int, np.ndarray]:
    return {int(name[1:]): np.array(values) for name, values in shares.items()}


def named(given: dict[int, Scores], most: int) -> tuple[int, ...]:
    values = {n: np.array([s.value for s in one.values()]) for n, one in given.items()}
    ordered = shortlist(TWO, values, given, most)
    return finalists(TWO, values, {n: given[n] for n in ordered}, most=most, seed=0)


@pytest.mark.parametrize(
    ("evaluations", "examples", "most"),
    [
        (8, 200, 3),
        (60, 200, 20),
        (100, 200, 32),
        (200, 1500, 64),
        (5000, 1500, 64),
        (5000, 40, 8),
        (5000, 3, 3),
    ],
)
def test_finalists_are_a_third_of_the_budget_and_each_is_seen_on_eight_examples(
    evaluations: int, examples: int, most: int
) -> None:
    found = most_finalists(evaluations, examples)
    assert found == most
    first = first_round(tuple(range(found)), examples).first
    assert first is not None
    assert first >= min(8, examples // 2)


@pytest.mark.parametrize(("evaluations", "most"), [(8, 3), (60, 6), (100, 10), (5000, 12)])
def test_where_nobody_knows_how_many_examples_there_are_few_are_scored_at_once(
    evaluations: int, most: int
) -> None:
    assert most_finalists(evaluations, 0) == most
    only = first_round((1, 2, 3), 0)
    assert only == Round((1, 2, 3), ())
    assert only.first is None
    assert next_round(only, ONE, points(_1=(0.5,), _2=(0.6,), _3=(0.7,)), 0) is None


def test_the_front_is_finalist_whatever_the_preference() -> None:
    given = {4: scores(0.9, 0.1), 2: scores(0.5, 0.5), 9: scores(0.1, 0.9), 1: scores(0.1, 0.1)}
    assert named(given, most=3) == (2, 4, 9)


def test_who_is_not_shown_to_be_behind_is_finalist_though_dominated() -> None:
    given = {0: scores(0.8, 0.8), 1: scores(0.8, 0.795), 2: scores(0.6, 0.6)}
    assert named(given, most=3) == (0, 1)


def test_there_are_no_more_than_allowed_and_the_front_comes_first() -> None:
    equals = {n: scores(0.8, 0.795) for n in range(5)}
    given = {7: scores(0.8, 0.8), **equals}
    assert named(given, most=3) == (0, 1, 7)


def test_nobody_scored_is_nobody_finalist() -> None:
    assert named({}, most=3) == ()
    assert first_round((), 200).contenders == ()
    assert next_round(first_round((), 200), ONE, {}, 200) is None


def test_the_shortlist_is_the_front_and_then_the_preferred() -> None:
    rows = [(0.5, 0.5), (0.9, 0.0), (0.4, 0.4), (0.45, 0.45), (0.0, 0.9)]
    given = dict(enumerate(map(np.array, rows)))
    assert shortlist(TWO, given, given, 3) == [0, 1, 4, 3, 2]
    assert shortlist(TWO, given, [1, 2, 3], 3) == [1, 3, 2], "only of those that are complete"
    many = dict(enumerate(np.array(rows).repeat(10, axis=0)))
    assert len(shortlist(TWO, many, many, 3)) == 6


def played(count: int, examples: int, rank: dict[int, np.ndarray], by: Ranking) -> list[Round]:
    rounds = [first_round(tuple(range(count)), examples)]
    while (following := next_round(rounds[-1], by, rank, examples)) is not None:
        rounds.append(following)
    return rounds


def test_the_worse_half_leaves_after_every_round_and_the_last_two_see_all() -> None:
    ability = {n: np.array([0.01 * n]) for n in range(32)}
    rounds = played(32, 200, ability, ONE)
    assert [len(one.contenders) for one in rounds] == [32, 16, 8, 4, 2]
    assert [one.first for one in rounds] == [13, 26, 52, 104, 200]
    assert rounds[-1].contenders == (30, 31)
    assert rounds[-1].rungs == (13, 26, 52, 104, 200)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 11, 64])
def test_however_many_there_are_the_winner_is_measured_on_all(count: int) -> None:
    rounds = played(count, 200, {n: np.array([0.01 * n]) for n in range(count)}, ONE)
    assert rounds[-1].first == 200
    assert count - 1 in rounds[-1].contenders
    seen = [0, *(one.first or 0 for one in rounds)]
    spent = sum(
        len(r.contenders) * (b - a) for r, b, a in zip(rounds, seen[1:], seen, strict=False)
    )
    assert spent <= 200 * (np.log2(count) + 2), (
        "about as much as two that are scored on all, a round"
    )


def test_with_several_objectives_a_dozen_of_the_front_stay_to_the_end() -> None:
    """32 on one front: of the half that is preferred less the best of them."""
    ability = {n: np.array([0.5 + 0.01 * n, 0.5 - 0.02 * n]) for n in range(32)}
    rounds = played(32, 200, ability, TWO)
    assert [len(one.contenders) for one in rounds] == [32, 16, 12, 12, 12]
    assert rounds[-1].contenders == tuple(range(12))
    dominated = {n: np.array([0.01 * n, 0.01 * n]) for n in range(32)}
    assert [len(one.contenders) for one in played(32, 200, dominated, TWO)] == [32, 16, 8, 4, 2]


def test_who_could_not_be_scored_goes_no_further() -> None:
    left = survivors(ONE, points(_1=(0.9,), _3=(0.5,)), (1, 2, 3))
    assert left == (1,)
    assert next_round(Round((1, 2, 3), (100,)), ONE, {}, 200) is None
    assert next_round(Round((1, 2, 3), (100,)), ONE, points(_3=(0.5,)), 200) == Round(
        (3,), (100, 200)
    )
