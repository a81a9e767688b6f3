"""MAP-Elites keeps a candidate for every trade-off, also those that no mean prefers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from search.optimizers.map_elites import MAPElites
from search.outcome import Infeasible
from tests.search.optimizers.analytic import Setup, search

SETUP = Setup("map_elites", blocks=2, objectives=2)


def told(setup: Setup, evaluations: int) -> MAPElites:
    optimizer = setup.start()
    assert isinstance(optimizer, MAPElites)
    for one in search(setup, evaluations).outcomes:
        optimizer.tell(one)
    return optimizer


def niches(optimizer: MAPElites) -> int:
    return int(optimizer.status().split()[0])


def test_niches_fill_as_a_search_goes_on() -> None:
    early, late = (niches(told(SETUP, evaluations)) for evaluations in (20, 200))
    assert late > early + 5


def test_children_have_two_elites_for_parents() -> None:
    seen = search(SETUP, 80)
    children = [c for c in seen.candidates if c.origin.move == "crossover"]
    assert len(children) == 80 - 6 - 16
    for child in children:
        first, second = child.origin.parents
        assert first != second
        assert max(first, second) < child.ordinal


def test_a_finer_grid_has_more_elites() -> None:
    coarse, fine = (
        niches(told(replace(SETUP, options={"cells": cells}), 120)) for cells in (3, 30)
    )
    assert coarse <= 9 < fine


@pytest.mark.parametrize("objectives", [1, 4, 16])
def test_the_grid_stays_small_with_many_objectives(objectives: int) -> None:
    status = told(replace(SETUP, objectives=objectives), 30).status()
    assert int(status.split()[2]) <= 1000


def test_more_diversity_than_a_search_for_one_optimum() -> None:
    """Spread of the scores' difference, which tells trade-offs apart, over the last 60 of 120."""
    ours, theirs = (
        np.ptp(np.diff(search(replace(SETUP, optimizer=name), 120).points()[60:], axis=1))
        for name in ("map_elites", "cma_es")
    )
    assert ours > 1.3 * theirs


def test_a_search_without_scores_has_no_niches_and_goes_on() -> None:
    optimizer = SETUP.start()
    assert isinstance(optimizer, MAPElites)
    assert "Waits" in optimizer.status()
    for one in search(SETUP, 10, lambda c: Infeasible(c, "as the test has it")).outcomes:
        optimizer.tell(one)
    assert niches(optimizer) == 0
