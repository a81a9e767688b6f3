"""M2N2 on tables and on genomes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from search.layout import Segments
from search.lineage import Lineage
from search.optimizer import optimizers
from search.outcome import Candidate, Outcome, Score, Scored
from tests.search.optimizers.analytic import Setup, search

LINEAR = Setup("m2n2", method="linear", blocks=4, objectives=1)


def patchwork(setup: Setup, candidate: Candidate) -> Outcome:
    """Every cell is an example; it is solved where one certain parent, a third each, prevails."""
    lineage = Lineage(setup.geometry, setup.space.parents, cells=1000)
    table = lineage.table(candidate.recipe)
    assert table is not None
    wanted = np.arange(lineage.cells) * 3 // lineage.cells
    solved = table[np.arange(lineage.cells), 1 + wanted] > 0.7
    score = Score(float(solved.mean()), 0.1, lineage.cells, solved.astype(np.float32))
    return Scored(candidate, {"t0/acc": score})


def best(setup: Setup, evaluations: int) -> float:
    seen = search(setup, evaluations, lambda candidate: patchwork(setup, candidate))
    return float(seen.points().max())


def test_it_assembles_what_single_merges_of_the_parents_cannot() -> None:
    """Untold (everything in flight) it merges parents at random; that is the control."""
    evolved = [best(replace(LINEAR, seed=seed), 150) for seed in range(3)]
    random = [best(replace(LINEAR, seed=seed, parallel=1000), 150) for seed in range(3)]
    assert np.mean(evolved) > np.mean(random) + 0.1


def test_parents_are_merged_while_the_opening_is_on_its_way() -> None:
    child = search(replace(LINEAR, parallel=8), 7).candidates[6]
    assert child.origin.move == "crossover"
    first, second = child.origin.parents
    assert first != second
    assert {first, second} <= {1, 2, 3}


def test_origins_name_two_different_candidates() -> None:
    for setup in (LINEAR, Setup("m2n2", objectives=1)):
        candidates = search(setup, 80).candidates
        crossed = [c for c in candidates if c.origin.move == "crossover"]
        assert len(crossed) > 50
        for candidate in crossed:
            first, second = candidate.origin.parents
            assert first != second
            assert max(first, second) < candidate.ordinal


def test_no_recipe_has_more_segments_than_the_option_says() -> None:
    setup = replace(LINEAR, blocks=20, options={"segments": 6})
    counts = [
        len(candidate.recipe.blocks)
        for candidate in search(setup, 200).candidates
        if isinstance(candidate.recipe.partition, Segments)
    ]
    assert max(counts) == 6


def test_weights_of_an_interpolation_stay_between_the_parents() -> None:
    """Nothing is subtracted from a model, and nothing counts much more than once."""
    for candidate in search(LINEAR, 100).candidates:
        weights = np.array(candidate.recipe.parameters["weight"])
        assert weights.min() >= 0
        assert weights.max() < 1.5


def test_linear_merging_without_geometry_is_refused() -> None:
    entry = optimizers["m2n2"]
    with pytest.raises(ValueError, match="geometry"):
        entry(replace(LINEAR.task(), geometry=None), entry.options())


def test_one_parent_is_refused() -> None:
    entry, setup = optimizers["m2n2"], Setup("m2n2", parents=1)
    assert "at least two" in entry.problems(setup.spec, 3, entry.options())["parents"]


def test_genomes_are_cut_between_blocks() -> None:
    """Without noise, on each side of a cut a child is one and the same mixture of its parents."""
    setup = Setup("m2n2", blocks=5, objectives=1, options={"mutation": 0.0})
    candidates = search(setup, 60).candidates
    crossed = [c for c in candidates if c.origin.move == "crossover"]
    assert len(crossed) > 30
    for child in crossed:
        x, y = (np.array(candidates[i].genome) for i in child.origin.parents)
        split = round(float(child.origin.detail["split"]) * 15)
        ratio = float(child.origin.detail["ratio"])
        assert split % 3 == 0
        ratios = np.where(np.arange(15) < split, ratio, 1 - ratio)
        np.testing.assert_allclose(child.genome, (1 - ratios) * x + ratios * y, atol=1e-12)
