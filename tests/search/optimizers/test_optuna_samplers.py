"""Optuna's samplers as optimizers: what they are shown, and that it stays small."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from search.optimizer import optimizers
from search.outcome import Candidate, Infeasible, Outcome
from search.run import opening
from tests.search.optimizers.analytic import Setup, outcome, search

TPE = Setup("optuna_tpe", blocks=1, objectives=2)


def best(setup: Setup, evaluations: int) -> float:
    own = len(opening(setup.space))
    return float(search(setup, evaluations).points()[own:].mean(axis=1).max())


def test_gaussian_processes_find_what_even_sampling_does_not() -> None:
    """Nine genes, one objective: 35 evaluations against 200."""
    ours = best(Setup("optuna_gp", objectives=1), 35)
    assert ours > best(Setup("uniform", objectives=1), 200)


def test_gaussian_processes_hold_constraints() -> None:
    """An upper bound on what is searched for; the last six of 36, with two objectives."""
    setup = Setup("optuna_gp", blocks=1, objectives=2, options={"startup": 30})
    late = search(replace(setup, bounds={"at_most": 0.6}), 36).points()[30:, 0]
    free = search(setup, 36).points()[30:, 0]
    assert np.maximum(late - 0.6, 0).mean() < np.maximum(free - 0.6, 0).mean() / 2


@pytest.mark.parametrize("name", ["optuna_nsga3", "optuna_tpe"])
def test_a_floor_is_a_constraint(name: str) -> None:
    """The strongest existing tool is TPE that is told what a merge must reach to be of use."""
    setup = Setup(name, blocks=1, objectives=2)
    entry, floor = optimizers[name], np.array([0.97, -np.inf])
    floored = entry(replace(setup.task(), floor=floor), entry.options())
    constrained = replace(setup, bounds={"at_least": 0.97}).start()
    free = setup.start()
    for told in search(setup, 60).outcomes:
        for optimizer in (floored, constrained, free):
            optimizer.tell(told)
    rng = np.random.default_rng
    assert floored.ask(60, rng(0)) == constrained.ask(60, rng(0)) != free.ask(60, rng(0))


@pytest.mark.parametrize("name", ["optuna_tpe", "optuna_nsga2"])
def test_what_could_not_be_scored_is_told_as_worse_than_all(name: str) -> None:
    """Half of the space fails, the rest is noise. Optuna itself would leave failures out."""
    setup = Setup(name, blocks=1, objectives=1)

    def judge(candidate: Candidate) -> Outcome:
        genome = candidate.genome
        if genome is not None and genome[0] > 0.5:
            return Infeasible(candidate, "as the test has it")
        noise = np.random.default_rng([5, candidate.ordinal]).normal(0.5, 0.05)
        return outcome(candidate, np.array([noise]))

    seen = search(setup, 120, judge).outcomes[80:]
    assert sum(isinstance(one, Infeasible) for one in seen) < 12


def test_candidates_in_flight_are_told_as_running() -> None:
    """TPE keeps away from them: a candidate follows from what is in flight."""
    setup = replace(TPE, parallel=2)
    seen = search(setup, 40)
    run = setup.run()
    for told in seen.outcomes[: run.needed(39)]:
        run.absorb(told)
    (waiting,) = seen.candidates[run.absorbed : 39]
    elsewhere = replace(waiting, genome=(0.9, 0.9, 0.9))
    assert run.propose(39, [waiting]) != run.propose(39, [elsewhere])


@pytest.mark.parametrize("name", ["optuna_gp", "optuna_nsga3", "optuna_tpe"])
def test_the_ten_thousandth_outcome_costs_what_the_thousandth_does(name: str) -> None:
    """CPU time of the quickest of four batches of 250 outcomes each."""
    setup = Setup(name, blocks=1, objectives=2)
    optimizer, rng = setup.start(), np.random.default_rng(0)

    def tell(ordinals: range) -> float:
        told = _outcomes(setup, ordinals, rng)
        start = time.process_time()
        for one in told:
            optimizer.tell(one)
        return time.process_time() - start

    seconds = [tell(range(first, first + 250)) for first in range(0, 10_000, 250)]
    assert min(seconds[-4:]) < 1.5 * min(seconds[4:8])


def _outcomes(setup: Setup, ordinals: range, rng: np.random.Generator) -> list[Outcome]:
    """Random scores at random genomes; what the recipes are does not matter."""
    base = opening(setup.space)[0]
    return [
        outcome(
            Candidate(ordinal, base.recipe, base.origin, tuple(rng.random(setup.space.dim))),
            rng.random(setup.objectives),
        )
        for ordinal in ordinals
    ]


def test_the_front_is_never_forgotten() -> None:
    """The best of a thousand outcomes came first: TPE still samples near it."""
    setup = Setup("optuna_tpe", blocks=1, objectives=1)
    optimizer, rng = setup.start(), np.random.default_rng(1)
    peak = (0.2, 0.7, 0.4)
    for ordinal in range(1000):
        genome = peak if ordinal == 0 else tuple(rng.random(3).tolist())
        candidate = Candidate(
            ordinal, setup.space.decode(genome), opening(setup.space)[0].origin, genome
        )
        distance = np.abs(np.subtract(genome, peak)).max()
        optimizer.tell(outcome(candidate, np.array([1.0 if ordinal == 0 else 0.5 - distance / 10])))
    genomes = [optimizer.ask(1000, np.random.default_rng(seed)).genome for seed in range(5)]
    assert np.abs(np.subtract(genomes, peak)).max(axis=1).mean() < 0.2


@pytest.mark.parametrize("sequence", ["sobol", "halton"])
def test_quasi_random_points_fill_the_cube_evenly(sequence: str) -> None:
    """64 of them, 8 in each octant of three genes (Halton: nearly so)."""
    setup = Setup("optuna_qmc", blocks=1, options={"sequence": sequence})
    own = len(opening(setup.space))
    genomes = [candidate.genome for candidate in search(setup, own + 64).candidates[own:]]
    counts = np.bincount((np.array(genomes) > 0.5) @ [1, 2, 4], minlength=8)
    assert counts.tolist() == [8] * 8 if sequence == "sobol" else np.ptp(counts) <= 4


def test_generations_follow_each_other() -> None:
    """From the second on candidates are children: they share genes with candidates before."""
    setup = Setup("optuna_nsga2", options={"population": 8})
    genomes = [candidate.genome for candidate in search(setup, 40).candidates if candidate.genome]
    inherited = [
        sum(gene in {g for earlier in genomes[:n] for g in earlier} for gene in genome)
        for n, genome in enumerate(genomes)
    ]
    assert np.mean(inherited[6:8]) < 1
    assert np.mean(inherited[-16:]) > 6
