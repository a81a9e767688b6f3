"""CMA-ES under a pure ask: the library's own search, told what we sampled."""

from __future__ import annotations

import time
from dataclasses import replace

import cma
import numpy as np
import pytest

from search.optimizers.cma_es import CMAES
from search.outcome import Candidate, Infeasible, Origin, Outcome
from search.run import opening
from tests.search.optimizers.analytic import Judge, Setup, outcome, search

SETUP = Setup("cma_es", blocks=2, objectives=1)
# The first ordinal that is asked of the optimizer.
FIRST = len(opening(SETUP.space))


def loss(genome: np.ndarray) -> float:
    """A badly scaled quadratic with its minimum inside of the cube."""
    scale = 10.0 ** np.linspace(0, 2, len(genome))
    return float((scale * (genome - 0.4) ** 2).sum())


def quadratic(candidate: Candidate) -> Outcome:
    genome = np.zeros(6) if candidate.genome is None else np.array(candidate.genome)
    return outcome(candidate, np.array([-loss(genome)]))


def test_it_converges_as_the_ordinary_loop_does() -> None:
    """60 generations of 9 in 6 dimensions, against the library's own ask and tell."""
    ours = -search(SETUP, 60 * 9 + 6, quadratic).points().max()
    es = cma.CMAEvolutionStrategy(
        np.full(6, 1 / 3), 0.2, {"bounds": [0, 1], "seed": 3, "verbose": -10}
    )
    for _ in range(60):
        points = es.ask()
        es.tell(points, [loss(point) for point in points])
    assert ours < 1e-4
    assert ours < 100 * es.best.f


def test_it_starts_at_the_best_point_of_the_opening() -> None:
    setup = replace(SETUP, options={"step": 0.01})
    best = opening(setup.space)[2]

    def judge(candidate: Candidate) -> Outcome:
        return outcome(candidate, np.array([1.0 if candidate.ordinal == best.ordinal else 0.1]))

    first = search(setup, FIRST + 1, judge).candidates[FIRST]
    assert np.abs(np.array(first.genome) - np.array(best.genome)).max() < 0.1


def test_it_starts_at_the_average_while_the_opening_is_on_its_way() -> None:
    setup = replace(SETUP, options={"step": 0.01}, parallel=8)
    first = search(setup, FIRST + 1).candidates[FIRST]
    assert np.abs(np.array(first.genome) - 1 / 3).max() < 0.1


@pytest.mark.parametrize("parallel", [1, 8])
def test_candidates_in_flight_slow_it_down_and_no_more(parallel: int) -> None:
    points = search(replace(SETUP, parallel=parallel), 400, quadratic).points()
    assert -points.max() < 1e-2


def test_it_goes_on_where_a_third_of_the_candidates_fails() -> None:
    def judge(candidate: Candidate) -> Outcome:
        if candidate.ordinal % 3 == 0:
            return Infeasible(candidate, "as the test has it")
        return quadratic(candidate)

    started = loss(np.full(6, 1 / 3))
    assert -search(SETUP, 500, judge).points().max() < started / 10


def test_a_run_that_can_learn_nothing_more_starts_again() -> None:
    """Scores of 20 examples do not tell good candidates apart; the control is one that does."""

    def coarse(candidate: Candidate) -> Outcome:
        genome = np.zeros(6) if candidate.genome is None else np.array(candidate.genome)
        return outcome(candidate, np.round(20 * np.exp([-loss(genome)])) / 20)

    def generations(judge: Judge) -> list[float]:
        samples = search(SETUP, 450, judge).candidates[FIRST:]
        return [float(candidate.origin.detail["generation"]) for candidate in samples]

    assert generations(coarse) != sorted(generations(coarse))
    assert generations(quadratic) == sorted(generations(quadratic))


def test_objectives_count_by_their_weights() -> None:
    task = Setup("cma_es", objectives=2).task()
    heavy, light = task.objectives[0].model_copy(update={"weight": 4.0}), task.objectives[1]
    weighted = replace(task, objectives=(heavy, light))
    assert weighted.preference(np.array([1.0, 0.0]), np.ones(2)) == pytest.approx(0.8)


def test_objectives_count_alike_whatever_their_units() -> None:
    """As in what the service then calls the best: one per mille, the other in hundreds."""
    setup = replace(SETUP, objectives=2, options={"step": 0.01})
    better, worse = opening(setup.space)[2:0:-1]

    def judge(candidate: Candidate) -> Outcome:
        gains = {better.ordinal: (0.001, 10.0), worse.ordinal: (0.0, 100.0), 0: (-0.001, -100.0)}
        return outcome(candidate, np.array(gains.get(candidate.ordinal, (-0.001, -90.0))))

    first = search(setup, FIRST + 1, judge).candidates[FIRST]
    assert np.abs(np.array(first.genome) - np.array(better.genome)).max() < 0.1


def test_origins_say_from_which_generation() -> None:
    candidate = search(SETUP, 30).candidates[-1]
    assert isinstance(candidate.origin, Origin)
    assert candidate.origin.detail["generation"] == 2.0


@pytest.mark.parametrize(("blocks", "is_separable"), [(85, False), (86, True)])
def test_above_256_genes_variances_only_are_learned(blocks: int, is_separable: bool) -> None:
    optimizer = Setup("cma_es", blocks=blocks, objectives=1).start()
    assert isinstance(optimizer, CMAES)
    assert ("variances only" in optimizer.status()) == is_separable


def test_good_points_of_the_opening_take_the_places_of_worse_samples() -> None:
    """Two parents are good, all samples bad: the second generation goes towards the other one."""
    setup = replace(SETUP, options={"step": 0.05})
    one, other = (np.array(c.genome) for c in opening(setup.space)[1:3])

    def towards(is_good: bool) -> float:
        def judge(candidate: Candidate) -> Outcome:
            value = {1: 1.0, 2: 0.9 if is_good else 0.0}.get(candidate.ordinal, 0.1)
            return outcome(candidate, np.array([value]))

        later = search(setup, FIRST + 36, judge).candidates[FIRST + 9 :]
        return float(np.mean([(np.array(c.genome) - one) @ (other - one) for c in later]))

    assert towards(is_good=True) > towards(is_good=False) + 0.01


def trade_off(candidate: Candidate) -> Outcome:
    """A front that bends inwards: the mean is 0.35 in its middle and 0.5 at its ends."""
    x = 0.5 if candidate.genome is None else candidate.genome[0]
    rest = sum((gene - 0.5) ** 2 for gene in (candidate.genome or ())[1:])
    return outcome(candidate, np.array([x**1.5, (1.0 - x) ** 1.5]) - rest)


def last(aggregation: str) -> np.ndarray:
    setup = replace(SETUP, objectives=2, options={"aggregation": aggregation})
    return search(setup, 300, trade_off).points()[-60:]


def test_a_mean_ends_at_one_end_of_a_front_that_bends_inwards() -> None:
    assert (np.abs(np.diff(last("mean"), axis=1)) > 0.8).mean() > 0.8


def test_the_tchebycheff_distance_finds_its_middle() -> None:
    assert (np.abs(np.diff(last("tchebycheff"), axis=1)) < 0.2).mean() > 0.8


def test_ranks_keep_the_whole_front() -> None:
    assert np.ptp(np.diff(last("rank"), axis=1)) > 0.5


def test_only_means_race_on_their_mean() -> None:
    races = [
        Setup("cma_es", options={"aggregation": name}).start().races_on
        for name in ("mean", "tchebycheff", "rank")
    ]
    assert races == ["preference", "front", "front"]


def test_an_outcome_costs_the_same_however_many_came_before() -> None:
    """CPU time of the quickest of four batches of 250 outcomes each: so a replay is linear."""
    setup = Setup("cma_es", blocks=4, objectives=2)
    optimizer, rng = setup.start(), np.random.default_rng(0)

    def tell(ordinals: range) -> float:
        base = opening(setup.space)[0]
        told = [
            outcome(
                Candidate(ordinal, base.recipe, base.origin, tuple(rng.random(12))), rng.random(2)
            )
            for ordinal in ordinals
        ]
        start = time.process_time()
        for one in told:
            optimizer.tell(one)
        return time.process_time() - start

    seconds = [tell(range(first, first + 250)) for first in range(0, 6_000, 250)]
    assert min(seconds[-4:]) < 1.5 * min(seconds[4:8])
