"""Make candidates with mergekit, in memory: what its evolutionary search does for each of them.

A script for the Python of an environment that has mergekit, and not us: it imports nothing of ours.
The first line that it reads is a JSON object with the ``base`` (a folder) and how many ``threads``
to use; it is answered by ``{}``. Every further line is a merge configuration, and its answer how
long the merge took: ``{"seconds": 0.5}``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TextIO

Merge = Callable[[dict[str, Any]], None]


def serve(requests: Iterable[str], answers: TextIO, prepare: Callable[..., Merge]) -> None:
    """Answer every line.

    Args:
        requests: lines, as above.
        answers: one line for each.
        prepare: makes a function that merges, of the fields of the first line.
    """
    lines = map(json.loads, requests)
    merge = prepare(**next(lines))
    _say(answers, {})
    for configuration in lines:
        start = time.perf_counter()
        merge(configuration)
        _say(answers, {"seconds": time.perf_counter() - start})


def _say(answers: TextIO, answer: dict[str, float]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def prepare(*, base: str, threads: int) -> Merge:
    """The planner and the executor, as the in-memory actor calls them for every candidate.

    The tensors come from mapped files, and the results go to where a model would have them.
    """
    import torch
    from mergekit import plan
    from mergekit.architecture import arch_info_for_config
    from mergekit.config import MergeConfiguration
    from mergekit.graph import Executor, Task
    from mergekit.io.tasks import LoaderCache, ReturnTensor
    from mergekit.options import MergeOptions
    from transformers import AutoConfig

    class Return(ReturnTensor):  # type: ignore[misc]  # mergekit ships no types
        tensor_task: Task

    # Release 0.1.5 asks for a task that gives a tensor, plans one that gives a tensor or nothing,
    # and pydantic refuses it: in memory, nothing would be merged at all.
    plan.ReturnTensor = Return
    torch.set_num_threads(threads)
    options = MergeOptions(quiet=True)
    LoaderCache().setup(options)
    config = AutoConfig.from_pretrained(base)
    architecture = arch_info_for_config(config)
    model: dict[str, Any] = {}

    def merge(configuration: dict[str, Any]) -> None:
        planned = MergeConfiguration.model_validate(configuration)
        planner = plan.MergePlanner(planned, architecture, options, config)
        for task, value in Executor(planner.plan_in_memory()).run(quiet=True):
            name = task.weight_info.name
            if name in model:
                model[name].copy_(value)
            else:
                model[name] = value.clone()

    return merge


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed is no answer
    serve(sys.stdin, answers, prepare)
