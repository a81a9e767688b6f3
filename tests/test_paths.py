"""A search of paths through layers, over real models, from the spec to the folder."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from api.store import Entry, Store
from evals.suite import Split, Suite
from search.outcome import Scored
from search.recipe import mixture
from search.spec import Objective
from tests.real import attend, document, submit
from workers.local_fleet import LocalFleet
from workers.merge_folder import merge_into_folder
from workers.messages import Evaluate, Evaluated, Job, Zoo
from workers.worker import Worker

PATHS = {
    "space": {
        "parameters": {"weight": {"low": 0.0, "high": 1.0}},
        "path": {"sources": ["merged", "one"], "repeats": 1, "scale": {"low": 0.9, "high": 1.1}},
    },
    "budget": {"evaluations": 16, "parallel": 4},
}


def searched(home: Path, store: Store, **changes: Any) -> tuple[str, list[Entry]]:
    search = submit(home, store, document(**changes))
    with closing(LocalFleet(Worker().run)) as fleet:
        attend(store, fleet, search)
    return search, store.candidates(search)


def test_what_a_search_says_of_a_path_is_what_its_folder_scores(home: Path, store: Store) -> None:
    search, entries = searched(home, store, **PATHS)
    outcomes = store.outcomes(search, 0, 1000)
    assert len(outcomes) == len(entries) == 16
    paths = [o for o in outcomes if o.candidate.recipe.path and isinstance(o, Scored)]
    assert len({len(outcome.candidate.recipe.path) for outcome in paths}) > 1
    names = (("one", str(home / "models/p0")), ("two", str(home / "models/p1")))
    zoo = Zoo(str(home / "models/base"), names, "float32")
    folder = home / "out"
    said = paths[-1]
    merge_into_folder(said.candidate.recipe, zoo, folder)
    tasks = ("tiny_choice", "acc"), ("tiny_text", "bits_per_byte")
    objectives = tuple(Objective(task=task, metric=metric) for task, metric in tasks)
    suite = Suite(objectives, Split.SEARCH, (str(home / "tasks"),))
    alone = Evaluate(mixture(("base",), (1.0,)), suite, gated=False)
    found = Worker().run(Job("j", Zoo(str(folder), (), "float32"), alone))
    assert isinstance(found, Evaluated)
    assert {k: s.value for k, s in found.scores.items()} == {
        key: pytest.approx(score.value, rel=1e-6) for key, score in said.scores.items()
    }


def test_a_search_of_paths_continues_one_of_merges(home: Path, store: Store) -> None:
    small, before = searched(home, store, budget={"evaluations": 8, "parallel": 4})
    _, entries = searched(home, store, **PATHS, continues=small)
    kept = [entry for entry in entries if entry.candidate.origin.move == "kept"]
    assert len(kept) == len(before) - 4  # base, parents and average are measured in any search
    assert all(entry.cached and entry.candidate.genome is not None for entry in kept)
    assert all(entry.candidate.recipe.path == () for entry in kept)
    assert any(entry.candidate.recipe.path for entry in entries)
