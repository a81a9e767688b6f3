"""The published experiment's network and first models."""

from __future__ import annotations

import numpy as np
import pytest

from workers.bench.digits_network import (
    WEIGHTS,
    Examples,
    digits,
    layers,
    specialists,
    threefry,
)

DATA = digits()


def test_random_bits_are_those_of_the_authors_of_threefry() -> None:
    """Known answers of Random123 1.09: threefry2x32, 20 rounds."""
    cases = [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ]
    for key, counters, expected in cases:
        found = threefry(np.array(key, np.uint32), np.array(counters, np.uint32))
        assert found.tolist() == list(expected)


def test_the_network_has_the_published_size_and_data() -> None:
    train, test = DATA
    assert WEIGHTS == 19_210
    assert (len(train), len(test)) == (1437, 360)


def test_the_forward_pass_is_a_network_with_one_hidden_layer() -> None:
    train, _ = DATA
    weights = np.random.default_rng(0).standard_normal(WEIGHTS).astype(np.float32)
    first, second, biases = (part.astype(np.float64) for part in layers(weights))
    hidden = np.maximum(train.images.astype(np.float64)[:, :64] @ first[:64] + first[64], 0)
    expected = (hidden @ second + biases).argmax(axis=1) == train.labels
    np.testing.assert_array_equal(train.right(weights), expected)
    assert train.accuracy(weights) == expected.mean()


def test_of_equal_outputs_the_first_class_is_chosen() -> None:
    train, _ = DATA
    np.testing.assert_array_equal(train.right(np.zeros(WEIGHTS, np.float32)), train.labels == 0)


def test_specialists_are_those_of_the_published_figure() -> None:
    """Their own code (commit 3b90342) on JAX 0.10.2, jax_threefry_partitionable=False."""
    train, test = DATA
    low, high = specialists(train)
    cosine = low @ high / np.sqrt((low @ low) * (high @ high))
    assert cosine == pytest.approx(0.0037573, abs=1e-6)
    for model, on_train, on_test in ((low, 0.493389, 0.438889), (high, 0.481559, 0.461111)):
        assert train.accuracy(model) == pytest.approx(on_train, abs=1e-6)
        assert test.accuracy(model) == pytest.approx(on_test, abs=1e-6)


def test_specialists_know_their_digits_alone() -> None:
    train, _ = DATA
    for model, own in zip(specialists(train), (range(5), range(5, 10)), strict=True):
        others = range(5, 10) if own.start == 0 else range(5)
        assert train.of(own).accuracy(model) > 0.9
        assert train.of(others).accuracy(model) < 0.1


def test_examples_of_some_digits_are_all_of_theirs() -> None:
    train, _ = DATA
    some: Examples = train.of(range(3, 5))
    assert set(some.labels) == {3, 4}
    assert len(some) == np.isin(train.labels, [3, 4]).sum()
