"""The same spec and seed give the same search, whatever the fleet looks like and suffers.

Real models, merges, tasks and Ray workers, and an optimizer that learns from the scores and from
the geometry of the models.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

from api.store import Store
from search.outcome import Candidate, Outcome, Scored
from tests.attending import wait_for
from tests.real import attend, document, make_home, submit
from workers.ray_fleet import RayFleet, connect

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]

EVALUATIONS = 20
KILL_AFTER = 8


@dataclass(frozen=True)
class Result:
    """What must be the same, and who did the work."""

    candidates: list[Candidate]
    outcomes: list[Outcome]
    examples: list[dict[str, bytes]]
    workers: set[str]

    @property
    def children(self) -> int:
        """Candidates that the optimizer made from the scores of others."""
        return sum(candidate.origin.move == "crossover" for candidate in self.candidates)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def fleets() -> Iterator[dict[int, RayFleet]]:
    """A fleet of one slot and a fleet of two, on one Ray."""
    connect(None, slots=3)
    made = {slots: RayFleet(slots=slots) for slots in (1, 2)}
    yield made
    for fleet in made.values():
        fleet.close()
    ray.shutdown()


@pytest.fixture(scope="module")
def calm(
    home: Path, fleets: dict[int, RayFleet], tmp_path_factory: pytest.TempPathFactory
) -> Result:
    """The search on one slot, undisturbed."""
    url = f"sqlite:///{tmp_path_factory.mktemp('calm') / 'log.db'}"
    return searched(home, url, fleets[1])


def searched(home: Path, url: str, fleet: RayFleet, *, seed: int = 0) -> Result:
    with closing(Store(url)) as store:
        search_id = new_search(home, store, seed=seed)
        attend(store, fleet, search_id)
        return result(store, search_id)


def new_search(home: Path, store: Store, *, seed: int = 0) -> str:
    spec = document(
        method="linear",
        space={"blocks": {"layers": 1}, "parameters": {"weight": {"low": 0.0, "high": 1.0}}},
        optimizer={"name": "m2n2", "population": 6},
        budget={"evaluations": EVALUATIONS, "parallel": 4},
        seed=seed,
    )
    return submit(home, store, spec)


def result(store: Store, search_id: str) -> Result:
    entries = store.candidates(search_id, limit=1000)
    outcomes = store.outcomes(search_id, 0, 1000)
    assert len(entries) == len(outcomes) == EVALUATIONS
    assert all(isinstance(outcome, Scored) for outcome in outcomes)
    return Result(
        candidates=[entry.candidate for entry in entries],
        outcomes=outcomes,
        examples=[
            {key: score.examples.tobytes() for key, score in outcome.scores.items()}
            for outcome in outcomes
            if isinstance(outcome, Scored)
        ],
        workers=set(workers(store, search_id)),
    )


def workers(store: Store, search_id: str) -> list[str]:
    return [
        str(entry.worker)
        for entry in store.candidates(search_id, limit=1000)
        if entry.outcome is not None
    ]


def assert_same(one: Result, other: Result) -> None:
    assert one.candidates == other.candidates
    assert one.outcomes == other.outcomes, "scores are equal to the last bit"
    assert one.examples == other.examples


def test_one_and_two_workers_give_the_same_candidates_and_scores(
    home: Path, fleets: dict[int, RayFleet], calm: Result, sqlite_url: str
) -> None:
    two = searched(home, sqlite_url, fleets[2])
    assert_same(two, calm)
    assert (len(calm.workers), len(two.workers)) == (1, 2), "control: two really worked"
    assert calm.children > EVALUATIONS / 2, "control: the optimizer learned"


def test_another_seed_gives_other_candidates(
    home: Path, fleets: dict[int, RayFleet], calm: Result, sqlite_url: str
) -> None:
    """The control of the test above: candidates do differ when something is different."""
    other = searched(home, sqlite_url, fleets[1], seed=1)
    assert [c.recipe for c in other.candidates] != [c.recipe for c in calm.candidates]
    with pytest.raises(AssertionError):
        assert_same(other, calm)


def test_a_worker_that_is_killed_in_the_middle_changes_nothing(
    home: Path, fleets: dict[int, RayFleet], calm: Result, sqlite_url: str
) -> None:
    with closing(Store(sqlite_url)) as store:
        search_id = new_search(home, store)
        attending = threading.Thread(target=attend, args=(store, fleets[1], search_id))
        attending.start()
        wait_for(lambda: len(workers(store, search_id)) >= KILL_AFTER, "the middle", timeout_s=120)
        (victim,) = set(workers(store, search_id))
        os.kill(int(victim.rpartition(":")[2]), signal.SIGKILL)
        attending.join()
        disturbed = result(store, search_id)
    assert_same(disturbed, calm)
    assert len(disturbed.workers) == 2, "control: another took the place of the one that died"
