"""The niche archive against the authors' code and against loops written from the paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from safetensors.numpy import load_file

from search.archives.niches import NicheArchive

ORACLES = Path(__file__).parents[2] / "oracles"

Matrix = NDArray[np.float64]
RIGHT_OR_WRONG = arrays(
    np.float64,
    st.tuples(st.integers(2, 7), st.integers(1, 12)),
    elements=st.sampled_from([0.0, 1.0]),
)
GRADED = arrays(
    np.float64,
    st.tuples(st.integers(2, 7), st.integers(1, 12)),
    elements=st.floats(-4, 4, width=16),
)


def filled(
    scores: Matrix, *, capacity: int = 100, alpha: float = 1.0, matchmaker: bool = True
) -> NicheArchive[int]:
    archive: NicheArchive[int] = NicheArchive(capacity, alpha=alpha, matchmaker=matchmaker)
    for index, row in enumerate(scores):
        archive.add(index, [row])
    return archive


def authors() -> tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.generic]]]:
    """Inputs and outputs of natural_niches (commit 3b90342), alpha = 0."""
    expected = load_file(ORACLES / "expected" / "m2n2_niche_alpha0.0.safetensors")
    return load_file(ORACLES / "inputs" / "3df5df5f0816.safetensors"), expected


def test_it_agrees_with_the_authors_code() -> None:
    """sample_parents and update_archive."""
    given_, expected = authors()
    archive = filled(given_["scores"], capacity=len(given_["scores"]), alpha=0.0)
    fitness = archive.fitness()
    np.testing.assert_allclose(fitness, expected["fitness"], rtol=1e-5)
    first = fitness / fitness.sum()
    np.testing.assert_allclose(first, expected["p_first"], rtol=1e-5)
    pairs = np.stack([p * archive.mates(a) for a, p in enumerate(first)])
    np.testing.assert_allclose(pairs, expected["p_pair"], rtol=1e-5, atol=1e-6)

    archive.add(len(given_["scores"]), [given_["new_score"]])
    candidates = np.vstack((given_["archive"], given_["new_param"]))
    kept = candidates[sorted(archive.members)]
    assert {row.tobytes() for row in kept} == {row.tobytes() for row in expected["archive_after"]}


def test_draws_follow_the_law_of_the_authors_code() -> None:
    """Within 5 sigma of the reference, which was itself sampled 4000 times."""
    given_, expected = authors()
    archive = filled(given_["scores"], alpha=0.0)
    rng, count = np.random.default_rng(0), np.zeros((6, 6))
    for _ in range(4000):
        count[archive.draw(rng)] += 1
    law = expected["p_pair"].astype(np.float64)
    tolerance = 5 * np.sqrt(law * (1 - law) / 4000) + 1e-9
    assert (np.abs(count / 4000 - law) <= tolerance).all()


@given(RIGHT_OR_WRONG, st.floats(0, 3))
def test_right_or_wrong_examples_are_shared_by_their_solvers(scores: Matrix, alpha: float) -> None:
    fitness = np.zeros(len(scores))
    for column in scores.T:
        load = sum(column) or 1.0
        fitness += column / load**alpha
    np.testing.assert_allclose(filled(scores, alpha=alpha).fitness(), fitness, atol=1e-9)


@given(GRADED, st.floats(0, 3))
def test_graded_examples_count_from_the_worst_and_hold_what_the_best_gets(
    scores: Matrix, alpha: float
) -> None:
    if np.isin(scores, (0.0, 1.0)).all():
        return
    gaps = [[x - min(column) for x in column] for column in scores.T]
    unit = max(1.0, max(max(column) for column in gaps))
    fitness = np.zeros(len(scores))
    for column in gaps:
        gains = [x / unit for x in column]
        for i, gain in enumerate(gains):
            fitness[i] += max(gains) * gain / (sum(gains) or 1.0) ** alpha
    np.testing.assert_allclose(filled(scores, alpha=alpha).fitness(), fitness, atol=1e-9)


@given(RIGHT_OR_WRONG | GRADED, st.integers(1, 4))
def test_the_worst_of_archive_and_child_leaves_the_first_of_several(
    scores: Matrix, capacity: int
) -> None:
    archive, rows = filled(scores, capacity=capacity), []
    for index, row in enumerate(scores):
        rows.append((index, row))
        if len(rows) > capacity:
            fitness = filled(np.stack([row for _, row in rows])).fitness()
            del rows[int(np.argmin(fitness))]
    assert archive.members == [index for index, _ in rows]


@given(RIGHT_OR_WRONG | GRADED)
def test_nobody_mates_with_itself(scores: Matrix) -> None:
    archive = filled(scores)
    for first in range(len(scores)):
        mates = archive.mates(first)
        assert mates[first] == 0
        assert mates.min() >= 0
        assert mates.sum() == pytest.approx(1)


def test_where_nobody_is_better_at_anything_fitness_decides() -> None:
    archive = filled(np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), alpha=0.0)
    np.testing.assert_allclose(archive.mates(0), [0, 2 / 3, 1 / 3])


@given(RIGHT_OR_WRONG | GRADED, st.floats(0, 3))
def test_attraction_is_what_a_mate_gets_more_of_each_example(scores: Matrix, alpha: float) -> None:
    """Equation 4, element by element; shares as in the two tests above."""
    right_or_wrong = np.isin(scores, (0.0, 1.0)).all()
    gains = scores if right_or_wrong else scores - scores.min(axis=0)
    gains = gains / max(1.0, gains.max())
    held = np.ones(len(scores.T)) if right_or_wrong else gains.max(axis=0)
    shares = np.zeros_like(gains)
    for j, column in enumerate(gains.T):
        shares[:, j] = held[j] * column / (column.sum() or 1.0) ** alpha
    archive = filled(scores, alpha=alpha)
    for first in range(len(scores)):
        pull = np.array([sum(max(gap, 0) for gap in mine - shares[first]) for mine in shares])
        if pull.sum() > 1e-12:
            np.testing.assert_allclose(archive.mates(first), pull / pull.sum(), atol=1e-9)


def test_without_matchmaker_mates_are_drawn_by_fitness() -> None:
    scores = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    archive = filled(scores, matchmaker=False)
    np.testing.assert_allclose(archive.fitness(), [1.5, 0.5, 1.0])
    np.testing.assert_allclose(archive.mates(0), [0, 1 / 3, 2 / 3])


def test_identical_members_do_not_attract_each_other() -> None:
    archive = filled(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(archive.mates(0), [0, 0, 1])


def test_a_single_member_mates_with_itself() -> None:
    assert filled(np.ones((1, 3))).draw(np.random.default_rng(0)) == (0, 0)


def test_a_child_that_ties_with_the_worst_replaces_it() -> None:
    archive = filled(np.array([[1.0, 0.0], [0.0, 1.0]]), capacity=2)
    assert archive.add(2, [np.array([0.0, 1.0])])
    assert archive.members == [0, 2]


def test_a_worse_child_does_not_stay() -> None:
    archive = filled(np.array([[1.0, 0.0], [0.0, 1.0]]), capacity=2)
    assert not archive.add(2, [np.zeros(2)])
    assert archive.members == [0, 1]


def missing(capacity: int, *violations: float) -> NicheArchive[int]:
    """Members 0, 1 ... that violate constraints so much; those that violate more are fitter."""
    archive: NicheArchive[int] = NicheArchive(capacity, violation=lambda n: violations[n])
    for n, violation in enumerate(violations[:capacity]):
        archive.add(n, [np.arange(4) < 1 + 3 * (violation > 0)])
    return archive


def test_whoever_violates_constraints_most_leaves_first() -> None:
    archive = missing(3, 0.0, 0.2, 0.1, 0.0)
    assert archive.add(3, [np.zeros(4)])
    assert archive.members == [0, 2, 3]


def test_a_child_that_violates_constraints_most_does_not_stay() -> None:
    archive = missing(2, 0.0, 0.0, 0.1)
    assert not archive.add(2, [np.ones(4)])


def test_first_parents_hold_constraints_and_mates_need_not() -> None:
    archive = missing(3, 0.0, 0.2, 0.1)
    drawn = [archive.draw(np.random.default_rng(n)) for n in range(20)]
    assert {first for first, _ in drawn} == {0}
    assert {mate for _, mate in drawn} == {1, 2}


def test_where_nobody_holds_constraints_first_parents_miss_them_least() -> None:
    archive = missing(3, 0.3, 0.1, 0.2)
    assert {archive.draw(np.random.default_rng(n))[0] for n in range(20)} == {1}


def test_objectives_weigh_what_they_weigh_whatever_their_size_and_unit() -> None:
    """100 right-or-wrong examples against 10 graded in the hundreds, at weights 1 and 3."""
    archive: NicheArchive[str] = NicheArchive(4, weights=(1.0, 3.0))
    archive.add("right", [np.ones(100), np.zeros(10)])
    archive.add("graded", [np.zeros(100), np.full(10, 700.0)])
    right, graded = archive.fitness()
    assert graded == pytest.approx(3 * right)
