"""M2N2 on tables and on genomes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.layout import Segments
from search.lineage import Lineage
from search.optimizer import optimizers
from search.outcome import Candidate, Infeasible, Outcome, Score, Scored
from search.run import STATUS, opening
from tests.search.optimizers.analytic import Setup, outcome, search

LINEAR = Setup("m2n2", method="linear", blocks=4, objectives=1)


def patchwork(setup: Setup, candidate: Candidate) -> Outcome:
    """Every cell is an example; it is solved where one certain parent, a third each, prevails."""
    lineage = Lineage(setup.geometry, setup.space.parents)
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


def crossings(setup: Setup, evaluations: int = 60) -> list[Candidate]:
    """The children of a search, and what is made of the parents during its warm-up."""
    candidates = search(setup, evaluations).candidates
    found = [c for c in candidates if c.origin.move == "crossover"]
    assert len(found) > 30
    return found


def cuts(candidate: Candidate) -> set[int]:
    """Where segments of a recipe meet."""
    partition = candidate.recipe.partition
    return set(partition.boundaries[1:-1]) if isinstance(partition, Segments) else set()


@pytest.mark.parametrize(
    ("split_at", "partition", "elements"),
    [("tensor", "model", 8), ("block", {"layers": 2}, 16), ("element", "model", 2)],
)
def test_models_are_split_between_tensors_or_blocks_or_anywhere_on_the_grid(
    split_at: str, partition: Any, elements: int
) -> None:
    """Six layers of 8 elements each, on a grid of 2."""
    options = {"split_at": split_at}
    setup = replace(LINEAR, blocks=6, partition=partition, options=options)
    found = set().union(*map(cuts, crossings(setup, 120)))
    assert found == set(range(elements, 48, elements))


def test_attention_and_mlp_can_be_crossed_apart() -> None:
    """In the first child, which is of two of the parents, they have mixtures of their own."""
    setup = replace(
        LINEAR,
        blocks=8,
        tensors=("mlp.w", "attn.w"),
        options={"chromosomes": ["attention", "mlp"], "split_at": "tensor"},
    )
    for child in crossings(setup):
        assert set(child.origin.detail) - {STATUS} == {
            f"{name} {what}" for name in ("attention", "mlp") for what in ("split", "ratio")
        }
    lineage = Lineage(setup.geometry, setup.space.parents)
    first = lineage.table(crossings(setup)[0].recipe)
    assert first is not None
    tensors = first[::4]
    assert len(np.unique(tensors[::2], axis=0)) <= 2
    assert len(np.unique(tensors[1::2], axis=0)) <= 2
    assert not set(map(tuple, tensors[::2])) & set(map(tuple, tensors[1::2]))


def test_genes_of_attention_and_mlp_can_be_crossed_apart() -> None:
    setup = Setup(
        "m2n2",
        blocks=8,
        objectives=1,
        tensors=("mlp.w", "attn.w"),
        options={"chromosomes": ["attention"], "split_points": 0, "mutation": 0.0},
    )
    candidates = search(setup, 60).candidates
    for child in (c for c in candidates if c.origin.move == "crossover"):
        x, y = (np.array(candidates[i].genome).reshape(8, 3) for i in child.origin.parents)
        genome = np.array(child.genome).reshape(8, 3)
        for name, mine in (("rest", slice(0, None, 2)), ("attention", slice(1, None, 2))):
            ratio = float(child.origin.detail[f"{name} ratio"])
            np.testing.assert_allclose(genome[mine], (1 - ratio) * x[mine] + ratio * y[mine])


def test_several_split_points_and_none() -> None:
    several = crossings(replace(LINEAR, options={"split_points": 3}))
    assert max(len(cuts(child)) for child in several[:5]) == 3
    none = crossings(replace(LINEAR, options={"split_points": 0}))
    assert all(not cuts(child) for child in none)


def test_the_warm_up_merges_the_parents_whatever_their_scores() -> None:
    """The opening takes five: base, three parents, their average."""
    setup = replace(LINEAR, options={"warm_up": 25})
    origins = [c.origin.parents for c in search(setup, 60).candidates]
    own = len(opening(setup.space))
    assert all(set(parents) <= {1, 2, 3} for parents in origins[own : own + 25])
    assert any(not set(parents) <= {1, 2, 3} for parents in origins[own + 25 :])


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.0},
        {"matchmaker": False},
        {"split_points": 0},
        {"split_at": "tensor"},
        {"chromosomes": ["attention"]},
        {"angle": "segment"},
        {"warm_up": 30},
        {"segments": 3},
        {"population": 3},
    ],
    ids=str,
)
def test_every_option_makes_a_difference(options: dict[str, Any]) -> None:
    setup = replace(LINEAR, tensors=("mlp.w", "attn.w"))
    with_option, without = (
        search(s, 60).candidates for s in (replace(setup, options=options), setup)
    )
    assert [c.recipe for c in with_option] != [c.recipe for c in without]


EVERYTHING = {
    "split_points": 3,
    "split_at": "block",
    "chromosomes": ["attention", "mlp"],
    "angle": "segment",
    "matchmaker": False,
}


@pytest.mark.parametrize("split_at", ["tensor", "block", "element"])
@pytest.mark.parametrize("chromosomes", [[], ["attention"], ["norm", "attention", "mlp"]])
@pytest.mark.parametrize("angle", ["whole", "segment"])
def test_every_combination_makes_whole_models(
    split_at: str, chromosomes: list[str], angle: str
) -> None:
    """Blocks of modules are no neighbours: each is in pieces all over the model."""
    setup = replace(
        LINEAR,
        blocks=12,
        tensors=("mlp.w", "attn.w", "norm.w"),
        partition={"layers": 6, "modules": ["attention", "mlp"]},
        options={**EVERYTHING, "split_at": split_at, "chromosomes": chromosomes, "angle": angle},
    )
    lineage = Lineage(setup.geometry, setup.space.parents)
    for child in crossings(setup):
        table = lineage.table(child.recipe)
        assert table is not None
        assert np.isfinite(table).all()
        assert (np.abs(table).sum(axis=1) > 0).all()


def test_with_every_option_a_replay_gives_the_same_candidates() -> None:
    setup = replace(LINEAR, blocks=8, tensors=("mlp.w", "attn.w"), parallel=4, options=EVERYTHING)
    outcomes = search(setup, 60).outcomes
    run = setup.run()
    for told in outcomes[: run.needed(59)]:
        run.absorb(told)
    waiting = [told.candidate for told in outcomes[run.absorbed : 59]]
    assert run.propose(59, waiting) == run.propose(59, waiting) == outcomes[59].candidate


@pytest.mark.parametrize("parallel", [1, 8])
def test_nothing_is_evaluated_twice(parallel: int) -> None:
    """27 models in all, of which the opening has some; nor what is being tried."""
    searched = {"choices": [0.0, 0.5, 1.0]}
    options = {"mutation": 0.2, "warm_up": 5}
    setup = Setup(
        "m2n2", blocks=1, objectives=1, parallel=parallel, searched=searched, options=options
    )
    candidates = search(setup, 27).candidates
    own = len(opening(setup.space))
    digests = [c.genome and setup.space.decode(c.genome).digest for c in candidates]
    assert len(set(digests[own:])) == len(digests[own:]) == 27 - own
    assert not set(digests[:own]) & set(digests[own:])
    assert sum(c.origin.move == "crossover" for c in candidates) > 10


def test_a_population_of_one_kind_is_left_for_the_parents() -> None:
    """Only one model can be scored, so the archive holds it alone, and then its equals."""
    setup = replace(LINEAR, options={"population": 2, "warm_up": 0, "split_points": 0})

    def judge(candidate: Candidate) -> Outcome:
        if candidate.ordinal in (1, 2):
            return outcome(candidate, np.ones(1))
        return Infeasible(candidate, "as the test has it")

    candidates = search(setup, 40, judge).candidates
    assert len({c.recipe.digest for c in candidates}) == 40


def test_linear_merging_without_geometry_is_refused() -> None:
    entry = optimizers["m2n2"]
    with pytest.raises(ValueError, match="geometry"):
        entry(replace(LINEAR.task(), geometry=None), entry.options())


def test_one_parent_is_refused() -> None:
    entry, setup = optimizers["m2n2"], Setup("m2n2", parents=1)
    assert "at least two" in entry.problems(setup.spec, 3, entry.options())["parents"]


def test_its_status_says_how_mates_are_found() -> None:
    statuses = {
        matchmaker: str(candidates[-1].origin.detail[STATUS])
        for matchmaker in (True, False)
        for candidates in [crossings(replace(LINEAR, options={"matchmaker": matchmaker}))]
    }
    assert "right where they err" in statuses[True]
    assert "fit" in statuses[False]


def test_an_angle_of_genomes_is_refused() -> None:
    entry, setup = optimizers["m2n2"], Setup("m2n2")
    found = entry.problems(setup.spec, 3, entry.options(angle="segment"))
    assert "task_arithmetic" in found["optimizer.angle"]
    assert not entry.problems(LINEAR.spec, 3, entry.options(angle="segment"))


def test_splits_between_the_blocks_of_one_block_are_refused() -> None:
    entry, setup = optimizers["m2n2"], replace(LINEAR, partition="model")
    found = entry.problems(setup.spec, 3, entry.options(split_at="block"))
    assert "space.blocks" in found["optimizer.split_at"]
    assert not entry.problems(LINEAR.spec, 3, entry.options(split_at="block"))


def test_genomes_are_cut_between_blocks() -> None:
    """Without noise, on each side of a cut a child is one and the same mixture of its parents."""
    setup = Setup("m2n2", blocks=5, objectives=1, options={"mutation": 0.0, "split_at": "block"})
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
