import math

import numpy as np
import pytest
from numpy.typing import NDArray

from search.outcome import Score
from search.paired import behind, difference, overall
from search.spec import Objective

ACC = Objective(task="t", metric="acc")
F1 = Objective(task="t", metric="f1", weight=3.0)
OTHER = Objective(task="u", metric="acc")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def mean(examples: NDArray[np.float64]) -> Score:
    stderr = examples.std(ddof=1) / np.sqrt(len(examples))
    return Score(float(examples.mean()), float(stderr), len(examples), examples.astype(np.float32))


def pair(seed: int, count: int, ahead: float) -> tuple[Score, Score]:
    """Right and wrong answers to examples that are hard or easy for both."""
    draw = rng(seed)
    easy = draw.uniform(0.05, 0.85, count)
    a, b = (draw.random((2, count)) < np.stack([easy + ahead, easy])).astype(float)
    return mean(a), mean(b)


def test_the_interval_is_that_of_the_textbook_for_many_examples() -> None:
    a, b = pair(1, 1000, 0.05)
    found = difference(a, b, rng())
    differences = a.examples.astype(float) - b.examples
    margin = 1.96 * differences.std(ddof=1) / np.sqrt(1000)
    assert found.value == pytest.approx(differences.mean())
    assert found.high - found.value == pytest.approx(margin, rel=0.1)
    assert found.value - found.low == pytest.approx(margin, rel=0.1)


def test_pairing_tells_more_than_the_two_scores_alone() -> None:
    draw = rng(3)
    easy = (draw.random(400) < 0.5).astype(float)
    flipped = np.where(draw.random(400) < 0.03, 1 - easy, easy)
    found = difference(mean(easy), mean(flipped), rng())
    apart = 1.96 * math.hypot(mean(easy).stderr, mean(flipped).stderr)
    assert found.high - found.low < apart


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    """1000 pairs of models on 150 examples; between 93 and 97 percent, as a 95 % interval must."""
    ahead, hits = 0.07, 0
    for seed in range(1000):
        found = difference(*pair(seed, 150, ahead), rng(seed))
        hits += found.low <= ahead <= found.high
    assert 930 <= hits <= 970


def test_the_same_generator_gives_the_same_interval() -> None:
    a, b = pair(1, 100, 0.05)
    assert difference(a, b, rng(7)) == difference(a, b, rng(7)) != difference(a, b, rng(8))


def test_no_different_answer_among_a_hundred_is_not_taken_for_never() -> None:
    same = mean((np.arange(100) < 40).astype(float))
    found = difference(same, same, rng())
    assert (found.value, found.low, found.high) == (0.0, -0.03, 0.03)


def test_a_perplexity_is_compared_in_its_own_unit() -> None:
    """A score that is no mean: its examples are nats, it is their exponential."""

    def perplexity(nats: NDArray[np.float64]) -> Score:
        value = math.exp(-nats.mean())
        stderr = value * nats.std(ddof=1) / np.sqrt(len(nats))
        return Score(-value, stderr, len(nats), nats.astype(np.float32))

    nats = rng(5).normal(-3, 0.5, 500)
    better = nats + 0.1 + rng(6).normal(0, 0.05, 500)
    found = difference(perplexity(better), perplexity(nats), rng())
    gained = math.exp(-nats.mean()) - math.exp(-better.mean())
    assert found.value == pytest.approx(gained)
    # by the delta method: the standard error of the difference of two exponentials
    slopes = np.exp(-better.mean()) * better - np.exp(-nats.mean()) * nats
    margin = 1.96 * slopes.std(ddof=1) / np.sqrt(500)
    assert found.high - found.value == pytest.approx(margin, rel=0.15)


def test_bits_per_byte_are_compared_by_text_around_the_weighted_difference() -> None:
    """lm-eval has no standard error for them, and long texts count for more."""
    draw = rng(5)
    lengths = draw.integers(80, 120, 300)
    ratios = draw.normal(-2.0, 0.3, 300)
    better = ratios + draw.normal(0.02, 0.05, 300)

    def bits(values: NDArray[np.float64]) -> Score:
        value = float(np.average(values, weights=lengths))
        return Score(value, math.nan, 300, values.astype(np.float32))

    found = difference(bits(better), bits(ratios), rng())
    assert found.value == pytest.approx(bits(better).value - bits(ratios).value)
    again = draw.integers(0, 300, (2000, 300))
    weighted = [np.average((better - ratios)[i], weights=lengths[i]) for i in again]
    low, high = np.quantile(weighted, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_metrics_without_a_standard_error_have_no_interval() -> None:
    nats = rng(5).normal(-3, 0.5, 50).astype(np.float32)
    one, other = (Score(value, math.nan, 50, nats) for value in (-20.0, -21.0))
    found = difference(one, other, rng())
    assert found.value == 1.0
    assert math.isnan(found.low)


def test_overall_is_the_weighted_mean_in_the_units_of_the_objectives() -> None:
    a, b = pair(1, 300, 0.1)
    c, d = pair(2, 200, 0.2)
    ours, theirs = {"t/acc": a, "u/acc": c}, {"t/acc": b, "u/acc": d}
    found = overall(ours, theirs, (ACC, OTHER), np.array([0.5, 1.0]), rng())
    expected = ((a.value - b.value) / 0.5 + (c.value - d.value) / 1.0) / 2
    assert found.value == pytest.approx(expected)
    parts = [
        np.var(x.examples.astype(float) - y.examples, ddof=1) / unit**2 / x.count / 4
        for x, y, unit in ((a, b, 0.5), (c, d, 1.0))
    ]
    assert found.high - found.value == pytest.approx(1.96 * math.sqrt(sum(parts)), rel=0.1)


def test_metrics_of_one_task_are_resampled_together() -> None:
    """Two copies of one metric say no more than one: the interval does not shrink."""
    a, b = pair(1, 300, 0.1)
    ours, theirs = {"t/acc": a, "t/f1": a}, {"t/acc": b, "t/f1": b}
    both = overall(ours, theirs, (ACC, F1), np.ones(2), rng())
    one = difference(a, b, rng())
    assert both.value == pytest.approx(one.value)
    assert both.high - both.low == pytest.approx(one.high - one.low, rel=0.05)


def test_only_who_is_shown_to_be_behind_is_behind() -> None:
    leader, weak = pair(1, 400, 0.15)
    nearly = mean(np.where(np.arange(400) == 0, 0.0, leader.examples.astype(float)))
    others = [{"t/acc": score} for score in (leader, nearly, weak)]
    found = behind({"t/acc": leader}, others, (ACC,), np.ones(1), rng())
    assert found.tolist() == [False, False, True]


def test_a_candidate_that_left_early_is_compared_on_what_both_have_seen() -> None:
    leader, weak = pair(1, 400, 0.15)
    early = mean(weak.examples[:200].astype(float))
    found = difference(leader, early, rng())
    assert found.value == pytest.approx(leader.examples[:200].mean() - early.value, abs=1e-6)


def test_the_difference_of_exact_scores_is_exact() -> None:
    a, b = (Score(v, 0.0, 1, np.array([v], np.float32)) for v in (1.0, 0.0))
    found = difference(a, b, rng())
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)
