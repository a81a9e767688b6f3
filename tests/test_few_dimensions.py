"""Searches of few numbers over real models, whose recipes are such as any other's."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from api.store import Entry, Store
from search.outcome import Scored
from tests.real import attend, document, submit
from workers.local_fleet import LocalFleet
from workers.mergekit import mergekit_yaml
from workers.worker import Worker

FOLDERS = {"base": "base", "one": "p0", "two": "p1"}


def searched(home: Path, store: Store, **changes: Any) -> list[Entry]:
    search_id = submit(home, store, document(**changes))
    with closing(LocalFleet(Worker().run)) as fleet:
        attend(store, fleet, search_id)
    outcomes = store.outcomes(search_id, 0, 1000)
    assert all(isinstance(outcome, Scored) for outcome in outcomes)
    return store.candidates(search_id)


def changes_of(home: Path) -> dict[str, dict[str, np.ndarray]]:
    models = {n: load_file(home / "models" / f / "model.safetensors") for n, f in FOLDERS.items()}
    return {
        name: {tensor: models[name][tensor] - models["base"][tensor] for tensor in models["base"]}
        for name in ("one", "two")
    }


def test_the_norm_is_that_of_the_merged_change(home: Path, store: Store) -> None:
    space = {"parameters": {"weight": {"norm": {"low": 0.25, "high": 1.25}}}}
    entries = searched(home, store, space=space, budget={"evaluations": 12, "parallel": 4})
    changes = changes_of(home)
    norms = {
        name: np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in change.values()))
        for name, change in changes.items()
    }
    sampled = [e.candidate for e in entries if e.candidate.origin.move == "sample"]
    assert sampled
    for candidate in sampled:
        (one, two) = candidate.recipe.at(0)["weight"]  # type: ignore[misc]  # a weight per parent
        merged = [one * changes["one"][t] + two * changes["two"][t] for t in changes["one"]]
        length = np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in merged))
        assert candidate.genome is not None
        wanted = 0.25 + candidate.genome[0]
        assert length == pytest.approx(wanted * np.mean(list(norms.values())), rel=1e-4)


def test_gradients_and_optional_parents_are_ordinary_recipes(home: Path, store: Store) -> None:
    parents = [{"name": "one", "path": "p0"}, {"name": "two", "path": "p1", "optional": True}]
    weight = {"low": 0.0, "high": 1.0, "gradient": 2}
    entries = searched(
        home,
        store,
        parents=parents,
        space={"parameters": {"weight": weight, "lines_beta": {"low": 0.0, "high": 1.0}}},
        budget={"evaluations": 14, "parallel": 4},
    )
    recipes = [e.candidate.recipe for e in entries if e.candidate.origin.move == "sample"]
    assert {recipe.parents for recipe in recipes} == {("one",), ("one", "two")}
    (search,) = store.searches()
    assert search.submission.facts["genes"] == 1 + 1 + 2 * 2
    for recipe in recipes:
        weights = [recipe.at(block)["weight"] for block in range(len(recipe.blocks))]
        assert len(recipe.blocks) > 2
        assert weights[0] != weights[-1]
        assert mergekit_yaml(recipe, search.submission.layout, FOLDERS) is not None
