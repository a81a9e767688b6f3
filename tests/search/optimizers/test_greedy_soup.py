"""Greedy soup: one pass over the parents, the best first, and what follows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from search.optimizers.greedy_soup import GreedySoup
from search.outcome import Candidate, Outcome
from search.parent_weights import weights_at
from search.run import opening
from tests.search.optimizers.analytic import Setup, outcome, search

SETUP = Setup("greedy_soup", blocks=1, parents=5, objectives=1)
OWN = len(opening(SETUP.space))
# Errors of the parents in three directions; that of a soup is the average of its parents'.
ERRORS = np.array([[-4.0, -5, -3], [4, -1, -1], [0, -2, -2], [-2, 2, 3], [-3, 1, 2]])


def judge(candidate: Candidate) -> Outcome:
    match candidate.origin.move:
        case "parent":
            shares = np.eye(5)[int(str(candidate.origin.detail["name"])[1])]
        case "average":
            shares = np.full(5, 0.2)
        case "add" | "exchange":
            assert candidate.genome is not None
            shares = weights_at(SETUP.space, candidate.genome)
        case _:
            return outcome(candidate, np.zeros(1))
    return outcome(candidate, np.array([score(shares)]))


def score(shares: np.ndarray) -> float:
    return float(1.0 / (1.0 + np.linalg.norm(shares @ ERRORS)))


def greedy() -> list[tuple[int, ...]]:
    """Recipe 1 of the paper, plainly: every soup that it evaluates, in order."""
    order = sorted(range(5), key=lambda i: -score(np.eye(5)[i]))
    soup, tried = [order[0]], []
    for parent in order[1:]:
        wider = [*soup, parent]
        tried.append(tuple(int(i in wider) for i in range(5)))
        before, after = (score(np.eye(5)[s].mean(axis=0)) for s in (soup, wider))
        soup = wider if after >= before else soup
    return tried


def contents(candidates: list[Candidate]) -> list[tuple[int, ...]]:
    return [tuple(map(int, str(c.origin.detail["copies"]).split())) for c in candidates]


def test_it_tries_what_the_paper_tries() -> None:
    """The second parent joins, the third does not, the fourth does, the fifth does not."""
    assert contents(search(SETUP, OWN + 4, judge).candidates[OWN:]) == greedy()
    assert [sum(soup) for soup in greedy()] == [2, 3, 3, 4]


def test_shares_in_a_soup_are_equal() -> None:
    seen = search(SETUP, OWN + 4, judge).candidates[OWN:]
    for candidate, soup in zip(seen, contents(seen), strict=True):
        assert candidate.genome is not None
        shares = weights_at(SETUP.space, candidate.genome)
        np.testing.assert_allclose(shares, np.array(soup) / sum(soup))


@pytest.mark.parametrize("parallel", [1, 8])
def test_after_the_pass_it_goes_on_from_the_best_and_repeats_nothing(parallel: int) -> None:
    seen = search(replace(SETUP, parallel=parallel), OWN + 60, judge)
    soups = contents(seen.candidates[OWN + 4 :])
    assert len(set(soups)) == len(soups)
    passed = seen.points()[: OWN + 4].max()
    assert seen.points().max() > passed + 0.05


def test_the_best_is_named() -> None:
    optimizer = SETUP.start()
    assert isinstance(optimizer, GreedySoup)
    for told in search(SETUP, OWN, judge).outcomes:
        optimizer.tell(told)
    assert optimizer.status() == "The best of 6 soups so far is of p0, p1, p2, p3, p4."
