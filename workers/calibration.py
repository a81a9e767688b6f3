"""Before anything is searched: which engine will score, how fast, and how exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from evals import harness
from evals.batching import Pacing
from evals.fingerprint import device_name
from evals.noise import noise
from evals.pacing import pace
from evals.requests import Unscorable
from evals.suite import Suite
from search.recipe import mixture
from search.spec import BASE
from workers.messages import Calibration, Survey
from workers.resident import Resident, load_tokenizer

# Of every task, that the base is asked twice.
_EXAMPLES = 16


def calibrate(work: Survey, suite: Suite, resident: Resident, *, cores: int) -> Calibration:
    """Time forward passes of the base, and score it on a little of a suite, in two ways.

    Leaves torch with the number of threads that was found to be the best.

    Args:
        work: says what is known of the times already.
        suite: of the search.
        resident: the models.
        cores: that this worker has to itself.

    Raises:
        Invalid: a task cannot be used with these models.
    """
    try:
        pacing = _paced(work, suite, resident, cores)
        suite = replace(suite, batching=pacing.batching)
    except Unscorable:  # a base may be worse than its parents: the search will say so
        return Calibration(resident.evaluator(suite).fingerprint, {})
    some = replace(suite, limit=min(suite.limit or _EXAMPLES, _EXAMPLES))
    evaluator = resident.evaluator(some)
    resident.materializer.materialize(mixture((BASE,), (1.0,)))
    try:
        found = noise(evaluator.score(), evaluator.score_alone())
    except Unscorable:
        found = {}
    return Calibration(resident.evaluator(suite).fingerprint, found, pacing)


def _paced(work: Survey, suite: Suite, resident: Resident, cores: int) -> Pacing:
    """As known, unless on another kind of machine or with more threads than there are here."""
    known, threads = work.paced, torch.get_num_threads()
    here = known is not None and known.device == device_name(resident.device)
    if known is not None and here and known.batching.threads <= max(threads, cores):
        torch.set_num_threads(known.batching.threads)
        return known
    tokenizer = load_tokenizer(Path(resident.zoo.base))
    loaded = harness.load(suite, tokenizer)
    resident.materializer.materialize(mixture((BASE,), (1.0,)))
    return pace(resident.model, tokenizer, loaded, resident.device, threads=threads, cores=cores)
