"""Bounds of objectives: where they lie, and by how much they are missed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from search.constraints import Constraints
from search.spec import Objective

# Accuracy, and a loss: inside, losses are negative.
BASE, ONE, OTHER = (np.array(point) for point in ((0.5, -2.0), (0.8, -3.0), (0.6, -1.5)))


def constraints(acc: dict[str, Any], loss: dict[str, Any], *, learned: bool = True) -> Constraints:
    objectives = (
        Objective.model_validate({"task": "t", "metric": "acc", **acc}),
        Objective.model_validate({"task": "u", "metric": "loss", **loss}),
    )
    made = Constraints(objectives, {"t/acc": True, "u/loss": False}, parents=2)
    for ordinal, values in enumerate((BASE, ONE, OTHER) if learned else ()):
        made.learn(ordinal, values)
    return made


def test_numbers_are_in_the_sign_of_the_metric() -> None:
    made = constraints({"at_least": 0.55, "at_most": 0.9}, {"at_most": 2.5, "at_least": 1.0})
    assert made.low.tolist() == [0.55, -2.5]
    assert made.high.tolist() == [0.9, -1.0]


def test_relative_bounds_are_what_base_or_the_best_parent_scores_and_a_difference() -> None:
    """The best parent is the one of least loss; at most 0.1 more than its 1.5."""
    made = constraints({"at_least": {"base": -0.02}}, {"at_most": {"best_parent": 0.1}})
    assert made.low == pytest.approx([0.48, -1.6])


def test_relative_bounds_hold_nobody_before_they_are_known() -> None:
    made = constraints({"at_least": {"best_parent": 0.0}}, {}, learned=False)
    worst = np.array([0.0, -9.0])
    for ordinal, values in enumerate((BASE, ONE)):
        made.learn(ordinal, values)
        assert made.violation(worst) == 0
        assert not made.is_settled
    made.learn(2, OTHER)
    assert made.is_settled
    assert made.violation(worst) > 0


def test_a_base_without_scores_binds_nobody_and_parents_without_scores_are_passed_over() -> None:
    made = constraints({"at_least": {"base": 0}}, {"at_most": {"best_parent": 0}}, learned=False)
    for ordinal, values in enumerate((None, ONE, None)):
        made.learn(ordinal, values)
    assert made.is_settled
    assert made.low.tolist() == [-np.inf, -3.0]


def test_violations_add_up_in_spans_of_base_and_parents() -> None:
    """Accuracies span 0.3 and losses 1.5: 0.1 / 0.3 and 0.3 / 1.5 are missed."""
    made = constraints({"at_least": 0.7}, {"at_most": 1.7})
    points = [[0.6, -2.0], [0.7, -2.0], [0.6, -1.0], [0.7, -1.7], [1.0, 0.0]]
    assert made.violation(points) == pytest.approx([0.1 / 0.3 + 0.2, 0.2, 0.1 / 0.3, 0, 0])
    assert made.violated(np.array([0.6, -1.0])).tolist() == [True, False]


def test_a_sum_of_floats_is_not_missed_by_its_rounding() -> None:
    made = constraints({"at_least": {"base": 0.1}}, {})
    assert made.violation([BASE[0] + 0.1 - 1e-16, BASE[1]]) == 0


def test_candidates_change_no_bound() -> None:
    made = constraints({"at_least": {"best_parent": 0.0}}, {})
    made.learn(3, np.array([0.99, 0.0]))
    assert made.low[0] == 0.8


def test_nothing_is_violated_where_there_are_no_constraints() -> None:
    made = constraints({}, {})
    assert not made
    assert made.is_settled
    assert made.violation(np.zeros((4, 2))).tolist() == [0, 0, 0, 0]


def test_excess_is_signed_and_of_the_bounds_that_are_known() -> None:
    """In spans: base and parents span one half and one. A floor is a bound besides."""
    objectives = [
        Objective(task="a", metric="acc", at_least=0.4, at_most=0.9),
        Objective(task="b", metric="acc"),
    ]
    found = Constraints(objectives, {}, 1, floor=np.array([0.2, 3.0]))
    found.learn(0, np.array([0.25, 3.0]))
    found.learn(1, np.array([0.75, 4.0]))
    excess = found.excess(np.array([[0.3, 5.0], [1.0, 2.0]]))
    np.testing.assert_allclose(excess, [[0.2, -2.0, -1.2], [-1.2, 1.0, 0.2]])
    np.testing.assert_allclose(found.violation(np.array([1.0, 2.0])), 1.2)
