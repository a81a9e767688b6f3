"""Every optimizer that is registered, on a small analytic problem."""

from __future__ import annotations

import pytest

from search.optimizer import optimizers
from tests.search.optimizers.analytic import Setup


@pytest.fixture(params=[*(entry.name for entry in optimizers), "m2n2 linear"])
def setup(request: pytest.FixtureRequest) -> Setup:
    """One setup per optimizer; two for the one with two ways of working."""
    name, _, method = request.param.partition(" ")
    options = {"generations": 3, "population": 8} if name == "map" else {}
    return Setup(name, method=method or "task_arithmetic", options=options)
