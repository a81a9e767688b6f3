"""How sure a score is: its 95 % interval."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit

from search.outcome import Score

_TAIL = 0.975
_Z = 1.959963984540054


def interval(score: Score) -> tuple[float, float]:
    """(low, high) of the 95 % interval, in the sign of the score; NaN where nothing is known.

    Shares of right answers have Wilson's interval (1927), which also holds for few examples and
    near 0 and 1; any other score that of Student's t around its standard error.
    """
    if score.is_exact:
        return score.value, score.value
    examples = score.examples
    for sign in (1, -1):
        if score.count and np.isin(examples, (0, sign)).all():
            share = float((examples == sign).mean())
            if math.isclose(sign * share, score.value, rel_tol=1e-6, abs_tol=1e-9):
                low, high = _wilson(share, score.count)
                return (low, high) if sign > 0 else (-high, -low)
    stderr = standard_error(score)
    if score.count < 2 or not math.isfinite(stderr):
        return math.nan, math.nan
    margin = float(stdtrit(score.count - 1, _TAIL)) * stderr
    return score.value - margin, score.value + margin


def standard_error(score: Score) -> float:
    """lm-eval's; where it has none, that of a mean of the examples, if the score is some mean.

    So of bits per byte, where a text counts by its length: the lengths are not known here, and the
    texts of a task are of much the same. NaN where the score is on another scale than its examples,
    as a perplexity is, whose examples are log-likelihoods.
    """
    if math.isfinite(score.stderr) or score.count < 2:
        return score.stderr
    if not float(score.examples.min()) <= score.value <= float(score.examples.max()):
        return math.nan
    return float(score.examples.std(dtype=np.float64, ddof=1)) / math.sqrt(score.count)


def _wilson(share: float, count: int) -> tuple[float, float]:
    shrink = 1 + _Z**2 / count
    middle = (share + _Z**2 / (2 * count)) / shrink
    margin = _Z / shrink * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return max(0.0, middle - margin), min(1.0, middle + margin)
