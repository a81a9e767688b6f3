"""The controller: write, then act; whatever the workers do, the log comes out the same."""

import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.store import Store, StoreDown
from search.optimizer import optimizers
from search.outcome import Candidate, Outcome
from tests.analytic import AnalyticFleet, perform, submission
from tests.attending import Over, attending, controller_of, progress_of, turns, wait_for
from workers.fleet import Fleet, FleetDown
from workers.messages import MODEL, Evaluate, Form, Job, Rejected, Report, Survey

NSGA2 = {"name": "nsga2", "population": 8}


def run_to_the_end(store: Store, search_id: str, fleet: Fleet | None = None) -> list[Outcome]:
    fleet = fleet or AnalyticFleet()
    controller_of(store, fleet).run(Over(store, search_id))
    fleet.close()
    return everything(store, search_id)


def everything(store: Store, search_id: str) -> list[Outcome]:
    return store.outcomes(search_id, 0, 10**6)


class Shuffled:
    """A fleet of one thread that answers in an order of its own choosing, and some jobs twice."""

    def __init__(self, slots: int, choices: Sequence[int], *, twice: bool = False) -> None:
        self._slots = slots
        self._choices = list(choices) or [0]
        self._turn = 0
        self._jobs: list[Job] = []
        self._again: list[Job] = []
        self._twice = twice

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def next_report(self, timeout_s: float) -> Report | None:
        if self._again:
            return Report(self._again.pop().id, Rejected("a ghost"), worker="ghost")
        if not self._jobs:
            time.sleep(min(timeout_s, 0.001))
            return None
        self._turn += 1
        choice = self._choices[self._turn % len(self._choices)]
        job = self._jobs.pop(choice % len(self._jobs))
        if self._twice:
            self._again.append(job)
        return Report(job.id, perform(job), worker="w")

    def slots(self) -> int:
        return self._slots

    def close(self) -> None:
        self._jobs.clear()


def test_a_search_runs_to_its_end(store: Store) -> None:
    search_id = store.create_search(submission(evaluations=40))
    outcomes = run_to_the_end(store, search_id)
    assert [o.candidate.ordinal for o in outcomes] == list(range(40))
    log = store.events(search_id)
    assert log[0].kind == "surveyed"
    assert log[-1].kind == "finished"
    assert len([event for event in log if event.kind in ("scored", "infeasible")]) == 40


def test_a_failed_candidate_is_infeasible_and_the_search_goes_on(store: Store) -> None:
    search_id = store.create_search(submission(evaluations=60))
    run_to_the_end(store, search_id)
    failed = [event for event in store.events(search_id) if event.kind == "infeasible"]
    assert failed
    assert {event.body["reason"] for event in failed} == {"the merge is not finite"}


def test_models_are_read_once_before_anything_is_evaluated(store: Store) -> None:
    fleet = AnalyticFleet()
    run_to_the_end(store, store.create_search(submission({"name": "m2n2"})), fleet)
    kinds = [type(job.work) for job in fleet.submitted]
    assert kinds[0] is Survey
    assert kinds.count(Survey) == 1


def test_a_candidate_is_committed_before_its_job_is_submitted(store: Store) -> None:
    class Suspicious(AnalyticFleet):
        def submit(self, job: Job) -> None:
            if isinstance(job.work, Evaluate):
                entry = store.candidate(search_id, int(job.id.rsplit("/", 1)[1]))
                assert entry is not None
                assert entry.candidate.recipe == job.work.recipe
            super().submit(job)

    search_id = store.create_search(submission())
    run_to_the_end(store, search_id, Suspicious())


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('expected')}/log.db")
    outcomes = run_to_the_end(store, store.create_search(submission(NSGA2)), Shuffled(1, [0]))
    store.close()
    return outcomes


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(slots=st.integers(1, 8), choices=st.lists(st.integers(0, 15), max_size=40))
def test_candidates_do_not_depend_on_workers_or_order_of_arrival(
    store: Store, expected: list[Outcome], slots: int, choices: list[int]
) -> None:
    search_id = store.create_search(submission(NSGA2))
    assert run_to_the_end(store, search_id, Shuffled(slots, choices)) == expected


def test_control_another_window_gives_other_candidates(
    store: Store, expected: list[Outcome]
) -> None:
    search_id = store.create_search(submission(NSGA2, parallel=5))
    assert run_to_the_end(store, search_id, Shuffled(1, [0])) != expected


def test_the_second_report_of_a_job_changes_nothing(store: Store, expected: list[Outcome]) -> None:
    search_id = store.create_search(submission(NSGA2))
    assert run_to_the_end(store, search_id, Shuffled(2, [1, 0], twice=True)) == expected


def test_an_extension_continues_the_same_sequence(store: Store, expected: list[Outcome]) -> None:
    search_id = store.create_search(submission(NSGA2, evaluations=35))
    run_to_the_end(store, search_id)
    store.append(search_id, "extend", {"evaluations": 25})
    assert run_to_the_end(store, search_id) == expected
    phases = [kind for kind, _ in groupby(turns(store, search_id))]
    assert phases == [
        *("surveyed", "selecting", "reporting", "finished"),
        *("extend", "selecting", "reporting", "finished"),
    ]


def test_a_search_can_be_extended_while_it_runs(store: Store, expected: list[Outcome]) -> None:
    search_id = store.create_search(submission(NSGA2, evaluations=35))
    store.append(search_id, "extend", {"evaluations": 25})
    assert run_to_the_end(store, search_id) == expected


PATIENT = {"stop": {"patience": 16, "gain": 0.2}}


def stops(store: Store, search_id: str) -> list[tuple[int, str]]:
    log = store.events(search_id, outcomes=False)
    return [(e.body["evaluations"], e.body["reason"]) for e in log if e.kind == "stopped"]


@pytest.mark.parametrize("choices", [[0], [3, 1, 4, 1, 5]])
def test_a_search_stops_where_it_stagnates_and_says_why(
    store: Store, expected: list[Outcome], choices: list[int]
) -> None:
    search_id = store.create_search(submission(NSGA2, evaluations=400, **PATIENT))
    outcomes = run_to_the_end(store, search_id, Shuffled(4, choices))
    ((at, reason),) = stops(store, search_id)
    assert len(outcomes) == at < 60
    assert outcomes == expected[:at]
    assert reason.endswith("in the last 16 evaluations, less than 20 %")
    phases = [kind for kind, _ in groupby(turns(store, search_id))]
    assert phases == ["surveyed", "stopped", "selecting", "reporting", "finished"]
    assert progress_of(store, search_id).stopped == reason


def test_an_extension_continues_where_a_search_has_stopped(
    store: Store, expected: list[Outcome]
) -> None:
    """It has as much patience again before it may stop again."""
    search_id = store.create_search(submission(NSGA2, evaluations=400, **PATIENT))
    at = len(run_to_the_end(store, search_id))
    store.append(search_id, "extend", {"evaluations": 100})
    assert progress_of(store, search_id).stopped is None
    outcomes = run_to_the_end(store, search_id)
    first, second = stops(store, search_id)
    assert (first[0], second[0]) == (at, at + 16)
    assert len(outcomes) == at + 16
    common = min(len(expected), len(outcomes))
    assert outcomes[:common] == expected[:common]


def test_a_search_that_grows_spends_its_budget(store: Store) -> None:
    stop = {"patience": 30, "gain": 1e-9}
    search_id = store.create_search(submission(NSGA2, evaluations=40, stop=stop))
    assert len(run_to_the_end(store, search_id)) == 40
    assert stops(store, search_id) == []


def test_a_paused_search_stands_still_until_it_is_resumed(store: Store) -> None:
    search_id = store.create_search(submission(evaluations=400))
    with attending(store, AnalyticFleet(longest_s=0.002)):
        wait_for(lambda: store.proposed(search_id) > 20, "some progress")
        store.append(search_id, "pause")
        wait_for(lambda: store.candidates(search_id, pending=True) == [], "the last answers")
        time.sleep(0.1)
        stood = store.proposed(search_id)
        time.sleep(0.2)
        assert store.proposed(search_id) == stood < 400
        assert progress_of(store, search_id).state == "paused"
        store.append(search_id, "resume")
        wait_for(lambda: progress_of(store, search_id).state == "finished", "the end")


def test_a_cancelled_search_ends(store: Store) -> None:
    search_id = store.create_search(submission(evaluations=100_000))
    with attending(store):
        wait_for(lambda: store.proposed(search_id) > 10, "some progress")
        store.append(search_id, "cancel")
        wait_for(lambda: store.candidates(search_id, pending=True) == [], "the last answers")
        proposed = store.proposed(search_id)
        store.append(search_id, "resume")
        time.sleep(0.2)
    assert store.proposed(search_id) <= proposed + 4
    assert progress_of(store, search_id).state == "cancelled"


def test_a_small_search_does_not_wait_for_a_large_one(store: Store) -> None:
    large = store.create_search(submission(evaluations=100_000, parallel=64))
    with attending(store, AnalyticFleet(longest_s=0.004)):
        wait_for(lambda: store.proposed(large) > 30, "some progress of the large one")
        small = store.create_search(submission(evaluations=30))
        before = store.proposed(large)
        wait_for(lambda: progress_of(store, small).state == "finished", "the end of the small one")
        assert store.proposed(large) - before < 5 * 30


def test_no_more_than_parallel_candidates_are_pending(store: Store) -> None:
    pending: list[int] = []

    class Counting(AnalyticFleet):
        def submit(self, job: Job) -> None:
            pending.append(len(store.candidates(search_id, pending=True)))
            super().submit(job)

    search_id = store.create_search(submission(parallel=3))
    run_to_the_end(store, search_id, Counting(slots=16))
    assert max(pending) == 3


def test_a_requested_checkpoint_is_exported_also_after_the_end(store: Store) -> None:
    fleet = AnalyticFleet()
    search_id = store.create_search(submission(evaluations=10))
    run_to_the_end(store, search_id)
    store.append(search_id, "checkpoint_requested", ordinal=7)
    with attending(store, fleet):
        wait_for(
            lambda: progress_of(store, search_id).checkpoints[7, MODEL].state == "stored", "export"
        )
    (job,) = fleet.submitted
    entry = store.candidate(search_id, 7)
    assert entry is not None
    assert job.work.destination == f"artifacts/{search_id}/{entry.digest}/model"
    assert job.work.card["search"] == "analytic"
    assert job.work.card["sha256"] == store.hashes(search_id) != {}
    body = progress_of(store, search_id).checkpoints[7, MODEL].body
    assert body["files"] == {"model.safetensors": ["1" * 64, 288]}
    assert body["digest"] == entry.digest
    assert set(body["scores"]) == {"add/score", "reverse/acc"}


def test_every_form_of_a_checkpoint_is_a_job_and_an_answer_of_its_own(store: Store) -> None:
    fleet = AnalyticFleet()
    search_id = store.create_search(submission(evaluations=10))
    run_to_the_end(store, search_id)
    forms = [MODEL, Form(kind="adapter"), Form(kind="adapter", rank=8)]
    for form in forms:
        body = {"form": form.model_dump()}
        store.append(search_id, "checkpoint_requested", body, ordinal=7)
    with attending(store, fleet):
        wait_for(
            lambda: (
                {(c.state, len(c.body)) for c in progress_of(store, search_id).checkpoints.values()}
                == {("stored", 5)}
            ),
            "exports",
        )
    assert list(progress_of(store, search_id).checkpoints_of(7)) == forms
    assert [job.work.form for job in fleet.submitted] == forms
    assert [job.id.rpartition("/7/")[2] for job in fleet.submitted] == [
        "model",
        "adapter",
        "adapter-8",
    ]
    assert len({job.work.destination for job in fleet.submitted}) == len(forms)


class Refusing(AnalyticFleet):
    """Rejects one kind of work."""

    def __init__(self, work: type, answer: Rejected) -> None:
        super().__init__()
        self._work, self._answer = work, answer

    def next_report(self, timeout_s: float) -> Report | None:
        report = super().next_report(timeout_s)
        if report is None:
            return None
        (job,) = (job for job in self.submitted if job.id == report.job)
        if isinstance(job.work, self._work):
            return Report(report.job, self._answer, worker="w")
        return report


def test_a_checkpoint_that_cannot_be_written_says_why_and_can_be_asked_for_again(
    store: Store,
) -> None:
    search_id = store.create_search(submission(evaluations=10))
    run_to_the_end(store, search_id)
    store.append(search_id, "checkpoint_requested", ordinal=0)
    full = Refusing(object, Rejected("disk full: 20 GB needed, 3 GB free"))
    with attending(store, full):
        wait_for(
            lambda: progress_of(store, search_id).checkpoints[0, MODEL].state == "failed", "failure"
        )
    assert "disk full" in progress_of(store, search_id).checkpoints[0, MODEL].body["reason"]
    store.append(search_id, "checkpoint_requested", ordinal=0)
    with attending(store):
        wait_for(
            lambda: progress_of(store, search_id).checkpoints[0, MODEL].state == "stored", "export"
        )


@pytest.mark.parametrize("work", [Survey, Evaluate])
def test_models_at_fault_fail_the_search_with_their_problems(store: Store, work: type) -> None:
    search_id = store.create_search(submission())
    fault = Rejected("unusable models", (("parents[1].path", "model.safetensors holds NaN"),))
    with attending(store, Refusing(work, fault)):
        wait_for(lambda: progress_of(store, search_id).state == "failed", "failure")
    (problem,) = set(progress_of(store, search_id).problems)
    assert problem.field == "parents[1].path"
    assert "NaN" in problem.message


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"optimizer": {"name": "unifrom"}}, "optimizer.name", "did you mean 'uniform'?"),
        ({"optimizer": {"name": "uniform", "tempo": 3}}, "optimizer.tempo", "unknown field"),
        ({"method": "linaer"}, "method", "did you mean 'linear'?"),
        ({"space": {"parameters": {"wieght": 1.0}}}, "space.parameters.wieght", "'weight'"),
    ],
)
def test_a_search_that_cannot_be_rebuilt_fails_and_the_others_go_on(
    store: Store, changes: dict[str, Any], field: str, message: str
) -> None:
    broken = store.create_search(submission(**changes))
    sound = store.create_search(submission(evaluations=10))
    run_to_the_end(store, sound)
    failed = progress_of(store, broken)
    assert failed.state == "failed"
    assert failed.problems[0].field == field
    assert message in failed.problems[0].message


def test_a_search_whose_optimizer_breaks_fails_and_the_others_go_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaking:
        def ask(
            self, ordinal: int, rng: np.random.Generator, pending: Sequence[Candidate] = (), /
        ) -> Candidate:
            raise ZeroDivisionError("division by zero")

    broken = store.create_search(submission(NSGA2))
    sound = store.create_search(submission(evaluations=10))
    monkeypatch.setattr(optimizers["nsga2"], "ask", Breaking.ask)
    run_to_the_end(store, sound)
    (problem,) = progress_of(store, broken).problems
    assert problem.message == "'nsga2' stopped with ZeroDivisionError: division by zero"


def test_a_fleet_that_comes_back_loses_nothing(store: Store, expected: list[Outcome]) -> None:
    class Flaky(AnalyticFleet):
        calls = 0

        def _maybe_down(self) -> None:
            Flaky.calls += 1
            if Flaky.calls in (3, 40, 41, 90):
                raise FleetDown("no worker can be reached")

        def submit(self, job: Job) -> None:
            self._maybe_down()
            super().submit(job)

        def slots(self) -> int:
            self._maybe_down()
            return super().slots()

    search_id = store.create_search(submission(NSGA2))
    fleet = Flaky()
    controller_of(store, fleet, patience_s=0.01).run(Over(store, search_id))
    assert everything(store, search_id) == expected
    ids = [job.id for job in fleet.submitted]
    assert len(ids) == len(set(ids))


def test_a_database_that_comes_back_loses_no_report(
    sqlite_url: str, expected: list[Outcome]
) -> None:
    class Flaky(Store):
        calls = 0

        def record(self, *args: Any, **keywords: Any) -> int | None:
            Flaky.calls += 1
            if Flaky.calls in (2, 3, 30):
                raise StoreDown("the database does not answer")
            return super().record(*args, **keywords)

    store = Flaky(sqlite_url)
    search_id = store.create_search(submission(NSGA2))
    fleet = AnalyticFleet()
    controller_of(store, fleet, patience_s=0.01).run(Over(store, search_id))
    assert everything(store, search_id) == expected
    assert len([job for job in fleet.submitted if isinstance(job.work, Evaluate)]) == 60
    store.close()


class Crash(BaseException):
    """The process is gone."""


class Crashing(Store):
    """Dies at one of its writes, before or after the commit."""

    def __init__(self, url: str, *, at: int, committed: bool) -> None:
        super().__init__(url)
        self._left, self._committed = at, committed

    def _strike(self, write: Callable[[], Any]) -> Any:
        self._left -= 1
        if self._left == 0:
            if self._committed:
                write()
            raise Crash
        return write()

    def enqueue(self, *args: Any) -> Any:
        return self._strike(lambda: Store.enqueue(self, *args))

    def record(self, *args: Any, **keywords: Any) -> Any:
        return self._strike(lambda: Store.record(self, *args, **keywords))

    def record_survey(self, *args: Any) -> Any:
        return self._strike(lambda: Store.record_survey(self, *args))

    def record_confirmation(self, *args: Any, **keywords: Any) -> Any:
        return self._strike(lambda: Store.record_confirmation(self, *args, **keywords))

    def append(self, *args: Any, **keywords: Any) -> Any:
        return self._strike(lambda: Store.append(self, *args, **keywords))


@pytest.mark.parametrize("committed", [False, True])
def test_a_crash_at_any_write_changes_nothing(
    store: Store, sqlite_url: str, committed: bool
) -> None:
    few = submission(NSGA2, evaluations=14, parallel=2)
    calm_id = store.create_search(few)
    calm = run_to_the_end(store, calm_id)
    turns_and_scores = notes(store, calm_id)
    writes = 2 * 14 + len(turns_and_scores)
    for at in range(1, writes + 1):
        search_id = store.create_search(few)
        doomed = Crashing(sqlite_url, at=at, committed=committed)
        with pytest.raises(Crash):
            controller_of(doomed, AnalyticFleet()).run(threading.Event())
        doomed.close()
        assert run_to_the_end(store, search_id) == calm
        assert notes(store, search_id) == turns_and_scores


def notes(store: Store, search_id: str) -> list[tuple[object, ...]]:
    """What is in a log beside outcomes; scores of one split may have come in any order."""
    found, phase = [], 0
    for event in store.events(search_id, outcomes=False):
        phase += event.ordinal is None
        found.append((phase, event.kind, event.ordinal, event.body))
    return sorted(found, key=lambda note: (note[0], note[2] or -1))


def test_two_controllers_of_one_database_share_the_searches(store: Store) -> None:
    one, two = AnalyticFleet(longest_s=0.002), AnalyticFleet(longest_s=0.002)
    ids = [store.create_search(submission(evaluations=40, seed=seed)) for seed in range(4)]
    with attending(store, one), attending(store, two):
        wait_for(
            lambda: all(progress_of(store, s).state == "finished" for s in ids), "the end of all"
        )
    jobs = [job.id for job in one.submitted + two.submitted]
    assert len(jobs) == len(set(jobs))
    evaluations = [job for job in one.submitted + two.submitted if isinstance(job.work, Evaluate)]
    assert len(evaluations) == 4 * 40


def test_two_controllers_that_ignore_leases_still_write_one_log(
    database_url: str, expected: list[Outcome]
) -> None:
    class Lawless(Store):
        def lease(self, name: str, holder: str, *, ttl_s: float) -> bool:
            return True

    store = Lawless(database_url)
    search_id = store.create_search(submission(NSGA2))
    with (
        attending(store, AnalyticFleet(longest_s=0.002, seed=1)),
        attending(store, AnalyticFleet(longest_s=0.002, seed=2)),
    ):
        wait_for(lambda: progress_of(store, search_id).state == "finished", "the end")
    assert everything(store, search_id) == expected
    phases = [kind for kind, _ in groupby(turns(store, search_id))]
    assert phases == ["surveyed", "selecting", "reporting", "finished"]
    store.close()


def test_a_search_is_taken_over_when_its_controller_dies(store: Store) -> None:
    search_id = store.create_search(submission(evaluations=10))
    store.lease(search_id, "someone who died", ttl_s=0.3)
    started = time.monotonic()
    with attending(store, lease_s=0.3):
        wait_for(lambda: progress_of(store, search_id).state == "finished", "the end")
    assert time.monotonic() - started > 0.25


def test_a_new_search_is_noticed_soon(store: Store) -> None:
    with attending(store, poll_s=0.2):
        time.sleep(0.3)
        search_id = store.create_search(submission(evaluations=1))
        created = time.monotonic()
        wait_for(lambda: store.events(search_id), "the survey")
        assert time.monotonic() - created < 1.0


def test_an_idle_controller_asks_one_question_at_a_time(sqlite_url: str) -> None:
    class Counted(Store):
        asked: ClassVar[list[str]] = []

        def heads(self) -> Any:
            self.asked.append("heads")
            return super().heads()

        def events(self, *args: Any, **keywords: Any) -> Any:
            self.asked.append("events")
            return super().events(*args, **keywords)

    store = Counted(sqlite_url)
    for seed in range(3):
        run_to_the_end(store, store.create_search(submission(evaluations=5, seed=seed)))
    stop = threading.Event()
    controller = controller_of(store, AnalyticFleet(), poll_s=0.05)
    thread = threading.Thread(target=controller.run, args=(stop,))
    thread.start()
    time.sleep(0.3)
    store.asked.clear()
    time.sleep(0.5)
    asked = list(store.asked)
    stop.set()
    thread.join()
    store.close()
    assert 1 <= len(asked) <= 11
    assert set(asked) == {"heads"}
