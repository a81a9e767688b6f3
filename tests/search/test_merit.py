"""What makes one candidate better than another, in one order."""

from __future__ import annotations

import numpy as np

from search.merit import WORST, Merits
from search.outcome import Candidate, Infeasible
from search.run import opening
from tests.search.optimizers.analytic import Setup, outcome

SETUP = Setup("cma_es", objectives=2)


def merits(setup: Setup, baselines: list[tuple[float, float]]) -> Merits:
    """After base and parents scored this."""
    found = Merits(setup.task())
    for candidate, values in zip(opening(setup.space), baselines, strict=False):
        found.learn(outcome(candidate, np.array(values)))
    return found


def test_objectives_count_in_spans_of_the_baselines() -> None:
    """One spans a half, the other hundreds; a tenth of either is worth the same."""
    merit = merits(SETUP, [(0.0, 0.0), (0.5, 100.0), (0.2, 500.0)])
    assert merit(np.array([0.3, 250.0])) == merit(np.array([0.25, 300.0]))
    assert merit(np.array([0.3, 250.0])) > merit(np.array([0.25, 299.0]))


def test_what_holds_the_constraints_comes_first_and_what_has_no_scores_last() -> None:
    bounded = Setup("cma_es", objectives=2, bounds={"at_least": 0.4})
    merit = merits(bounded, [(0.5, 0.5)] * 4)
    holding, near, far = (merit(np.array([x, y])) for x, y in ((0.4, 0.1), (0.35, 0.9), (0.3, 1.0)))
    assert holding > near > far > WORST
    assert merit(None) == WORST


def test_candidates_of_the_search_are_no_baselines() -> None:
    found = merits(SETUP, [(0.0, 0.0), (0.5, 0.5), (0.5, 0.5), (0.5, 0.5)])
    unit = found.unit
    own = Candidate(9, opening(SETUP.space)[0].recipe, opening(SETUP.space)[-1].origin)
    assert found.learn(Infeasible(own, "as the test has it")) is None
    found.learn(outcome(own, np.array([1.0, 9.0])))
    np.testing.assert_array_equal(found.unit, unit)
