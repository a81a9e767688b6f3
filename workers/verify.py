"""Score a checkpoint folder in a fresh process, as a stranger who downloaded it would.

Run as ``python -m workers.verify REQUEST``; the last line on standard output is the answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from evals.score import score_folder
from evals.suite import Suite
from search.outcome import Scores
from search.recipe import mixture
from workers.messages import Zoo
from workers.resident import Resident

# Per-example scores are likelihoods in float32, or small integers, on which this means equality.
TOLERANCE = 1e-5

Examples = Mapping[str, NDArray[np.float32]]

# An adapter on its base, which is the only parent of such a zoo.
_ADAPTER = "merged"
AS_IT_IS = mixture((_ADAPTER,), (1.0,))


class Request(BaseModel):
    """What to score, with which device and threads: the same as the resident model had.

    ``base`` is the model that ``folder`` is an adapter of; None for a whole model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    base: Path | None = None
    dtype: str
    device: str
    threads: int
    suite: Suite


class Unverified(RuntimeError):
    """The folder could not be loaded or scored; the message is the process's last words."""


def score_in_fresh_process(request: Request) -> Examples:
    """Per-example scores by objective, from a process that knows nothing but the folder.

    The process dies with this one: it holds the reading end of a pipe that only we write.

    Raises:
        Unverified: it fails.
        ChildProcessError: it is killed.
    """
    source = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "workers.verify", request.model_dump_json()],
            stdin=reading,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        )
    finally:
        os.close(reading)
        os.close(writing)
    if done.returncode < 0:
        raise ChildProcessError(f"the process that checked it was killed ({-done.returncode})")
    if done.returncode > 0:
        raise Unverified((done.stderr.strip().splitlines() or ["no output"])[-1])
    answer: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return {key: np.array(values, dtype=np.float32) for key, values in answer.items()}


def adapted(base: Path, adapter: Path, dtype: str) -> Zoo:
    """The models of which ``AS_IT_IS`` makes the base with this adapter, and nothing else."""
    return Zoo(str(base), ((_ADAPTER, str(adapter)),), dtype)


def disagreements(expected: Scores, found: Examples) -> list[str]:
    """Objectives on which two scorings of the same examples differ, in words."""
    texts = []
    for key, score in expected.items():
        ours, theirs = score.examples, found.get(key)
        if theirs is None or theirs.shape != ours.shape:
            texts.append(f"{key} has another number of examples")
            continue
        error = np.abs(ours - theirs) / np.maximum(1, np.abs(ours))
        if not (error <= TOLERANCE).all():  # NaN is a disagreement too
            texts.append(f"{key} differs on {int((~(error <= TOLERANCE)).sum())} of {score.count}")
    return texts


def main(text: str) -> None:
    """Answer one request."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    request = Request.model_validate_json(text)
    torch.set_num_threads(request.threads)
    answer = {key: score.examples.tolist() for key, score in _scores(request).items()}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


def _scores(request: Request) -> Scores:
    suite = request.suite
    if request.base is not None:
        zoo = adapted(request.base, request.folder, request.dtype)
        resident = Resident(zoo, device=request.device)
        resident.materializer.materialize(AS_IT_IS)
        return resident.evaluator(suite).score()
    return score_folder(request.folder, suite, request.dtype, request.device)


def _die_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
