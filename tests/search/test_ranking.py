import numpy as np
import pytest

from search.ranking import Ranking
from search.spec import Objective, Relative


def ranking(*, weight: float = 1.0, at_least: float | Relative | None = None) -> Ranking:
    objectives = [
        Objective(task="a", metric="acc", weight=weight),
        Objective(task="b", metric="acc", at_least=at_least),
    ]
    return Ranking(objectives, {}, parents=1, baselines=(0, 1, 2))


def points(*rows: tuple[float, float]) -> dict[int, np.ndarray]:
    """The base, a parent and the average come first; both objectives span 0 to 1 over them."""
    return dict(enumerate(map(np.array, ((0.0, 0.0), (1.0, 1.0), (0.5, 0.5), *rows))))


def test_the_best_by_the_weighted_mean_in_spans_of_the_baselines_comes_first() -> None:
    given = points((0.9, 0.2), (0.2, 0.8), (0.2, 0.8))
    assert ranking().order(given, [5, 4, 3]) == [3, 4, 5]
    assert ranking(weight=0.1).order(given, [3, 4, 5]) == [4, 5, 3]
    assert ranking().order(given, [3, 4, 5], {"b/acc": 1.0}) == [4, 5, 3]
    wide = {**given, 1: np.array((10.0, 1.0))}
    assert ranking().order(wide, [3, 4]) == [4, 3], "a point of the first is worth a tenth"


def test_whoever_violates_constraints_less_comes_before_all_who_score_more() -> None:
    given = points((0.9, 0.2), (0.1, 0.4), (0.3, 0.3))
    assert ranking(at_least=0.35).order(given, [3, 4, 5]) == [4, 5, 3]
    assert ranking(at_least=Relative(base=0.25)).order(given, [3, 4, 5]) == [5, 4, 3]


def test_the_front_is_among_those_that_are_named_and_violate_least() -> None:
    given = points((0.9, 0.2), (0.2, 0.8), (0.1, 0.1))
    assert ranking().front(given, [5, 4, 3]) == [4, 3]
    assert ranking().front(given, [5]) == [5]
    assert ranking(at_least=0.5).front(given, [3, 4, 5]) == [4]


def test_whoever_has_no_score_is_in_no_order() -> None:
    assert ranking().order(points((0.9, 0.2)), [3, 9]) == [3]
    assert ranking().order({}, [3]) == []
    assert ranking().preferences({}) == {}


def test_without_baselines_scores_are_taken_as_they_are() -> None:
    alone = Ranking([Objective(task="a", metric="acc")], {}, parents=1, baselines=(0, 1, 2))
    assert alone.preferences({7: np.array([0.4])}) == pytest.approx({7: 0.4})
