"""What a candidate costs a worker: merging, forward passes, everything else."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from evals.suite import Suite
from search.recipe import Recipe
from workers.bench.tables import Row
from workers.messages import Evaluate, Evaluated, Job, Zoo
from workers.worker import Worker


def candidate_rows(
    zoo: Zoo, suite: Suite, recipes: Sequence[Recipe], *, device: str = "cpu"
) -> list[Row]:
    """Seconds per candidate on a warm worker, split into merging, forward passes and the rest.

    Medians over the recipes; the first candidate also opens, builds and tokenizes, and is shown
    apart.

    Raises:
        ValueError: a recipe cannot be evaluated.
    """
    worker = Worker(device=device)
    first, *timings = [_timed(worker, zoo, suite, recipe) for recipe in (recipes[0], *recipes)]
    note = f"{len(zoo.parents)} parents, {zoo.dtype}, median of {len(timings)}"
    return [
        Row("first candidate of a worker", sum(first), "s", "opens, builds and tokenizes"),
        Row("candidate: merge", statistics.median(t[0] for t in timings), "s", note),
        Row("candidate: forward passes", statistics.median(t[1] for t in timings), "s", note),
        Row("candidate: everything else", statistics.median(t[2] for t in timings), "s", note),
        Row("candidate: all", statistics.median(map(sum, timings)), "s", note),
    ]


def _timed(worker: Worker, zoo: Zoo, suite: Suite, recipe: Recipe) -> tuple[float, float, float]:
    result = worker.run(Job("bench", zoo, Evaluate(recipe, suite)))
    if not isinstance(result, Evaluated):
        raise ValueError(f"cannot be evaluated: {result}")
    timings = result.timings
    return timings.merge_s, timings.forward_s, timings.other_s
