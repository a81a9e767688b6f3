"""Boxes fill what a front leaves over; expected gains are those of sampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.improvement import Boxes
from search.pareto import front, hypervolume

Points = np.ndarray


@st.composite
def fronts(draw: st.DrawFn) -> Points:
    """Up to twelve points on a coarse grid, so that many coordinates are equal."""
    m = draw(st.integers(1, 4))
    row = st.lists(st.integers(1, 6), min_size=m, max_size=m)
    points = np.array(draw(st.lists(row, max_size=12)), dtype=float).reshape(-1, m)
    return np.unique(points[front(points)], axis=0)


def volume(boxes: Boxes, top: float) -> float:
    return float(np.prod(np.minimum(boxes.high, top) - boxes.low, axis=1).sum())


@given(fronts())
def test_boxes_and_dominated_volume_make_up_the_whole(points: Points) -> None:
    m = points.shape[1]
    boxes = Boxes.beyond(points, np.zeros(m))
    whole = 7.0**m
    assert volume(boxes, 7.0) == pytest.approx(whole - hypervolume(points, np.zeros(m)))


@given(fronts(), st.integers(0, 2**32 - 1))
def test_no_point_is_in_two_boxes(points: Points, seed: int) -> None:
    m = points.shape[1]
    boxes = Boxes.beyond(points, np.zeros(m))
    samples = np.random.default_rng(seed).uniform(0, 7, size=(200, m))
    inside = (samples[:, None] > boxes.low) & (samples[:, None] < boxes.high)
    count = inside.all(axis=2).sum(axis=1)
    dominated = (samples[:, None] < points).all(axis=2).any(axis=1) if len(points) else count < 0
    np.testing.assert_array_equal(count, np.where(dominated, 0, 1))


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_expected_gain_is_the_mean_gain_of_samples(m: int) -> None:
    rng = np.random.default_rng(m)
    points = rng.uniform(0.2, 0.8, size=(6, m))
    points = points[front(points)]
    mean, sd = np.full((1, m), 0.6), np.full((1, m), 0.2)
    samples = mean + sd * rng.standard_normal((20_000, m))
    have = hypervolume(points, np.zeros(m))
    gains = [hypervolume(np.vstack((points, sample)), np.zeros(m)) - have for sample in samples]
    found = Boxes.beyond(points, np.zeros(m)).expected_gain(mean, sd)[0]
    assert found == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(20_000))


def test_a_point_that_is_known_gains_what_it_adds() -> None:
    points = np.array([[1.0, 2.0], [2.0, 1.0]])
    boxes = Boxes.beyond(points, np.zeros(2))
    sure = np.full((3, 2), 1e-9)
    gain = boxes.expected_gain(np.array([[2.0, 2.0], [0.5, 0.5], [3.0, 0.5]]), sure)
    np.testing.assert_allclose(gain, [1.0, 0.0, 0.5], atol=1e-6)
