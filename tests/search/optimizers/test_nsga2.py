"""NSGA-II finds the extremes and the middle of a front."""

from __future__ import annotations

from search.pareto import hypervolume
from tests.search.optimizers.analytic import Setup, search


def test_its_front_is_larger_than_that_of_even_sampling() -> None:
    ours, even = (
        hypervolume(search(Setup(name, objectives=2), 300).points(), (0.3, 0.3))
        for name in ("nsga2", "uniform")
    )
    assert ours > 1.1 * even


def test_children_have_two_parents_from_the_population() -> None:
    children = [
        c
        for c in search(Setup("nsga2", options={"population": 6}), 60).candidates
        if c.origin.move == "crossover"
    ]
    assert len(children) > 40
    assert all(max(c.origin.parents) < c.ordinal for c in children)
