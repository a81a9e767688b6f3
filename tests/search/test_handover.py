"""CMA-ES goes on from the best that another search has found."""

from __future__ import annotations

import numpy as np
import pytest

from search.handover import MOVE, Handover
from search.outcome import Infeasible, Outcome
from tests.search.optimizers.analytic import Setup, accuracies, outcome, search

SETUP = Setup("auto", objectives=1)


def sampled(count: int) -> list[Outcome]:
    """Scored candidates of even sampling, the opening first."""
    return search(Setup("uniform", objectives=1), count).outcomes


def rng(ordinal: int) -> np.random.Generator:
    return np.random.default_rng([0, ordinal])


def test_it_waits_for_as_many_scores_as_it_was_told_to() -> None:
    found = sampled(40)
    handover = Handover(SETUP.task(), after=20)
    scored = 0
    for told in found:
        assert handover.has_begun == (scored >= 20)
        handover.tell(told)
        scored += told.candidate.genome is not None


def test_nobody_can_ask_it_before() -> None:
    with pytest.raises(RuntimeError, match="not begun"):
        Handover(SETUP.task(), after=20).ask(9, rng(9), [])


def test_it_begins_at_the_best() -> None:
    found = sampled(60)
    handover = Handover(SETUP.task(), after=40)
    for told in found:
        handover.tell(told)
    known = [o.candidate for o in found if o.candidate.genome is not None][:40]
    best = max(known, key=lambda candidate: accuracies(SETUP, candidate)[0])
    asked = [handover.ask(n, rng(n), []) for n in range(60, 90)]
    assert {candidate.origin.move for candidate in asked} == {MOVE}
    mean = np.mean([candidate.genome for candidate in asked], axis=0)
    assert np.abs(mean - np.array(best.genome)).max() < 0.1


def test_it_learns_from_its_own_candidates_only() -> None:
    ours, theirs = Handover(SETUP.task(), after=20), Handover(SETUP.task(), after=20)
    for told in sampled(30):
        ours.tell(told)
        theirs.tell(told)
    for told in sampled(60)[30:]:
        ours.tell(told)
    assert ours.ask(60, rng(60), []) == theirs.ask(60, rng(60), [])
    for ordinal in range(60, 80):
        candidate = ours.ask(ordinal, rng(ordinal), [])
        ours.tell(outcome(candidate, accuracies(SETUP, candidate)))
    assert ours.ask(80, rng(80), []) != theirs.ask(80, rng(80), [])


def test_what_cannot_be_scored_is_survived() -> None:
    handover = Handover(SETUP.task(), after=10)
    for told in sampled(30):
        handover.tell(Infeasible(told.candidate, "as the test has it"))
    assert not handover.has_begun
