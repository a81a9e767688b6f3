"""Races in the service: they follow from the log, and the log says who left."""

from __future__ import annotations

import pickle
from contextlib import closing

import numpy as np
import pytest

from api.attended import Attended, Overtaken, write
from api.store import Search, Store
from search.outcome import Scored
from tests.analytic import declaration, perform, submission
from workers.messages import Evaluate, Job, Report

UNIFORM = {"name": "uniform"}


def attended(store: Store, search: Search) -> Attended:
    return Attended(
        store, search, declaration=declaration, destination=lambda *_: "artifacts/nowhere"
    )


def race_of(job: Job) -> bytes:
    assert isinstance(job.work, Evaluate)
    return pickle.dumps(job.work.race)


def search_of(store: Store, optimizer: dict[str, str], **changes: object) -> list[Evaluate]:
    """Attend to a whole search; the work of its evaluations, by ordinal."""
    search = store.search(store.create_search(submission(optimizer, evaluations=40, **changes)))
    attending, works = attended(store, search), []
    while (assignment := attending.next_job(lambda _: False)) is not None:
        if isinstance(assignment.job.work, Evaluate):
            works.append(assignment.job.work)
        result = perform(assignment.job)
        write(store, assignment, Report(assignment.job.id, result, worker="here"))
        attending.catch_up()
        if len(works) == 40:
            break
    return works


def test_pending_candidates_run_the_very_same_race_after_a_restart(sqlite_url: str) -> None:
    """Answers come in another order, and the controller is gone while four are under way."""
    rng = np.random.default_rng(0)
    with closing(Store(sqlite_url)) as store:
        search = store.search(store.create_search(submission(UNIFORM, parallel=4)))
        first, under_way = attended(store, search), {}
        survey = first.next_job(lambda _: False)
        assert survey is not None
        write(store, survey, Report(survey.job.id, perform(survey.job), worker="here"))
        first.catch_up()
        for _ in range(30):
            while (assignment := first.next_job(under_way.__contains__)) is not None:
                under_way[assignment.job.id] = assignment
            answered = under_way.pop(str(rng.choice(sorted(under_way))))
            write(store, answered, Report(answered.job.id, perform(answered.job), worker="here"))
            first.catch_up()
        second, again = attended(store, search), {}
        while (assignment := second.next_job(again.__contains__)) is not None:
            again[assignment.job.id] = assignment
        assert set(under_way) <= set(again)
        assert len(under_way) > 1
        before = {name: race_of(assignment.job) for name, assignment in under_way.items()}
        assert before == {name: race_of(again[name].job) for name in under_way}
        assert len(set(before.values())) == len(before), "control: each has a race of its own"


def test_what_another_commits_while_the_log_is_read_is_noticed_as_overtaking(
    sqlite_url: str,
) -> None:
    """Taken for our own, it would let the optimizer learn more than the next candidate may."""

    def step(attending: Attended) -> None:
        assignment = attending.next_job(lambda _: False)
        assert assignment is not None
        result = perform(assignment.job)
        write(store, assignment, Report(assignment.job.id, result, worker="here"))
        attending.catch_up()

    class Interrupted(Store):
        """Between two readings of the second controller, the first one commits two candidates."""

        def proposed(self, search_id: str) -> int:
            count = super().proposed(search_id)
            for _ in range(2):
                assert first.next_job(lambda _: False) is not None
            return count

    with closing(Store(sqlite_url)) as store, closing(Interrupted(sqlite_url)) as interrupted:
        search = store.search(store.create_search(submission(UNIFORM, parallel=4)))
        first = attended(store, search)
        for _ in range(20):
            step(first)
        second = attended(interrupted, search)
        with pytest.raises(Overtaken, match="candidate 19 "):
            list(iter(lambda: second.next_job(lambda _: False), None))


def test_who_left_early_is_in_the_log(sqlite_url: str) -> None:
    with closing(Store(sqlite_url)) as store:
        works = search_of(store, UNIFORM)
        (head,) = store.heads()
        outcomes = [o for o in store.outcomes(head.search_id, 0, 40) if isinstance(o, Scored)]
        left = [outcome for outcome in outcomes if outcome.left_early]
        assert left
        assert len(left) < len(outcomes)
        counts = {score.count for outcome in left for score in outcome.scores.values()}
        assert counts <= {16, 32}
        entry = store.candidate(head.search_id, left[0].candidate.ordinal)
        assert entry is not None
        assert entry.left_early
        assert works[0].race is None, "the base is scored whole"
        assert works[-1].race is not None


def test_nobody_races_where_the_spec_or_the_optimizer_says_so(sqlite_url: str) -> None:
    with closing(Store(sqlite_url)) as store:
        for works in (search_of(store, UNIFORM, racing=0), search_of(store, {"name": "m2n2"})):
            assert len(works) == 40
            assert all(work.race is None for work in works)
