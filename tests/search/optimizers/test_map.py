"""MAP looks where its surrogate sees a gain, and spreads what is in flight."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from search.optimizers.map import MAP
from search.outcome import Candidate, Outcome
from search.pareto import hypervolume
from tests.search.optimizers.analytic import Setup, outcome, search

SETUP = Setup("map", blocks=1, objectives=2)
QUICK = {"generations": 4, "population": 16}


def test_on_a_smooth_front_it_needs_few_evaluations() -> None:
    """Hypervolume over (0.3, 0.3) after 30 evaluations, against 200 of even sampling."""
    ours = hypervolume(search(SETUP, 30).points(), (0.3, 0.3))
    even = hypervolume(search(replace(SETUP, optimizer="uniform"), 200).points(), (0.3, 0.3))
    assert ours > even


def test_candidates_in_flight_differ() -> None:
    seen = search(replace(SETUP, parallel=8, options=QUICK), 36)
    genomes = [candidate.genome for candidate in seen.candidates[20:]]
    for start in range(9):
        flight = np.array(genomes[start : start + 8])
        gaps = np.linalg.norm(flight[:, None] - flight, axis=2)[np.triu_indices(8, k=1)]
        assert gaps.min() > 1e-3


def test_sobol_points_come_first() -> None:
    moves = [c.origin.move for c in search(replace(SETUP, options=QUICK), 20).candidates]
    assert moves[6:11] == ["sample"] * 5
    assert moves[11:] == ["predicted_front"] * 9


def test_it_never_looks_outside_of_what_was_sampled() -> None:
    """The published box of [-3, 3] extrapolates; the better end of every gene is at its bound."""

    def judge(candidate: Candidate) -> Outcome:
        genome = np.array(candidate.genome or (0.0, 0.0, 0.0))
        return outcome(candidate, np.full(2, 0.1 + 0.25 * genome.sum()))

    seen = search(replace(SETUP, options=QUICK), 30, judge).candidates[11:]
    genomes = np.array([candidate.genome for candidate in seen])
    assert genomes.min() >= 0
    assert genomes.max() <= 1
    assert (genomes > 0.9).all(axis=1).any()


def test_every_design_point_that_was_asked_for_is_there() -> None:
    """Published code drops those that its lattice has no room for."""
    seen = search(replace(SETUP, options={**QUICK, "initial": 40}), 46).candidates[6:]
    assert len({candidate.genome for candidate in seen}) == 40
    assert {candidate.origin.move for candidate in seen} == {"sample"}


def test_losses_are_fitted_as_losses() -> None:
    """Published code takes every metric for an accuracy; a loss of 2 to 6 is none."""

    def judge(candidate: Candidate) -> Outcome:
        genome = np.array(candidate.genome or (0.0, 0.0, 0.0))
        return outcome(candidate, np.full(2, -2.0 - 4.0 * ((genome - 0.6) ** 2).sum()))

    seen = search(replace(SETUP, options=QUICK), 30, judge)
    assert seen.points().max() > -2.1


def test_what_quadratics_are_worth_is_said_in_numbers() -> None:
    setup = replace(SETUP, options=QUICK)
    optimizer = setup.start()
    assert isinstance(optimizer, MAP)
    assert "no fit yet" in optimizer.status()
    for told in search(setup, 30).outcomes:
        optimizer.tell(told)
    found = re.search(r"each of 30 outcomes .* (\S+) in t0/acc \(R² (\S+)\)", optimizer.status())
    assert found is not None
    assert 0.0 < float(found[1]) < 0.1
    assert 0.8 < float(found[2]) <= 1.0
