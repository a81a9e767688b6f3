"""Every optimizer that is registered, on a small analytic problem."""

from __future__ import annotations

from typing import Any

import pytest

from search.optimizer import optimizers
from tests.search.optimizers.analytic import Setup

_SHORT = {"generations": 3, "population": 8}
# Options with which an optimizer comes to its point in seconds.
QUICK: dict[str, dict[str, Any]] = {
    "map": _SHORT,
    "map_bayesian": {**_SHORT, "initial": 8, "acquired": 8},
    "map_elites": {"cells": 3},  # so few that candidates compete for them
    "map_nested": {"points": 8},
    "optuna_gp": {"startup": 30},
}
# These learn nothing: the same points, whatever the scores.
EVEN = {"uniform", "optuna_qmc"}
# These give every block of a model the same weights: most points of a space are out of their reach.
WHOLE = {"greedy_soup", "lcsc", "map_nested", "metrics_weighted"}


@pytest.fixture(params=[*(entry.name for entry in optimizers), "m2n2 linear"])
def setup(request: pytest.FixtureRequest) -> Setup:
    """One setup per optimizer; two for the one with two ways of working.

    Optuna's Gaussian processes take ten times as long with three objectives.
    """
    name, _, method = request.param.partition(" ")
    objectives = 1 if name == "optuna_gp" else 3
    return Setup(
        name,
        method=method or "task_arithmetic",
        objectives=objectives,
        options=QUICK.get(name, {}),
    )
