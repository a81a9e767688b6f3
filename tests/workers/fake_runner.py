"""A stand-in for Worker whose faults a test can arrange through files in one folder."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evals.suite import Split, Suite
from search.outcome import Score
from search.recipe import mixture
from search.spec import Objective
from workers.messages import Evaluate, Evaluated, Job, Rejected, Timings, Zoo

SUITE = Suite((Objective(task="length", metric="acc"),), Split.SEARCH)


class FakeRunner:
    """What a job does is the first word of its id.

    plain: scores the length of its id. reject: is rejected. fail: raises OSError.
    wait: leaves its process id in the folder ``zoo.base`` and waits to be killed.
    hold: like wait, holding the interpreter lock as native code may.
    """

    def run(self, job: Job) -> Evaluated | Rejected:
        match job.id.split("-")[0]:
            case "reject":
                return Rejected("not today")
            case "fail":
                raise OSError("the disk is gone")
            case "wait":
                self._leave_mark(job)
                time.sleep(600)
            case "hold":
                self._leave_mark(job)
                ctypes.PyDLL(None).sleep(600)
            case "once" if not list(attempts(job)):
                self._leave_mark(job)
                time.sleep(600)
        return Evaluated({"length/acc": _score(len(job.id))}, Timings(0, 0, 0))

    @staticmethod
    def _leave_mark(job: Job) -> None:
        (Path(job.zoo.base) / f"{job.id}.{os.getpid()}").touch()


class Unstartable:
    def __init__(self) -> None:
        raise RuntimeError("no such device")


def attempts(job: Job) -> Iterator[int]:
    """Process ids of the workers that began a job."""
    for mark in Path(job.zoo.base).glob(f"{job.id}.*"):
        yield int(mark.suffix[1:])


def job(name: str, folder: Path) -> Job:
    return Job(name, Zoo(str(folder), (), "float32"), Evaluate(mixture(("base",), (1.0,)), SUITE))


def _score(value: int) -> Score:
    return Score(value, 0.0, 1, np.array([value], dtype=np.float32))
