"""The Bayesian search finds fronts in few evaluations, also with candidates in flight."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from search.optimizers.auto import _anchor, _telling, _thinned
from search.pareto import front
from tests.search.optimizers.analytic import Setup, accuracies, outcome, search


def test_it_opens_with_a_weight_that_papers_recommend() -> None:
    setup = Setup("auto")
    own = search(setup, 12).candidates
    first = next(c for c in own if c.origin.move == "sample")
    assert first.genome == pytest.approx((0.4,) * setup.space.dim)


@pytest.mark.parametrize("parallel", [1, 8])
def test_candidates_in_flight_are_looked_for_elsewhere(parallel: int) -> None:
    seen = search(Setup("auto", parallel=parallel), 50).candidates[-16:]
    genomes = np.array([candidate.genome for candidate in seen])
    apart = np.abs(genomes[:, None] - genomes).max(axis=2)
    assert (apart[~np.eye(len(seen), dtype=bool)] > 1e-3).all()


def test_a_candidate_follows_from_those_in_flight() -> None:
    setup = Setup("auto", parallel=2)
    seen = search(setup, 30)
    run = setup.run()
    for told in seen.outcomes[: run.needed(29)]:
        run.absorb(told)
    (waiting,) = seen.candidates[run.absorbed : 29]
    other = setup.space.decode(np.full(setup.space.dim, 0.9))
    elsewhere = replace(waiting, recipe=other, genome=(0.9,) * setup.space.dim)
    assert run.propose(29, [waiting]) != run.propose(29, [elsewhere])


def test_the_best_of_a_smooth_hill_is_found_to_three_percent() -> None:
    """Nine genes; random points come to 0.79 in as many evaluations."""
    setup = Setup("auto", objectives=1)
    assert search(setup, 60).points().max() > 0.97


def test_weights_of_zero_are_known_to_be_the_base() -> None:
    setup = Setup("auto")
    base = search(setup, 1).candidates[0]
    assert base.genome == (0.0,) * setup.space.dim


def test_hyperparameters_are_learned_again_as_outcomes_double() -> None:
    anchors = [_anchor(told) for told in range(4, 2000)]
    assert anchors == sorted(anchors)
    assert all(anchor <= told for told, anchor in enumerate(anchors, start=4))
    assert len(set(anchors)) < 60


def test_of_many_outcomes_the_best_and_the_newest_are_looked_at() -> None:
    values = np.random.default_rng(0).random((500, 2))
    rows = _telling(values, 100)
    assert len(set(rows)) == 100
    assert np.argmax(values.sum(axis=1)) in rows
    assert 499 in rows


def test_a_long_front_is_thinned_to_points_of_it() -> None:
    angle = np.linspace(0.01, np.pi / 2 - 0.01, 300)
    points = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    thin = _thinned(points, np.zeros(2))
    assert len(thin) == 200
    assert front(thin).all()
    assert {thin[:, 0].min(), thin[:, 0].max()} == {points[:, 0].min(), points[:, 0].max()}


def test_scores_outside_of_what_is_wanted_do_not_stop_the_search() -> None:
    """Every score lies below the floor: the search stays where it is nearer than elsewhere."""
    setup = Setup("auto")
    task = replace(setup.task(), floor=np.full(3, 0.999))
    optimizer = type(setup.start())(task, setup.start().options())  # type: ignore[call-arg]
    for told in search(setup, 30).outcomes:
        optimizer.tell(told)
    least = []
    for ordinal in range(30, 45):
        candidate = optimizer.ask(ordinal, np.random.default_rng([0, ordinal]))
        scores = accuracies(setup, candidate)
        optimizer.tell(outcome(candidate, scores))
        least.append(scores.min())
    sampled = [
        accuracies(setup, c).min()
        for c in search(replace(setup, optimizer="uniform"), 100).candidates
    ]
    assert np.mean(least) > np.mean(sampled)


def test_cma_es_shares_a_long_search_for_one_score() -> None:
    setup = Setup("auto", objectives=1)
    optimizer = setup.start()
    told = search(Setup("uniform", objectives=1), 310).outcomes
    for one in told:
        optimizer.tell(one)
    asked = [optimizer.ask(n, np.random.default_rng([0, n])) for n in (310, 311)]
    assert [c.origin.move for c in asked] == ["expected_improvement", "evolution"]
    assert "CMA-ES" in optimizer.status()


def test_it_says_how_well_it_predicts() -> None:
    setup = Setup("auto")
    optimizer = setup.start()
    assert "papers recommend" in optimizer.status()
    for told in search(setup, 40).outcomes:
        optimizer.tell(told)
    assert "Gaussian processes over" in optimizer.status()
    assert re.search(r"R² of 0\.[789]\d", optimizer.status())
