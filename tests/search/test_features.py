"""What a surrogate is told of a genome."""

from __future__ import annotations

import numpy as np
import pytest

from search.features import Features
from search.geometry import Geometry
from tests.search.optimizers.analytic import Setup


def lengths(*norms: float) -> Geometry:
    """Of the one parent's change in each of three layers of eight weights."""
    grams = np.zeros((3, 2, 2))
    grams[:, 1, 1] = np.square(norms)
    return Geometry(np.arange(0, 25, 8), grams)


def test_genes_of_large_changes_move_farther_around_the_middle() -> None:
    setup = Setup("auto", parents=1)
    features = Features(setup.space, lengths(1.0, 2.0, 2.0))
    edges = features(np.array([[0.0] * 3, [0.5] * 3, [1.0] * 3]))
    assert edges[1] == pytest.approx(0.5)
    moved = edges[2] - edges[0]
    assert moved == pytest.approx(np.array([1.0, 2.0, 2.0]) / np.sqrt(3.0))


def test_a_change_of_nothing_keeps_a_little_effect() -> None:
    setup = Setup("auto", parents=1)
    edges = Features(setup.space, lengths(0.0, 1.0, 1.0))(np.array([[0.0] * 3, [1.0] * 3]))
    assert edges[1, 0] - edges[0, 0] == pytest.approx(0.1)


def test_without_geometry_genes_are_their_own_coordinates() -> None:
    setup = Setup("auto")
    genomes = np.random.default_rng(0).random((4, setup.space.dim))
    assert Features(setup.space)(genomes) == pytest.approx(genomes)
