"""A search that begins with what an earlier one has measured, in a larger space."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from api.store import Entry, Store
from search.outcome import Infeasible, Outcome
from tests.real import attend, client_of, document, submit
from tests.tiny import save_llama
from workers.local_fleet import LocalFleet
from workers.messages import Confirm, Evaluate, Job, Rejected
from workers.worker import Result, Worker

# What the small search measures that a larger one measures as well: base, parents, average.
GIVEN = 4
SMALL = {"budget": {"evaluations": 12, "parallel": 4}}
LARGE = {
    "space": {
        "blocks": {"layers": 1},
        "parameters": {"weight": {"low": 0.0, "high": 1.0}},
    },
    "budget": {"evaluations": 16, "parallel": 4},
}


class Searched:
    """A search over real models that ran to its end, and what was measured for it."""

    def __init__(self, home: Path, store: Store, **changes: Any) -> None:
        self.id = submit(home, store, document(**changes))
        self.measured: list[str] = []
        worker = Worker()

        def run(job: Job) -> Result:
            if isinstance(job.work, Evaluate | Confirm):
                self.measured.append(f"{job.work.suite.split} {job.work.recipe.digest}")
                recipe = job.work.recipe
                if recipe.method != "linear" and recipe.digest.startswith(("0", "1", "2")):
                    return Rejected("as the test has it")
            return worker.run(job)

        with closing(LocalFleet(run)) as fleet:
            attend(store, fleet, self.id)
        self.entries: list[Entry] = store.candidates(self.id)
        self.outcomes: list[Outcome] = store.outcomes(self.id, 0, 1000)


def test_a_larger_space_begins_with_all_that_was_measured_in_a_smaller_one(
    home: Path, store: Store
) -> None:
    small = Searched(home, store, **SMALL)
    large = Searched(home, store, **LARGE, continues=small.id)
    kept = [entry for entry in large.entries if entry.candidate.origin.move == "kept"]
    assert len(kept) == len({e.digest for e in small.entries}) - GIVEN
    assert all(entry.cached and entry.candidate.genome is not None for entry in kept)
    again = set(small.measured) & set(large.measured)
    assert not {one for one in again if one.startswith("search")}
    assert len(large.outcomes) == 16
    ordinals = [int(entry.candidate.origin.detail["ordinal"]) for entry in kept]
    for entry, ordinal in zip(kept, ordinals, strict=True):
        ours, theirs = large.outcomes[entry.candidate.ordinal], small.outcomes[ordinal]
        assert type(ours) is type(theirs)
        if isinstance(ours, Infeasible):
            assert ours.reason == theirs.reason  # type: ignore[union-attr]  # the same type
        else:
            assert ours.scores == theirs.scores  # type: ignore[union-attr]  # likewise
    assert any(isinstance(outcome, Infeasible) for outcome in small.outcomes)


def test_only_so_many_are_kept_as_there_were_on_submission_or_are_asked_for(
    home: Path, store: Store
) -> None:
    small = Searched(home, store, **SMALL)
    with client_of(home, store) as client:
        made = client.post("/v1/searches", json=document(**LARGE, continues=small.id)).json()
        assert made["spec"]["continues"] == {"search": small.id, "evaluations": 12}
    some = Searched(home, store, **LARGE, continues={"search": small.id, "evaluations": 7})
    kept = [entry for entry in some.entries if entry.candidate.origin.move == "kept"]
    assert {int(e.candidate.origin.detail["ordinal"]) for e in kept} <= set(range(7))


def test_after_a_model_has_changed_everything_is_measured_again(home: Path, store: Store) -> None:
    small = Searched(home, store, **SMALL)
    save_llama(home / "models/p0", seed=0, learned=99)
    large = Searched(home, store, **LARGE, continues=small.id)
    kept = [entry for entry in large.entries if entry.candidate.origin.move == "kept"]
    assert kept
    assert not any(entry.cached for entry in kept)


def test_what_cannot_be_continued_is_told_before_anything_runs(home: Path, store: Store) -> None:
    empty = submit(home, store, document())
    with client_of(home, store) as client:
        answers = {
            other: client.post("/v1/searches", json=document(**LARGE, continues=other)).json()
            for other in ("0123", empty)
        }
        checked = client.post(
            "/v1/searches:validate", json=document(continues="0123", seed=-1)
        ).json()
    told = {other: answer["errors"] for other, answer in answers.items()}
    assert told["0123"] == [{"field": "continues", "message": "there is no search '0123'"}]
    assert told["0123"] == checked["problems"][-1:]
    assert checked["problems"][0]["field"] == "seed"
    assert told[empty][0]["message"] == "has no evaluation with an outcome yet"
