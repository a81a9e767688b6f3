"""Coefficient tables stand for the vectors that they are made of."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from search.crossover import Angle, Chromosomes, Crossing
from search.geometry import Geometry
from search.layout import Segments
from search.lineage import Lineage, Table
from search.recipe import Recipe, mixture

ORACLES = Path(__file__).parents[1] / "oracles"
Vectors = NDArray[np.float64]


def geometry(models: Vectors, boundaries: tuple[int, ...]) -> Geometry:
    """Measured the plain way: the Gram matrix of every cell."""
    cells = [models[:, start:stop] for start, stop in pairwise(boundaries)]
    return Geometry(np.array(boundaries), np.stack([cell @ cell.T for cell in cells]))


def materialized(lineage: Lineage, table: Table, models: Vectors) -> NDArray[np.float64]:
    """The vector that a table stands for."""
    per_element = np.repeat(table, np.diff(lineage.boundaries), axis=0)
    return np.asarray((per_element.T * models).sum(axis=0))


def halves(cells: int, split: int, ratio: float, angle: Angle = "whole") -> Crossing:
    """One split point: the ratio before a cell, one minus the ratio from there on."""
    segment = (np.arange(cells) >= split).astype(np.intp)
    return Crossing(segment, (ratio, 1 - ratio), (0, 0) if angle == "whole" else (0, 1), {})


def crossed(
    x: NDArray[np.float64], y: NDArray[np.float64], split: int, ratio: float
) -> NDArray[np.float64]:
    """The crossover on explicit vectors, written from methods' formula."""
    cosine = x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
    omega = np.arccos(np.clip(cosine, -1, 1))

    def slerp(t: float) -> NDArray[np.float64]:
        if np.sin(omega) <= 1e-6:
            return np.asarray((1 - t) * x + t * y)
        return np.asarray((np.sin((1 - t) * omega) * x + np.sin(t * omega) * y) / np.sin(omega))

    return np.concatenate((slerp(ratio)[:split], slerp(1 - ratio)[split:]))


@pytest.mark.parametrize(("ratio", "split"), [(0.25, 100), (0.8, 0), (0.6, 299)])
def test_crossover_agrees_with_the_authors_code(ratio: float, split: int) -> None:
    """natural_niches, slerp_w_splitpoint; see tests/oracles."""
    given_ = load_file(ORACLES / "inputs" / "6a007ef5c85b.safetensors")
    name = f"m2n2_crossover_v{ratio}_s{split}.safetensors"
    expected = load_file(ORACLES / "expected" / name)["child"]
    models = np.stack((np.zeros(300), given_["x"], given_["y"])).astype(np.float64)
    lineage = Lineage(geometry(models, tuple(range(301))), ("x", "y"))
    crossing = halves(300, split, ratio)
    child = lineage.crossover(lineage.founder(0), lineage.founder(1), crossing)
    np.testing.assert_allclose(materialized(lineage, child, models), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("near", [False, True])
def test_300_generations_equal_vector_arithmetic(near: bool) -> None:
    """In float64, each child from two of a population of 20; recipes carry the tables unharmed.

    ``near`` are fine-tuned models as they are: a shared base and deltas of a tenth of its norm.
    """
    rng = np.random.default_rng(5)
    models = rng.standard_normal((4, 900))
    if near:
        models[1:] = models[0] + 0.1 * models[1:]
    boundaries = (0, *sorted(rng.choice(np.arange(1, 900), size=99, replace=False).tolist()), 900)
    lineage = Lineage(geometry(models, boundaries), ("a", "b", "c"))
    tables = [lineage.founder(i) for i in range(3)]
    vectors = [models[i + 1] for i in range(3)]
    worst = 0.0
    for _ in range(300):
        i, j = rng.choice(len(tables), size=2, replace=False)
        split, ratio = int(rng.integers(lineage.cells)), float(rng.random())
        child = lineage.crossover(tables[i], tables[j], halves(100, split, ratio))
        back = lineage.table(lineage.recipe(child))
        assert back is not None
        assert (back == child).all()
        vector = crossed(vectors[i], vectors[j], lineage.boundaries[split], ratio)
        error = np.linalg.norm(materialized(lineage, child, models) - vector)
        worst = max(worst, float(error / np.linalg.norm(vector)))
        tables, vectors = [*tables, child][-20:], [*vectors, vector][-20:]
    assert worst < 1e-12


@pytest.mark.parametrize("angle", ["whole", "segment"])
def test_chromosomes_and_several_splits_equal_vector_arithmetic(angle: Angle) -> None:
    """As above, with an angle of their own for the elements of every span."""
    rng = np.random.default_rng(6)
    models = rng.standard_normal((3, 400))
    lineage = Lineage(geometry(models, tuple(range(0, 401, 8))), ("a", "b"))
    names = ["attention" if cell % 7 < 3 else "rest" for cell in range(50)]
    chromosomes = Chromosomes.of(names, np.arange(50), np.full(50, 8.0), most=50)
    tables, vectors = [lineage.founder(0), lineage.founder(1)], [models[1], models[2]]
    worst = 0.0
    for _ in range(100):
        i, j = rng.choice(len(tables), size=2, replace=False)
        crossing = chromosomes.cross(rng, split_points=2, angle=angle)
        child = lineage.crossover(tables[i], tables[j], crossing)
        segment = np.repeat(crossing.segment, 8)
        span = np.array(crossing.spans)[segment]
        vector = np.zeros(400)
        for number, ratio in enumerate(crossing.ratios):
            along, mine = span == crossing.spans[number], segment == number
            ends = np.where(along, vectors[i], 0), np.where(along, vectors[j], 0)
            vector += np.where(mine, crossed(*ends, 400, ratio) if mine.any() else 0, 0)
        worst = max(worst, float(np.abs(materialized(lineage, child, models) - vector).max()))
        tables, vectors = [*tables, child][-10:], [*vectors, vector][-10:]
    assert worst < 1e-11


def test_an_angle_for_each_side_is_the_other_reading_of_the_formula() -> None:
    """The child of explicit vectors, side by side; with one angle for both it is another."""
    rng = np.random.default_rng(5)
    models = rng.standard_normal((3, 40))
    lineage = Lineage(geometry(models, tuple(range(41))), ("x", "y"))
    _, x, y = models
    a, b = lineage.founder(0), lineage.founder(1)
    expected = np.concatenate((crossed(x[:9], y[:9], 9, 0.3), crossed(x[9:], y[9:], 0, 0.3)))
    child = lineage.crossover(a, b, halves(40, 9, 0.3, "segment"))
    np.testing.assert_allclose(materialized(lineage, child, models), expected, rtol=1e-12)
    whole = materialized(lineage, lineage.crossover(a, b, halves(40, 9, 0.3)), models)
    assert np.abs(whole - expected).max() > 1e-3


def test_where_parents_are_the_same_the_child_is_no_further_segment() -> None:
    """Ratios of both sides add up to one, and the sums differ by rounding."""
    lineage = small()
    table = lineage.founder(0)
    table[:] = (0.0, 0.1, 0.7)
    for ratio in np.random.default_rng(0).random(50).tolist():
        child = lineage.crossover(table, table.copy(), halves(lineage.cells, 2, ratio))
        assert len(lineage.recipe(child).blocks) == 1
        np.testing.assert_allclose(child, table, rtol=1e-14)


def small() -> Lineage:
    models = np.random.default_rng(0).standard_normal((3, 10))
    return Lineage(geometry(models, (0, 2, 4, 6, 8, 10)), ("a", "b"))


def test_equal_neighbours_are_one_segment() -> None:
    lineage = small()
    table = lineage.founder(0)
    table[3:] = (0.0, 0.25, 0.75)
    assert lineage.recipe(table) == Recipe(
        method="linear",
        parents=("a", "b"),
        partition=Segments(boundaries=(0, 6, 10)),
        blocks=("0:6", "6:10"),
        parameters={"weight": ((1.0, 0.0), (0.25, 0.75)), "normalize": False},
    )


def test_the_base_takes_part_where_it_has_a_coefficient() -> None:
    lineage = small()
    table = lineage.founder(1)
    table[0] = (0.5, 0.0, 0.5)
    recipe = lineage.recipe(table)
    assert recipe.parents == ("base", "a", "b")
    assert recipe.parameters["weight"] == ((0.5, 0.0, 0.5), (0.0, 0.0, 1.0))


@pytest.mark.parametrize(
    ("recipe", "row"),
    [
        (mixture(("base",), (1.0,)), (1.0, 0.0, 0.0)),
        (mixture(("a", "b"), (0.0, 1.0)), (0.0, 0.0, 1.0)),
        (mixture(("b", "a"), (0.2, 0.8)), (0.0, 0.8, 0.2)),
    ],
)
def test_the_opening_is_read_as_tables(recipe: Recipe, row: tuple[float, ...]) -> None:
    table = small().table(recipe)
    assert table is not None
    assert (table == row).all()


def test_normalized_weights_are_read_as_what_they_do() -> None:
    recipe = Recipe(
        method="linear", parents=("a", "b"), parameters={"weight": ((1.0, 3.0),), "normalize": True}
    )
    table = small().table(recipe)
    assert table is not None
    assert (table == (0.0, 0.25, 0.75)).all()


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(method="ties", parents=("a", "b"), parameters={"weight": ((1.0, 3.0),)}),
        Recipe(
            method="linear",
            parents=("a", "b"),
            partition=Segments(boundaries=(0, 3, 10)),
            blocks=("0:3", "3:10"),
            parameters={"weight": ((1.0, 0.0), (0.0, 1.0))},
        ),
        Recipe(
            method="linear",
            parents=("a", "b"),
            partition="tensor",
            blocks=("t", "u"),
            parameters={"weight": ((1.0, 0.0), (0.0, 1.0))},
        ),
    ],
)
def test_what_is_not_made_of_cells_has_no_table(recipe: Recipe) -> None:
    assert small().table(recipe) is None


def test_a_geometry_of_other_models_is_refused() -> None:
    gram = geometry(np.ones((3, 4)), (0, 2, 4))
    with pytest.raises(ValueError, match="of 2 parents, not of 3"):
        Lineage(gram, ("a", "b", "c"))


def test_models_without_length_are_mixed_on_a_line() -> None:
    lineage = Lineage(geometry(np.zeros((3, 4)), (0, 2, 4)), ("a", "b"))
    child = lineage.crossover(lineage.founder(0), lineage.founder(1), halves(2, 1, 0.25))
    np.testing.assert_array_equal(child, [[0, 0.75, 0.25], [0, 0.25, 0.75]])


def test_cells_that_are_joined_carry_the_whole_geometry() -> None:
    models = np.random.default_rng(1).standard_normal((3, 10))
    measured = geometry(models, (0, 1, 4, 6, 9, 10))
    lineage = Lineage(measured, ("a", "b"), np.array([0, 2, 3]))
    assert lineage.boundaries == (0, 4, 6, 10)
    child = lineage.crossover(lineage.founder(0), lineage.founder(1), halves(3, 1, 0.3))
    expected = crossed(models[1], models[2], 4, 0.3)
    np.testing.assert_allclose(materialized(lineage, child, models), expected, rtol=1e-12)
