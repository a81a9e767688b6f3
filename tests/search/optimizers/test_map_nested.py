"""Nested MAP merges parents two by two, and needs evaluations for each merge only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from search.optimizers.map_nested import NestedMAP
from search.outcome import Candidate, Outcome
from search.parent_weights import weights_at
from search.run import opening
from tests.search.optimizers.analytic import Setup, outcome, search

SETUP = Setup("map_nested", blocks=1, parents=4, objectives=1, options={"points": 12})
OWN = len(opening(SETUP.space))
# The weights that are best, and how good each parent is alone.
PEAK = np.array([0.5, 0.3, 0.4, 0.4])


def judge(candidate: Candidate) -> Outcome:
    """Parents score 0.60, 0.20, 0.58 and 0.25; mixtures by their distance to the best weights."""
    match candidate.origin.move:
        case "parent":
            alone = {"p0": 0.6, "p1": 0.2, "p2": 0.58, "p3": 0.25}
            value = alone[str(candidate.origin.detail["name"])]
        case "pair":
            assert candidate.genome is not None
            distance = ((weights_at(SETUP.space, candidate.genome) - PEAK) ** 2).sum()
            value = float(np.exp(-2.0 * distance))
        case _:
            value = 0.3
    return outcome(candidate, np.array([value]))


def merged(candidates: list[Candidate]) -> list[set[int]]:
    """Which parents have a weight in the candidates of each merge."""
    found: list[set[int]] = [set(), set(), set()]
    for candidate in candidates[OWN:]:
        assert candidate.genome is not None
        if candidate.origin.move == "sample":
            continue
        weights = weights_at(SETUP.space, candidate.genome)
        found[int(float(candidate.origin.detail["merge"]))] |= set(np.flatnonzero(weights).tolist())
    return found


@pytest.mark.parametrize("parallel", [1, 5])
def test_those_of_nearest_metric_are_merged_first(parallel: int) -> None:
    """0.60 with 0.58; then 0.20 with 0.25; then both merges."""
    setup = replace(SETUP, parallel=parallel)
    seen = search(setup, 4 + parallel + 3 * (11 + parallel), judge)
    assert merged(seen.candidates) == [{0, 2}, {1, 3}, {0, 1, 2, 3}]


def test_parents_weigh_the_same_until_their_scores_are_known() -> None:
    setup = replace(SETUP, parallel=16)
    for candidate in search(setup, 20, judge).candidates[OWN:]:
        assert candidate.genome is not None
        assert np.ptp(weights_at(SETUP.space, candidate.genome)) == 0


def test_a_merge_takes_the_points_that_it_is_given() -> None:
    """12 each: evaluations grow with the number of parents and no faster."""
    merges = [c.origin.detail["merge"] for c in search(SETUP, OWN + 40, judge).candidates[OWN:]]
    assert merges == [0.0] * 12 + [1.0] * 12 + [2.0] * 16


def test_a_fifth_of_the_points_has_equal_coefficients() -> None:
    details = [c.origin.detail for c in search(SETUP, OWN + 10, judge).candidates[OWN:]]
    assert sum(detail["first"] == detail["second"] for detail in details) == 2


def test_the_last_merge_comes_to_the_best_weights() -> None:
    """0.60 is what the best parent has."""
    seen = search(SETUP, OWN + 40, judge)
    assert seen.points()[-4:].min() > 0.95


def test_all_candidates_of_a_merge_are_of_the_same_two_nodes() -> None:
    """Also with more in flight than a merge has points: two directions span them all."""
    setup = replace(SETUP, parallel=16)
    candidates = search(setup, 20 + 3 * 27, judge).candidates[20 + 54 :]
    weights = [weights_at(SETUP.space, c.genome) for c in candidates if c.genome]
    assert np.linalg.matrix_rank(np.array(weights), tol=1e-9) == 2


def test_what_quadratics_are_worth_is_said_in_numbers() -> None:
    optimizer = SETUP.start()
    assert isinstance(optimizer, NestedMAP)
    assert "no fit yet" in optimizer.status()
    for told in search(SETUP, OWN + 20, judge).outcomes:
        optimizer.tell(told)
    assert "merge 2; each of 8 outcomes" in optimizer.status()
    assert "R²" in optimizer.status()
