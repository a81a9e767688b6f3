"""A score that was measured before is not measured again, and is the one that would have been."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.store import Entry, Store
from evals.batching import Batching, Pacing
from evals.fingerprint import device_name
from search.outcome import Infeasible, Outcome, Scored
from search.recipe import mixture
from tests.real import attend, document, submit
from tests.tiny import save_llama
from workers.local_fleet import LocalFleet
from workers.messages import Confirm, Evaluate, Evaluated, Job, Rejected, Survey
from workers.worker import Result, Worker

# Recipes of the search below.
DIFFERENT = 8

# What a worker makes of a job; a test may change what it says.
Run = Callable[[Job], Result]


def searched(
    home: Path, store: Store, *, run: Run | None = None, **changes: Any
) -> tuple[list[Entry], list[Outcome], int]:
    """Entries and outcomes of a search that ran to its end, and how many were measured for it.

    Of candidates on search examples; when there is nothing of those, on no other examples either.
    """
    measured: list[type] = []
    work = run or Worker().run

    def counting(job: Job) -> Result:
        if isinstance(job.work, Evaluate | Confirm):
            measured.append(type(job.work))
        return work(job)

    search_id = submit(home, store, document(**changes))
    with closing(LocalFleet(counting)) as fleet:
        attend(store, fleet, search_id)
    evaluated = measured.count(Evaluate)
    assert evaluated > 0 or measured == []
    return store.candidates(search_id), store.outcomes(search_id, 0, 1000), evaluated


def held_out_scores(store: Store, which: int) -> list[object]:
    """What the log of the first or second search says of select and report examples."""
    log = store.events(store.searches()[which].id, limit=1000)
    told = [event for event in log if event.kind in ("selected", "reported")]
    return [(event.kind, event.ordinal, repr(event.scores)) for event in told]  # nan is nan


def test_the_same_search_again_costs_no_evaluation_and_gives_the_same_log(
    home: Path, store: Store
) -> None:
    _, first, measured = searched(home, store)
    entries, again, measured_again = searched(home, store)
    assert (measured, measured_again) == (DIFFERENT, 0)
    assert again == first
    assert all(entry.cached for entry in entries)
    assert held_out_scores(store, 0) == held_out_scores(store, 1) != []
    with closing(Store(f"sqlite:///{home}/other.db")) as empty:
        _, afresh, _ = searched(home, empty)
    assert again == afresh, "what was cached is what would have been measured"


def test_what_was_cached_names_the_engine_that_measured_it(home: Path, store: Store) -> None:
    measured, _, _ = searched(home, store)
    cached, _, _ = searched(home, store)
    assert [entry.cached for entry in measured].count(False) == DIFFERENT
    assert [entry.engine for entry in cached] == [entry.engine for entry in measured]
    assert all(entry.engine["plan"].startswith("float32, ") for entry in cached)
    assert [entry.worker for entry in cached] == [entry.worker for entry in measured]
    assert {entry.timings for entry in cached} == {None}


def test_only_what_is_new_is_measured(home: Path, store: Store) -> None:
    searched(home, store)
    entries, _, measured = searched(home, store, budget={"evaluations": 11, "parallel": 4})
    assert measured == 3
    assert [entry.cached for entry in entries] == [True] * 8 + [False] * 3


def test_a_recipe_that_is_proposed_twice_is_measured_once(home: Path, store: Store) -> None:
    """A space of one point: after the baselines every candidate is the same."""
    space = {"parameters": {"weight": {"low": 0.25, "high": 0.25000000000000006}}}
    budget = {"evaluations": 14, "parallel": 8}
    entries, _, measured = searched(home, store, space=space, budget=budget)
    assert measured == len({entry.digest for entry in entries}) < 14


def test_a_search_that_is_repeated_has_the_forward_passes_of_the_first(
    home: Path, store: Store
) -> None:
    """What is fastest is a matter of chance where two ways are nearly as fast."""
    worker, odd = Worker(), Pacing(Batching(96, 1), device_name("cpu"), {})

    def at_first(job: Job) -> Result:
        survey = isinstance(job.work, Survey)
        return worker.run(replace(job, work=replace(job.work, paced=odd)) if survey else job)

    entries, _, measured = searched(home, store, run=at_first)
    assert all(" 96 tokens" in entry.engine["plan"] for entry in entries)
    _, _, measured_again = searched(home, store)
    assert (measured, measured_again) == (DIFFERENT, 0)
    other = searched(home, store, evaluation={"system_instruction": "Say."})[0]
    assert not any(" 96 tokens" in entry.engine["plan"] for entry in other), "other texts"


# Every candidate of such a space but the given models is far from any language.
BROKEN: dict[str, Any] = {"space": {"parameters": {"weight": {"low": 30.0, "high": 60.0}}}}


def test_what_is_broken_is_known_to_be_and_why(home: Path, store: Store) -> None:
    entries, first, measured = searched(home, store, **BROKEN)
    again, second, measured_again = searched(home, store, **BROKEN)
    reasons = [one.reason for one in first if isinstance(one, Infeasible)]
    assert len(reasons) == 4
    assert all(reason.startswith("the merge lost its language: ") for reason in reasons)
    assert (measured, measured_again) == (len({entry.digest for entry in entries}), 0)
    assert second == first
    assert all(entry.cached for entry in again)
    assert [entry.engine for entry in again] == [entry.engine for entry in entries]


@pytest.mark.parametrize("fault", ["lost 3 times: the worker died", "out of memory on cpu"])
def test_what_was_bad_luck_is_tried_again(home: Path, store: Store, fault: str) -> None:
    """The third parent's recipe is as good as any; what stopped it says nothing of it."""
    worker, unlucky = Worker(), mixture(("one", "two"), (0.5, 0.5))

    def failing(job: Job) -> Result:
        of_average = isinstance(job.work, Evaluate) and job.work.recipe == unlucky
        return Rejected(fault) if of_average else worker.run(job)

    _, first, _ = searched(home, store, run=failing)
    assert [isinstance(one, Infeasible) for one in first].count(True) >= 1
    _, second, measured = searched(home, store)
    assert measured == 1
    assert all(isinstance(one, Scored) for one in second)


def retrain(home: Path) -> None:
    save_llama(home / "models/p0", seed=0, learned=99)


def other_tokenizer(home: Path) -> None:
    """That reads letters in another way."""
    tokens = json.loads((home / "models/base/tokenizer.json").read_text())
    vocabulary = tokens["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    for folder in ("base", "p0", "p1"):
        (home / "models" / folder / "tokenizer.json").write_text(json.dumps(tokens))


def other_examples(home: Path) -> None:
    file = home / "data/search.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["label"] = (rows[0]["label"] + 1) % 3
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("change", "unchanged"),
    [(retrain, 1), (other_tokenizer, 0), (other_examples, 0)],
    ids=["a parent was trained again", "the tokenizer reads otherwise", "an answer was corrected"],
)
def test_what_was_measured_of_something_else_is_not_taken(
    home: Path, store: Store, change: Callable[[Path], None], unchanged: int
) -> None:
    """The base alone stays what it was when a parent changes."""
    searched(home, store)
    change(home)
    _, _, measured = searched(home, store)
    assert measured == DIFFERENT - unchanged


def test_scores_of_another_engine_are_not_taken(home: Path, store: Store) -> None:
    worker = Worker()

    def elsewhere(job: Job) -> Result:
        result = worker.run(job)
        if isinstance(result, Evaluated):
            return replace(result, fingerprint={**result.fingerprint, "torch": "another"})
        return result

    searched(home, store, run=elsewhere)
    _, _, measured = searched(home, store)
    assert measured == DIFFERENT
