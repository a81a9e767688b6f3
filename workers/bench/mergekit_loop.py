"""Make candidates with mergekit: what its evolutionary search does for each of them.

A script for the Python of an environment that has mergekit, and not us: it imports nothing of ours.
The first line that it reads is a JSON object with the ``base`` (a folder) and how many ``threads``
to use; it is answered by ``{}``. Every further line is a merge configuration, and its answer how
long the merge took: ``{"seconds": 0.5, "cpu_s": 0.4}``.

With a folder of ``tasks`` and a ``dtype`` in the first line, candidates are scored as well. A line
is then an object with the ``configuration``, the ``task``, its ``metric``, the ``place`` (memory
or disk) and the ``batch_size``, null for that of mergekit; and the answer also has the ``score``
and the number of ``examples``.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any, TextIO

# Does what a line asks for, and returns what there is to say beside how long it took.
Work = Callable[[dict[str, Any]], dict[str, float] | None]


def serve(requests: Iterable[str], answers: TextIO, prepare: Callable[..., Work]) -> None:
    """Answer every line.

    Args:
        requests: lines, as above.
        answers: one line for each.
        prepare: makes a function that does the work, of the fields of the first line.
    """
    lines = map(json.loads, requests)
    work = prepare(**next(lines))
    _say(answers, {})
    for asked in lines:
        start, cpu = time.perf_counter(), _cpu_s()
        told = work(asked) or {}
        seconds, cpu_s = time.perf_counter() - start, _cpu_s() - cpu
        _say(answers, {"seconds": seconds, "cpu_s": cpu_s, **told})


def _say(answers: TextIO, answer: dict[str, float]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def prepare(*, base: str, threads: int, tasks: str | None = None, dtype: str = "bfloat16") -> Work:
    """Either merging alone, or merging and scoring."""
    import torch

    torch.set_num_threads(threads)
    if tasks is None:
        return merging(base)
    return evolving(base, tasks, dtype)


def merging(base: str, into: Any = None) -> Work:
    """The planner and the executor, as the in-memory actor calls them for every candidate.

    The tensors come from mapped files, and the results go to where a model would have them.

    Args:
        base: folder of the base.
        into: tensors by name that are written to; some of our own when None.
    """
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
    options = MergeOptions(quiet=True)
    LoaderCache().setup(options)
    config = AutoConfig.from_pretrained(base)
    architecture = arch_info_for_config(config)
    model: dict[str, Any] = {} if into is None else into

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


def evolving(base: str, tasks: str, dtype: str) -> Work:
    """What the two kinds of actors do with a candidate: merge it, then ``simple_evaluate``.

    In memory the merge is written into one resident model; lm-eval wraps it once, with a batch
    size of its own: 1, whatever is asked for. On disk a folder is written, loaded, scored and
    removed. Ray, which only carries the messages, is left out.
    """
    import lm_eval
    import torch
    import transformers
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    manager = TaskManager(include_path=tasks, include_defaults=False)
    config = transformers.AutoConfig.from_pretrained(base)
    build: Any = transformers.AutoModelForCausalLM.from_config
    model = build(config, dtype=getattr(torch, dtype))
    model.eval().requires_grad_(False)
    weights = {name: weight.data for name, weight in model.named_parameters()}
    merge = merging(base, weights)
    resident = HFLM(pretrained=model, tokenizer=base, device="cpu")

    def scored(asked: dict[str, Any], lm: Any, arguments: dict[str, Any]) -> dict[str, float]:
        found = lm_eval.simple_evaluate(
            model=lm,
            model_args=arguments or None,
            tasks=[asked["task"]],
            batch_size=asked["batch_size"],
            task_manager=manager,
            log_samples=False,
        )
        return {
            "score": float(found["results"][asked["task"]][f"{asked['metric']},none"]),
            "examples": int(found["n-samples"][asked["task"]]["effective"]),
        }

    def work(asked: dict[str, Any]) -> dict[str, float]:
        if asked["place"] == "memory":
            merge(asked["configuration"])
            return scored(asked, resident, {})
        gc.collect()
        planned = MergeConfiguration.model_validate(asked["configuration"])
        with tempfile.TemporaryDirectory() as folder:
            run_merge(planned, out_path=folder, options=MergeOptions(quiet=True))
            # "use_cache" is a switch of the model's; lm-eval hands it on.
            arguments = {"pretrained": folder, "dtype": dtype, "use_cache": True, "device": "cpu"}
            return scored(asked, "huggingface", arguments)

    return work


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed is no answer
    serve(sys.stdin, answers, prepare)
