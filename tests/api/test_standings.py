"""Standings are a fold of the log; checked against the front and volume of everything at once."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.standings import Standings
from api.store import Event, Summary
from search.pareto import front, hypervolume, reference_point
from tests.analytic import KEYS, submission

AT = datetime(2026, 11, 21, tzinfo=UTC)
GRID = st.integers(0, 6).map(lambda n: n / 6)
POINTS = st.lists(st.tuples(GRID, GRID) | st.just((float("nan"), 0.5)), min_size=4, max_size=40)


def scored(seq: int, ordinal: int, values: tuple[float, ...]) -> Event:
    scores = {key: Summary(v, 0.1, 10) for key, v in zip(KEYS, values, strict=True)}
    return Event(seq, "scored", ordinal, AT, {}, scores)


def log(points: list[tuple[float, float]]) -> list[Event]:
    return [scored(n + 1, n, point) for n, point in enumerate(points)]


def standings(*events: Event, bounds: dict[str, object] | None = None) -> Standings:
    objectives = [{"task": "add", "metric": "score", **(bounds or {})}]
    objectives += [{"task": "reverse", "metric": "acc"}]
    told = submission(evaluations=1000, objectives=objectives)
    made = Standings(told.spec, told.directions)
    made.feed(events)
    return made


@given(POINTS, st.lists(st.integers(1, 7), min_size=1))
def test_portions_do_not_matter_and_the_whole_is_right(
    points: list[tuple[float, float]], portions: list[int]
) -> None:
    events = log(points)
    made = standings()
    start = turn = 0
    while start < len(events):
        portion = portions[turn % len(portions)]
        made.feed(events[start : start + portion])
        assert isinstance(made.front, tuple)
        start, turn = start + portion, turn + 1

    matrix = np.array(points)
    finite = np.isfinite(matrix).all(axis=1)
    ordinals = np.flatnonzero(finite)
    assert made.front == tuple(ordinals[front(matrix[finite])])
    at_once = standings(*events)
    assert made.history == at_once.history
    assert made.best() == at_once.best()
    baselines = matrix[:4][finite[:4]]
    if len(baselines):
        volume = hypervolume(matrix[finite], reference_point(baselines))
        assert made.hypervolume == pytest.approx(volume, rel=1e-12)
        assert made.history[-1] == (len(points), made.hypervolume)
    else:
        assert made.hypervolume is None


def test_there_is_no_hypervolume_before_every_baseline_has_its_outcome() -> None:
    events = log([(0.1, 0.1), (0.9, 0.2), (0.2, 0.9), (0.5, 0.5)])
    late = standings(*events[:3])
    assert late.hypervolume is None
    assert late.history == []
    late.feed([Event(4, "infeasible", 3, AT, {})])
    assert late.hypervolume is not None
    assert late.baselines == {"base": 0, "add": 1, "reverse": 2, "average": 3}


def test_the_reference_lies_below_all_baselines() -> None:
    made = standings(*log([(0.1, 0.1), (0.9, 0.2), (0.2, 0.9), (0.5, 0.5)]))
    assert made.reference == pytest.approx([0.1 - 0.08, 0.1 - 0.08])


def test_the_best_follows_the_weights_in_spans_of_the_baselines() -> None:
    points = [(0.0, 0.0), (1.0, 0.0), (0.0, 100.0), (0.5, 50.0), (0.8, 90.0), (1.0, 10.0)]
    made = standings(*log(points))
    assert made.best() == 4
    assert made.best({KEYS[0]: 1.0}) == 5
    assert made.best({KEYS[1]: 1.0}) == 2
    assert standings().best() is None


def test_of_equals_the_first_is_best_and_all_are_on_the_front() -> None:
    made = standings(*log([(0.0, 0.0), (1.0, 1.0), (1.0, 1.0), (0.5, 0.5)]))
    assert made.front == (1, 2)
    assert made.best() == 1


BASELINES = [(0.4, 0.0), (0.6, 0.2), (0.5, 0.9), (0.5, 0.5)]


def test_the_front_is_of_those_that_hold_the_constraints() -> None:
    made = standings(
        *log([*BASELINES, (0.55, 0.95), (0.62, 0.3), (0.7, 0.25)]), bounds={"at_least": 0.6}
    )
    assert made.front == (5, 6)
    assert made.front_in([KEYS[1]]) == (5,)
    assert made.best({KEYS[1]: 1.0}) == 5
    assert made.hypervolume == pytest.approx(
        hypervolume([(0.62, 0.3), (0.7, 0.25), (0.6, 0.2)], reference_point(BASELINES))
    )


def test_while_nobody_holds_the_constraints_those_are_best_that_miss_them_least() -> None:
    made = standings(*log([*BASELINES, (0.69, 0.0), (0.5, 1.0)]), bounds={"at_least": 0.7})
    assert made.front == (4,)
    assert made.best() == 4
    assert made.hypervolume == 0


def test_nobody_is_forgotten_before_it_is_known_where_bounds_lie() -> None:
    """The fourth is dominated by the fifth, which exceeds what the best parent sets."""
    points = [*BASELINES, (0.59, 0.91), (0.8, 0.95)]
    early = [scored(n + 1, n, points[n]) for n in (4, 5, 0, 3)]
    made = standings(*early, bounds={"at_most": {"best_parent": 0.0}})
    assert made.front == (5,)
    made.feed(scored(n + 5, n, points[n]) for n in (1, 2))
    assert made.front == (1, 4)


def test_a_front_can_be_taken_in_fewer_objectives() -> None:
    made = standings(*log([(0.0, 0.0), (1.0, 0.2), (0.5, 1.0), (0.9, 0.9)]))
    assert made.front == (1, 2, 3)
    assert made.front_in([KEYS[1]]) == (2,)


def test_history_stays_short_and_evenly_spaced() -> None:
    rng = np.random.default_rng(0)
    made = standings(*log([tuple(p) for p in rng.random((2001, 2))]))
    counts = np.array([count for count, _ in made.history])
    assert len(counts) <= 501
    assert counts[-1] == 2001
    assert set(np.diff(counts[:-1])) == {4}
    volumes = [volume for _, volume in made.history]
    assert volumes == sorted(volumes)
