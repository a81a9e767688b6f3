import math

import numpy as np
import pytest
from scipy.stats import binomtest

from search.intervals import interval
from search.outcome import Score


def share(right: int, count: int, sign: int = 1) -> Score:
    examples = sign * (np.arange(count) < right).astype(np.float32)
    return Score(sign * right / count, math.nan, count, examples)


@pytest.mark.parametrize(("right", "count"), [(0, 20), (7, 20), (20, 20), (151, 300)])
def test_a_share_has_wilsons_interval_as_scipy_computes_it(right: int, count: int) -> None:
    expected = binomtest(right, count).proportion_ci(method="wilson")
    assert interval(share(right, count)) == pytest.approx((expected.low, expected.high))


def test_a_share_that_is_minimized_is_mirrored() -> None:
    low, high = interval(share(7, 20))
    assert interval(share(7, 20, sign=-1)) == pytest.approx((-high, -low))


def test_other_scores_have_students_interval() -> None:
    score = Score(2.0, 0.5, 11, np.linspace(0, 4, 11, dtype=np.float32))
    assert interval(score) == pytest.approx((2 - 0.5 * 2.2281389, 2 + 0.5 * 2.2281389))


def test_where_there_is_no_standard_error_nothing_is_claimed() -> None:
    perplexity = Score(-20.0, math.nan, 3, np.array([-3.1, -2.9, -3.0], np.float32))
    assert all(math.isnan(end) for end in interval(perplexity))


def test_a_weighted_mean_has_the_interval_of_the_plain_one_around_it() -> None:
    score = Score(2.2, math.nan, 11, np.linspace(0, 4, 11, dtype=np.float32))
    margin = 2.2281389 * np.linspace(0, 4, 11).std(ddof=1) / np.sqrt(11)
    assert interval(score) == pytest.approx((2.2 - margin, 2.2 + margin), rel=1e-6)


@pytest.mark.parametrize("value", [1.0, 0.0, -0.25])
def test_what_is_measured_of_the_model_itself_is_exact(value: float) -> None:
    exact = Score(value, 0.0, 1, np.array([value], np.float32))
    assert interval(exact) == (value, value)
    one_example = Score(value, math.nan, 1, np.array([value], np.float32))
    assert interval(one_example) != (value, value), "control: of a single example little is known"
