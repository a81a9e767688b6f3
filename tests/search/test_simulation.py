"""What racing promises, held against searches whose truth is known.

The real run and the real race; a full table with error bars is `nichemerge bench racing`.
"""

from __future__ import annotations

import numpy as np
import pytest

from search.simulation import Setting, Summary, simulate, summarize

REPEATS = 40


def found(setting: Setting, repeats: int = REPEATS) -> Summary:
    results = [simulate(setting, np.random.default_rng([0, n])) for n in range(repeats)]
    return summarize(setting, results)


@pytest.fixture(scope="module", params=[0.0, 0.8], ids=["independent", "correlated"])
def two_points(request: pytest.FixtureRequest) -> Summary:
    return found(Setting(request.param))


def test_regret_is_about_half_of_that_of_flat_scoring_with_no_more_examples(
    two_points: Summary,
) -> None:
    """To within twice the error of so few searches."""
    assert two_points.ratio_error < 0.1
    assert two_points.ratio <= 0.5 + 2 * two_points.ratio_error
    assert two_points.most <= 20_000


def test_the_reported_score_is_unbiased(two_points: Summary) -> None:
    assert abs(two_points.bias) < 3 * two_points.bias_error


def test_its_intervals_hold_the_truth_as_often_as_they_say(two_points: Summary) -> None:
    assert two_points.coverage == pytest.approx(0.95, abs=3 * (0.05 * 0.95 / (8 * REPEATS)) ** 0.5)


@pytest.mark.parametrize("spread", [0.005, 0.02, 0.04, 0.16])
def test_of_those_that_left_no_more_than_stated_were_as_good(spread: float) -> None:
    summary = found(Setting(0.8, spread, search=128), 12)
    assert summary.wrongly <= Setting(0.8).error + 2 * summary.wrongly_error
    if spread >= 0.04:
        assert summary.left > 0.3, "control: where candidates differ they do leave"
    if spread <= 0.005:
        assert summary.left < 0.01, "control: nobody leaves for a lead that may be luck"
