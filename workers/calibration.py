"""Before anything is searched: which engine will score, and how exactly."""

from __future__ import annotations

from dataclasses import replace

from evals.noise import noise
from evals.requests import Unscorable
from evals.suite import Suite
from search.recipe import mixture
from search.spec import BASE
from workers.messages import Calibration
from workers.resident import Resident

# Of every task, that the base is asked twice.
_EXAMPLES = 16


def calibrate(suite: Suite, resident: Resident) -> Calibration:
    """Score the base on a little of a suite, in two ways.

    Raises:
        Invalid: a task cannot be used with these models.
    """
    some = replace(suite, limit=min(suite.limit or _EXAMPLES, _EXAMPLES))
    resident.materializer.materialize(mixture((BASE,), (1.0,)))
    evaluator = resident.evaluator(some)
    try:
        found = noise(evaluator.score(), evaluator.score_alone())
    except Unscorable:  # a base may be worse than its parents: the search will say so
        found = {}
    return Calibration(resident.evaluator(suite).fingerprint, found)
