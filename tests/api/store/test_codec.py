"""Columns hold the nouns to the bit, and not much more than their bits."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from api.store.codec import (
    pack_examples,
    pack_geometry,
    scores_from_json,
    scores_to_json,
    search_from_columns,
    submission_to_columns,
    unpack_examples,
    unpack_geometry,
)
from api.store.records import Summary
from search.outcome import Score
from tests.analytic import submission

ANY_FLOAT = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0])


@given(arrays(np.float32, st.integers(0, 40), elements=ANY_FLOAT))
def test_examples_survive_to_the_bit(scores: np.ndarray) -> None:
    assert unpack_examples(pack_examples(scores)).tobytes() == scores.tobytes()


@given(arrays(np.bool_, st.integers(0, 3000)))
def test_right_or_wrong_takes_a_bit_each(right: np.ndarray) -> None:
    packed = pack_examples(right.astype(np.float32))
    assert np.array_equal(unpack_examples(packed), right)
    assert len(packed) <= len(right) / 8 + 32


def test_examples_cannot_be_written_to() -> None:
    assert not unpack_examples(pack_examples(np.ones(3, np.float32))).flags.writeable


@given(st.floats(allow_nan=False), st.just(float("nan")) | st.floats(allow_nan=False))
def test_aggregates_survive_json(value: float, stderr: float) -> None:
    score = Score(value, stderr, 3, np.zeros(3, np.float32))
    back = scores_from_json(scores_to_json({"a/b": score}))["a/b"]
    assert (back.value, back.count) == (value, 3)
    assert repr(back.stderr) == repr(stderr)
    assert isinstance(back, Summary)


def test_no_geometry_stays_none() -> None:
    assert unpack_geometry(pack_geometry(None)) is None


def test_folders_of_searches_from_before_any_was_trusted_are_read() -> None:
    given = replace(submission(), task_folders=("mine",))
    columns = submission_to_columns(given) | {"task_folders": ["mine"]}
    row: Any = SimpleNamespace(id="a", created_at=datetime.now(UTC), **columns)
    assert search_from_columns(row).submission == given
