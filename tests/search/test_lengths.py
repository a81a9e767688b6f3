from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.geometry import Geometry
from search.groups import apart, everywhere
from search.layout import Layout
from search.lengths import Lengths, points, shares

EXAMPLES = settings(max_examples=25)
RNG = np.random.default_rng(5)
UNITS = st.lists(st.floats(0, 1), min_size=1, max_size=6)


def geometry(layout: Layout, models: np.ndarray) -> Geometry:
    """Of (1 + parents, elements) flattened models, base first, on the layout's grid."""
    boundaries = np.array(layout.grid())
    gram = [models[:, start:stop] @ models[:, start:stop].T for start, stop in pairwise(boundaries)]
    return Geometry(boundaries, np.stack(gram))


@pytest.fixture
def models(layout: Layout) -> np.ndarray:
    """A base and three parents, of which the last has changed ten times as much."""
    base = RNG.normal(size=layout.size)
    changes = RNG.normal(size=(3, layout.size)) * [[0.01], [0.01], [0.1]]
    return np.stack([base, *(base + changes)])


@given(UNITS)
@EXAMPLES
def test_shares_sum_to_one_and_none_is_negative(units: list[float]) -> None:
    found = shares(units)
    assert len(found) == len(units) + 1
    assert sum(found) == pytest.approx(1.0)
    assert min(found) >= 0.0


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=5))
@EXAMPLES
def test_points_are_the_inverse_of_shares(units: list[float]) -> None:
    assert points(shares(units)) == pytest.approx(units, abs=1e-6)


def test_two_parents_share_by_a_line() -> None:
    assert shares([0.25]) == pytest.approx([0.25, 0.75])


def test_points_spread_evenly_are_shares_spread_evenly() -> None:
    """Of the uniform distribution on a simplex every share has the mean 1 / n."""
    found = np.mean([shares(row) for row in RNG.random((4000, 3))], axis=0)
    assert found == pytest.approx([0.25] * 4, abs=0.02)


@pytest.mark.parametrize("norm", [0.5, 1.0])
def test_the_merged_change_is_as_long_as_the_norm_says(
    layout: Layout, models: np.ndarray, norm: float
) -> None:
    blocks = layout.blocks("model")
    lengths = Lengths.measured(geometry(layout, models), layout, "model", everywhere(blocks))
    changes = models[1:] - models[0]
    mean = np.linalg.norm(changes, axis=1).mean()
    for unit in RNG.random((5, 2)):
        (weight,) = lengths.weights([unit.tolist()], norm, range(3))
        assert np.linalg.norm(np.array(weight) @ changes) == pytest.approx(norm * mean, rel=1e-6)


def test_every_group_has_the_norm_by_itself(layout: Layout, models: np.ndarray) -> None:
    blocks = layout.blocks("tensor")
    groups = apart(layout, blocks, "tensor")
    lengths = Lengths.measured(geometry(layout, models), layout, "tensor", groups)
    weights = lengths.weights([[0.3, 0.6]] * len(groups), 0.7, range(3))
    changes = models[1:] - models[0]
    for weight, (start, stop) in zip(weights, pairwise(layout.offsets), strict=True):
        part = changes[:, start:stop]
        mean = np.linalg.norm(part, axis=1).mean()
        assert np.linalg.norm(np.array(weight) @ part) == pytest.approx(0.7 * mean, rel=1e-6)


def test_who_does_not_take_part_has_no_weight() -> None:
    (weight,) = Lengths.alike(1, 3).weights([[0.9, 0.5]], 1.0, [1, 2])
    assert weight[0] == 0.0
    assert np.linalg.norm(weight) == pytest.approx(1.0)


def test_changes_that_cancel_are_not_made_up_for_without_end() -> None:
    gram = np.array([[[1.0, -1.0], [-1.0, 1.0]]])
    (weight,) = Lengths(gram).weights([[0.5]], 1.0, range(2))
    assert np.linalg.norm(weight) == pytest.approx(10.0)


def test_where_nobody_differs_from_the_base_weights_are_finite(layout: Layout) -> None:
    blocks = layout.blocks("model")
    same = np.tile(RNG.normal(size=layout.size), (4, 1))
    lengths = Lengths.measured(geometry(layout, same), layout, "model", everywhere(blocks))
    (weight,) = lengths.weights([[0.2, 0.7]], 0.5, range(3))
    assert np.linalg.norm(weight) == pytest.approx(0.5)


@given(st.floats(0.1, 2.0), st.lists(st.floats(0.01, 0.99), min_size=2, max_size=2))
@EXAMPLES
def test_weights_are_split_into_what_they_were_made_of(norm: float, unit: list[float]) -> None:
    gram = np.diag([1.0, 4.0, 9.0])[None]
    lengths = Lengths(gram)
    (found,), length = lengths.split(np.array(lengths.weights([unit], norm, range(3))), range(3))
    assert length == pytest.approx(norm)
    assert found == pytest.approx(unit, abs=1e-6)
