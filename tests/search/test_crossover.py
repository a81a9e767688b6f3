"""Where chromosomes are split, and what a child takes of each side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.crossover import Angle, Chromosomes, Crossing, alternating, draw_splits, slerp_weights

# A model of eight pieces: two layers of attention, MLP and the rest, between embedding and head.
NAMES = ["rest", "attention", "mlp", "rest", "attention", "mlp", "rest", "rest"]
TENSORS = np.arange(8)
SIZES = np.array([4.0, 1, 2, 1, 1, 2, 1, 4])


def crossing(
    chromosomes: Chromosomes, seed: int = 0, split_points: int = 1, angle: Angle = "whole"
) -> Crossing:
    return chromosomes.cross(np.random.default_rng(seed), split_points=split_points, angle=angle)


def one(most: int = 100) -> Chromosomes:
    return Chromosomes.of(["rest"] * 8, TENSORS, SIZES, most=most)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("angle", [0.4, 1.5, 3.0])
def test_slerp_turns_by_its_share_of_the_angle(angle: float, ratio: float) -> None:
    """On the unit circle it is a rotation."""
    first, second = slerp_weights(1.0, np.cos(angle), 1.0, ratio=ratio)
    x, y = np.array([1.0, 0.0]), np.array([np.cos(angle), np.sin(angle)])
    turned = [np.cos(ratio * angle), np.sin(ratio * angle)]
    np.testing.assert_allclose(first * x + second * y, turned, atol=1e-12)


@pytest.mark.parametrize(
    ("xx", "xy", "yy"), [(1.0, 2.0, 4.0), (1.0, -2.0, 4.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)]
)
def test_parallel_opposite_and_empty_models_are_mixed_on_a_line(
    xx: float, xy: float, yy: float
) -> None:
    assert slerp_weights(xx, xy, yy, ratio=0.25) == (0.75, 0.25)


def test_a_single_split_point_is_anywhere_with_the_same_probability() -> None:
    """The start included, as in the authors' code: everything is then behind it."""
    rng = np.random.default_rng(0)
    count = np.bincount([draw_splits(rng, 5, 1)[0] for _ in range(5000)])
    assert (np.abs(count - 1000) < 150).all()


@given(st.integers(1, 20), st.integers(0, 30))
def test_split_points_are_different_and_in_order(places: int, count: int) -> None:
    splits = draw_splits(np.random.default_rng(0), places, count)
    assert splits == sorted(set(splits))
    assert len(splits) == min(places, count)
    assert all(0 <= split < places for split in splits)


def test_ratios_take_turns() -> None:
    assert alternating(0.25, 3) == [0.25, 0.75, 0.25]


def test_before_the_split_it_is_the_ratio_and_behind_it_one_minus_the_ratio() -> None:
    for seed in range(20):
        drawn = crossing(one(), seed)
        split, ratio = drawn.detail["split"], drawn.detail["ratio"]
        before = np.append(0, SIZES.cumsum()[:-1]) / SIZES.sum() < split
        np.testing.assert_array_equal(drawn.interpolation(), np.where(before, ratio, 1 - ratio))


def test_without_split_point_all_is_mixed_alike() -> None:
    drawn = crossing(one(), split_points=0)
    assert set(drawn.interpolation()) == {drawn.detail["ratio"]}
    assert set(drawn.detail) == {"ratio"}


def test_several_split_points_are_told_by_number() -> None:
    drawn = crossing(one(), split_points=3)
    assert list(drawn.detail) == ["split 1", "split 2", "split 3", "ratio"]
    assert (np.diff(drawn.segment) <= 1).all()
    assert len(drawn.ratios) == 4


def test_pieces_of_one_unit_are_never_split() -> None:
    """Pieces of a block need not be neighbours; its place is where its number is."""
    units = np.array([0, 1, 2, 2, 1, 2, 3, 3])
    chromosomes = Chromosomes.of(["rest"] * 8, units, SIZES, most=100)
    found = set()
    for seed in range(40):
        ratios = crossing(chromosomes, seed).interpolation()
        assert all(len(set(ratios[units == unit])) == 1 for unit in range(4))
        found.add(len(set(ratios)))
    assert found == {1, 2}


def test_chromosomes_have_split_points_ratios_and_angles_of_their_own() -> None:
    chromosomes = Chromosomes.of(NAMES, TENSORS, SIZES, most=100)
    drawn = crossing(chromosomes)
    assert len(drawn.ratios) == 6
    assert len({drawn.detail[f"{name} ratio"] for name in ("rest", "attention", "mlp")}) == 3
    assert drawn.spans == (0, 0, 2, 2, 4, 4)
    names = np.array(NAMES)
    for name in set(NAMES):
        ratio = drawn.detail[f"{name} ratio"]
        assert set(drawn.interpolation()[names == name]) <= {ratio, 1 - ratio}


def test_the_angle_is_that_of_the_span() -> None:
    """Two pieces, one orthogonal and one parallel: an angle for each, or one of 45 degrees."""
    xx, xy, yy = np.array([1.0, 1.0]), np.array([0.0, 1.0]), np.array([1.0, 1.0])
    segment, ratios = np.array([0, 1]), (0.5, 0.5)
    whole = Crossing(segment, ratios, (0, 0), {}).slerp(xx, xy, yy)
    half = np.sin(np.pi / 6) / np.sin(np.pi / 3)  # the cosine of both is 1/2
    np.testing.assert_allclose(whole, np.full((2, 2), half))
    each = Crossing(segment, ratios, (0, 1), {}).slerp(xx, xy, yy)
    np.testing.assert_allclose(each, [[np.sqrt(0.5), 0.5]] * 2)


@given(st.sets(st.integers(1, 999), max_size=60), st.integers(1, 40))
def test_places_that_are_kept_are_few_and_even(inner: set[int], most: int) -> None:
    sizes = np.diff([0, *sorted(inner), 1000]).astype(np.float64)
    chromosomes = Chromosomes.of(["rest"] * len(sizes), np.arange(len(sizes)), sizes, most=most)
    (starts,) = chromosomes.starts
    assert 1 <= len(starts) <= most
    assert starts[0] == 0
    if len(sizes) <= most:
        assert len(starts) == len(sizes)
    longest = 1000 * max(np.diff([*starts, 1.0]))
    assert longest <= 1000 / most + sizes.max() + 1


def test_pieces_that_are_never_split_are_joined() -> None:
    first, joined = one(most=3).joined()
    drawn, fine = crossing(joined), crossing(one(most=3))
    assert len(first) == 3
    np.testing.assert_array_equal(
        np.repeat(drawn.interpolation(), np.diff([*first, 8])), fine.interpolation()
    )


def test_neighbours_of_different_chromosomes_are_not_joined() -> None:
    first, _ = Chromosomes.of(NAMES, np.zeros(8, np.intp), SIZES, most=1).joined()
    assert first.tolist() == [0, 1, 2, 3, 4, 5, 6]
