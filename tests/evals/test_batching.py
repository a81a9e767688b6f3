"""Another way than the usual is taken only where it is clearly faster."""

from __future__ import annotations

import pytest

from evals.batching import Batching, fastest

USUAL, SMALL, THREADED = Batching(1024, 1), Batching(512, 1), Batching(1024, 4)


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({USUAL: 1.0, SMALL: 0.95, THREADED: 1.2}, USUAL),
        ({USUAL: 1.0, SMALL: 0.95, THREADED: 0.4}, THREADED),
        ({USUAL: 1.0, SMALL: 0.3, THREADED: 0.4}, SMALL),
        ({USUAL: 1.0}, USUAL),
    ],
    ids=["noise decides nothing", "threads help", "the least counts", "nothing else was tried"],
)
def test_the_fastest_way_is_taken_where_that_is_no_noise(
    seconds: dict[Batching, float], best: Batching
) -> None:
    assert fastest(seconds, USUAL) == best
