"""What racing promises, held against searches whose truth is known.

The real run and the real race; a full table with error bars is `nichemerge bench racing`.
"""

from __future__ import annotations

import numpy as np
import pytest

from search.simulation import Setting, Summary, simulate, summarize

REPEATS = 40


@pytest.fixture(scope="module", params=[0.0, 0.8], ids=["independent", "correlated"])
def found(request: pytest.FixtureRequest) -> Summary:
    setting = Setting(request.param)
    results = [simulate(setting, np.random.default_rng([0, n])) for n in range(REPEATS)]
    return summarize(setting, results)


def test_regret_is_about_half_of_that_of_flat_scoring_with_no_more_examples(
    found: Summary,
) -> None:
    """To within twice the error of so few searches."""
    assert found.ratio_error < 0.1
    assert found.ratio <= 0.5 + 2 * found.ratio_error
    assert found.most <= 20_000


def test_of_those_that_left_no_more_than_stated_were_as_good(found: Summary) -> None:
    assert found.left > 0.2, "control: candidates do leave"
    assert found.wrongly <= Setting(0.0).error


def test_the_reported_score_is_unbiased(found: Summary) -> None:
    assert abs(found.bias) < 3 * found.bias_error


def test_an_interval_that_is_too_narrow_would_be_seen(found: Summary) -> None:
    assert found.coverage == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / REPEATS) ** 0.5)
