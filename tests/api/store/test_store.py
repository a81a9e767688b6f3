"""What every database must do alike."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from api.rebuild import suite as suite_of
from api.store import IdempotencyConflict, Provenance, Store, UnknownSearch
from evals.suite import Split
from search.outcome import Candidate, HeldOut, Infeasible, Origin, Score, Scored
from search.recipe import mixture
from tests.analytic import geometry, scores, submission
from workers.messages import Surveyed, Timings

TIMINGS = Timings(0.25, 1.5, 0.125)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


@pytest.fixture
def search_id(store: Store) -> str:
    return store.create_search(submission())


def candidate(ordinal: int, weight: float = 0.3) -> Candidate:
    recipe = mixture(("add", "reverse"), (weight, 1 / 3))
    origin = Origin("crossover", (0, 1), {"split": 0.1, "kind": "slerp"})
    return Candidate(ordinal, recipe, origin, (0.1, 1 / 3, 1e-300))


def scored(of: Candidate) -> Scored:
    return Scored(of, scores(of.recipe))


def test_a_submission_comes_back_as_it_was(store: Store) -> None:
    given = submission({"name": "uniform", "option": 0.1}, seed=2**62)
    search = store.search(store.create_search(given))
    assert search.submission == given
    assert search.spec.digest == given.spec.digest
    assert abs(search.created_at - datetime.now(UTC)).total_seconds() < 60
    assert suite_of(search, Split.SEARCH).objectives == given.spec.objectives


def test_how_and_from_where_tasks_are_asked_comes_back(store: Store) -> None:
    plain = submission(evaluation={"num_fewshot": 2})
    given = replace(plain, task_folders=("mine", "installed"), trusted_folders=("installed",))
    suite = suite_of(store.search(store.create_search(given)), Split.SEARCH)
    assert (suite.folders, suite.trusted) == (("mine", "installed"), ("installed",))
    assert suite.evaluation.num_fewshot == 2


def test_searches_page_from_the_newest(store: Store) -> None:
    ids = [store.create_search(submission(seed=seed)) for seed in range(5)]
    newest = store.searches(limit=2)
    older = store.searches(before=newest[-1].id, limit=10)
    assert [s.id for s in newest + older] == sorted(ids, reverse=True)


def test_an_unknown_search_is_called_so(store: Store) -> None:
    with pytest.raises(UnknownSearch, match="no search 'nope'"):
        store.search("nope")
    with pytest.raises(UnknownSearch):
        store.append("nope", "pause")
    with pytest.raises(UnknownSearch):
        store.enqueue("nope", candidate(0))


def test_the_same_key_and_spec_are_one_search_however_many_ask_at_once(store: Store) -> None:
    def submit(_: int) -> str:
        return store.create_search(submission(), idempotency_key="k1")

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(submit, range(20)))
    assert len(ids) == 1
    assert [search.id for search in store.searches()] == list(ids)


def test_the_same_key_with_another_spec_is_refused(store: Store) -> None:
    store.create_search(submission(), idempotency_key="k1")
    with pytest.raises(IdempotencyConflict, match="'k1' was used for another spec"):
        store.create_search(submission(seed=1), idempotency_key="k1")


def test_without_a_key_the_same_spec_is_another_search(store: Store) -> None:
    assert store.create_search(submission()) != store.create_search(submission())


def test_a_candidate_comes_back_to_the_bit(store: Store, search_id: str) -> None:
    assert store.enqueue(search_id, candidate(0))
    entry = store.candidate(search_id, 0)
    assert entry is not None
    assert entry.candidate == candidate(0)
    assert entry.digest == candidate(0).recipe.digest
    assert entry.outcome is None


def test_an_ordinal_is_taken_once(store: Store, search_id: str) -> None:
    assert store.enqueue(search_id, candidate(0))
    assert not store.enqueue(search_id, candidate(0, weight=0.9))
    entry = store.candidate(search_id, 0)
    assert entry is not None
    assert entry.candidate == candidate(0)


def test_candidates_page_by_ordinal_and_pending_ones_can_be_asked_for(
    store: Store, search_id: str
) -> None:
    for ordinal in range(5):
        store.enqueue(search_id, candidate(ordinal))
    for ordinal in (0, 3):
        store.record(search_id, scored(candidate(ordinal)), Provenance("w", TIMINGS))
    page = store.candidates(search_id, after=1, limit=2)
    assert [entry.candidate.ordinal for entry in page] == [2, 3]
    pending = store.candidates(search_id, pending=True)
    assert [entry.candidate.ordinal for entry in pending] == [1, 2, 4]
    assert store.proposed(search_id) == 5


def test_an_outcome_comes_back_to_the_bit(store: Store, search_id: str) -> None:
    examples = np.array([0.0, -0.0, np.nan, np.inf, 1e-40, 1 / 3], dtype=np.float32)
    given = Scored(
        candidate(0),
        {
            "add/score": Score(0.1 + 0.2, float("nan"), 6, examples),
            "reverse/acc": Score(0.5, 0.25, 9, np.array([1, 0, 1, 1, 0, 0, 0, 0, 1], np.float32)),
        },
    )
    store.enqueue(search_id, given.candidate)
    assert store.record(search_id, given, Provenance("w1", TIMINGS)) == 1
    assert store.outcomes(search_id, 0, 10) == [given]
    back = store.examples(search_id, 0, Split.SEARCH)
    assert back["add/score"].tobytes() == examples.tobytes()
    assert store.examples(search_id, 0, Split.REPORT) == {}
    entry = store.candidate(search_id, 0)
    assert entry is not None
    assert entry.outcome is not None
    assert (entry.timings, entry.worker, entry.outcome.seq) == (TIMINGS, "w1", 1)
    assert entry.outcome.scores["add/score"].value == 0.1 + 0.2


def held_out(of: Candidate, first: int | None, count: int) -> HeldOut:
    return HeldOut(of, Split.SELECT, scores(of.recipe, Split.SELECT, count), first)


def test_a_candidate_is_scored_on_ever_more_examples_once_each(
    store: Store, search_id: str
) -> None:
    one = candidate(0)
    store.enqueue(search_id, one)
    few, more, whole = held_out(one, 9, 9), held_out(one, 18, 18), held_out(one, None, 72)
    for seq, held in enumerate((few, more, whole), start=1):
        provenance = Provenance("w", TIMINGS, {"torch": "2"}, f"key {held.first}")
        assert store.record_confirmation(search_id, held, provenance) == seq
        assert store.confirmed(search_id, 0, Split.SELECT) == held.scores
        examples = store.examples(search_id, 0, Split.SELECT)
        assert {key: len(x) for key, x in examples.items()} == {
            key: score.count for key, score in held.scores.items()
        }
    again = held_out(one, 18, 17)
    assert store.record_confirmation(search_id, again, Provenance("late", TIMINGS)) is None
    assert store.confirmed(search_id, 0, Split.SELECT, 9) == few.scores
    assert store.confirmed(search_id, 0, Split.SELECT, 18) == more.scores
    assert store.confirmed(search_id, 0, Split.SELECT, 7) == {}
    assert [event.body.get("first") for event in store.events(search_id)] == [9, 18, None]
    for first in (9, 18, None):
        known = store.known(f"key {first}")
        assert known is not None
        assert (known.ordinal, known.first) == (0, first)


def test_an_infeasible_candidate_keeps_its_reason(store: Store, search_id: str) -> None:
    store.enqueue(search_id, candidate(0))
    outcome = Infeasible(candidate(0), 'not finite: "model.norm"\u0000\U0001f600')
    store.record(search_id, outcome, Provenance("w"))
    assert store.outcomes(search_id, 0, 1) == [outcome]
    assert store.examples(search_id, 0, Split.SEARCH) == {}


def test_a_second_report_of_a_candidate_is_ignored(store: Store, search_id: str) -> None:
    store.enqueue(search_id, candidate(0))
    first = scored(candidate(0))
    assert store.record(search_id, first, Provenance("w1", TIMINGS)) == 1
    second = Infeasible(candidate(0), "too late")
    assert store.record(search_id, second, Provenance("w2")) is None
    assert store.outcomes(search_id, 0, 1) == [first]
    assert len(store.events(search_id)) == 1


def test_an_outcome_of_a_candidate_that_was_never_committed_is_refused(
    store: Store, search_id: str
) -> None:
    with pytest.raises(LookupError, match="was never enqueued"):
        store.record(search_id, scored(candidate(0)), Provenance("w", TIMINGS))
    assert store.events(search_id) == []


def test_seq_has_no_gaps_and_no_doubles_however_many_write(store: Store, search_id: str) -> None:
    for ordinal in range(24):
        store.enqueue(search_id, candidate(ordinal))

    def write(ordinal: int) -> list[int | None]:
        outcome = scored(candidate(ordinal % 24))
        return [
            store.record(search_id, outcome, Provenance("w", TIMINGS)),
            store.append(search_id, "pause"),
        ]

    with ThreadPoolExecutor(6) as pool:
        written = [seq for pair in pool.map(write, range(48)) for seq in pair if seq is not None]
    assert sorted(written) == list(range(1, 24 + 48 + 1))
    log = store.events(search_id)
    assert [event.seq for event in log] == sorted(written)
    assert sorted(e.ordinal for e in log if e.kind == "scored") == list(range(24))


def test_a_reader_that_follows_writers_misses_nothing(store: Store, search_id: str) -> None:
    done = threading.Event()

    def write(_: int) -> None:
        for _ in range(15):
            store.append(search_id, "resume")

    seen: list[int] = []

    def follow() -> None:
        while True:
            last = done.is_set()
            after = seen[-1] if seen else 0
            seen.extend(event.seq for event in store.events(search_id, after=after))
            if last:
                return

    reader = threading.Thread(target=follow)
    reader.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    done.set()
    reader.join()
    assert seen == list(range(1, 61))


def test_what_was_decided_from_an_old_log_is_not_written(store: Store, search_id: str) -> None:
    assert store.append(search_id, "pause", after=0) == 1
    assert store.append(search_id, "finished", after=0) is None
    assert store.append(search_id, "finished", after=1) == 2


def test_events_page_and_leave_outcomes_out_if_asked(store: Store, search_id: str) -> None:
    store.record_survey(search_id, Surveyed({"base/model": "ab"}, None))
    store.enqueue(search_id, candidate(0))
    store.record(search_id, scored(candidate(0)), Provenance("w", TIMINGS))
    store.append(search_id, "extend", {"evaluations": 3})
    store.append(search_id, "checkpoint_requested", ordinal=0)
    log = store.events(search_id)
    assert [event.kind for event in log] == ["surveyed", "scored", "extend", "checkpoint_requested"]
    assert log[2].body == {"evaluations": 3}
    assert log[1].scores["reverse/acc"].count == 72
    assert [event.seq for event in store.events(search_id, after=1, limit=2)] == [2, 3]
    notes = store.events(search_id, outcomes=False)
    assert [event.kind for event in notes] == ["surveyed", "extend", "checkpoint_requested"]


def test_what_a_survey_warns_of_is_in_its_event(store: Store, search_id: str) -> None:
    warning = ("parents[1]", "has the same weights as 'one'")
    store.record_survey(search_id, Surveyed({"base/model": "ab"}, None, (warning,)))
    (event,) = store.events(search_id)
    warnings = [dict(zip(("field", "message"), warning, strict=True))]
    assert event.body == {"warnings": warnings, "diagnoses": [], "draws": []}


def test_heads_tell_the_newest_event_of_every_search(store: Store, search_id: str) -> None:
    other = store.create_search(submission(seed=1))
    store.append(search_id, "pause")
    store.append(search_id, "resume")
    heads = {head.search_id: (head.seq, head.kind) for head in store.heads()}
    assert heads == {search_id: (2, "resume"), other: (0, None)}


def test_a_survey_is_kept_once(store: Store, search_id: str) -> None:
    assert store.geometry(search_id) is None
    assert store.record_survey(search_id, Surveyed({"base/model": "ab"}, geometry())) == 1
    assert store.record_survey(search_id, Surveyed({"base/model": "cd"}, None)) is None
    kept = store.geometry(search_id)
    assert kept is not None
    assert np.array_equal(kept.gram, geometry().gram)
    assert np.array_equal(kept.boundaries, geometry().boundaries)
    assert store.hashes(search_id) == {"base/model": "ab"}


def test_a_lease_has_one_holder_until_it_lapses_or_is_given_back(store: Store) -> None:
    assert store.lease("s", "a", ttl_s=60)
    assert not store.lease("s", "b", ttl_s=60)
    assert store.lease("s", "a", ttl_s=0.0)
    assert store.lease("s", "b", ttl_s=60)
    store.release("s", "a")
    assert not store.lease("s", "a", ttl_s=60)
    store.release("s", "b")
    assert store.lease("s", "a", ttl_s=60)


def test_of_many_who_ask_at_once_one_gets_the_lease(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda n: store.lease("s", f"h{n}", ttl_s=60), range(16)))
    assert sum(got) == 1


def test_two_searches_have_logs_of_their_own(store: Store, search_id: str) -> None:
    other = store.create_search(submission(seed=1))
    for search in (search_id, other):
        store.enqueue(search, candidate(0))
    changed = replace(candidate(0), recipe=mixture(("add",), (1.0,)))
    assert store.record(search_id, scored(candidate(0)), Provenance("w", TIMINGS)) == 1
    assert store.record(other, scored(changed), Provenance("w", TIMINGS)) == 1
    assert [outcome.candidate for outcome in store.outcomes(search_id, 0, 9)] == [candidate(0)]
