"""A function from a small message to a small message, with heavy things kept in between."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import assert_never

import torch

from evals.evaluator import Evaluator
from evals.fingerprint import Fingerprint
from evals.requests import Unscorable
from evals.suite import Suite
from search.outcome import Scores
from search.problems import Invalid
from search.recipe import Recipe
from workers.calibration import calibrate
from workers.checkpoints.parents import Parents
from workers.export import export
from workers.merging.merge_method import NotMergeable
from workers.messages import (
    Confirm,
    Confirmed,
    Evaluate,
    Evaluated,
    Export,
    Job,
    Rejected,
    Result,
    Survey,
    Surveyed,
    Timings,
    Zoo,
)
from workers.resident import Recent, Resident, Stamp, stamp
from workers.survey import survey
from workers.weights import weigh

_log = logging.getLogger(__name__)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Worker:
    """Merges, scores, surveys and exports, one job at a time.

    Args:
        device: where models live, as torch spells it.
        threads: of torch, on the CPU, for jobs that do not say how many.
        cores: that it has to itself: a survey finds out how many of them are of use.
        zoos: how many searches' models are kept at once.
    """

    def __init__(
        self, *, device: str = "cpu", threads: int = 1, cores: int = 1, zoos: int = 1
    ) -> None:
        self._device = device
        self._threads = threads
        self._cores = cores
        torch.set_num_threads(threads)
        self._residents = Recent[tuple[Zoo, Stamp], Resident](
            lambda key: Resident(key[0], device=device), capacity=zoos
        )

    def run(self, job: Job) -> Result:
        """Do one job.

        What can never succeed comes back as `Rejected`, with a reason for users. Whatever is
        neither of these is a fault of the machine, and ends this worker.
        """
        start = time.perf_counter()
        result = self._guarded(job)
        _log.info(
            "%s %s",
            type(job.work).__name__.lower(),
            f"rejected: {result.reason}" if isinstance(result, Rejected) else "done",
            extra={
                "event": "job_done",
                "job": job.id,
                "rejected": isinstance(result, Rejected),
                "seconds": time.perf_counter() - start,
            },
        )
        return result

    def _guarded(self, job: Job) -> Result:
        try:
            return self._run(job)
        except (NotMergeable, Unscorable) as error:
            return Rejected(str(error))
        except Invalid as error:
            problems = tuple((problem.field, problem.message) for problem in error.problems)
            return Rejected("the models cannot be read", problems)
        except (torch.OutOfMemoryError, MemoryError):
            self._residents.clear()
            return Rejected(f"out of memory on {self._device}, even with the smallest batch")
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise  # a mount that fails is the machine's fault: another may do better
            return Rejected(error.strerror or "no space left on the disk")
        except torch.AcceleratorError:
            raise  # leaves the device unusable for this process
        except Exception as error:  # noqa: BLE001  # the worker boundary: a bug in one candidate ends no search
            _log.exception("A job failed", extra={"event": "job_failed", "job": job.id})
            return Rejected(f"unexpected {type(error).__name__}: {_first_line(error)}")

    def _run(self, job: Job) -> Result:
        batching = None if job.work.suite is None else job.work.suite.batching
        torch.set_num_threads(self._threads if batching is None else batching.threads)
        match job.work:
            case Evaluate():
                return self._evaluate(job.work, job.zoo)
            case Confirm():
                return self._confirm(job.work, job.zoo)
            case Survey():
                return self._survey(job.work, job.zoo)
            case Export():
                return export(job.work, self._resident(job.zoo))
            case _:
                assert_never(job.work)

    def _resident(self, zoo: Zoo) -> Resident:
        folders = (zoo.base, *(folder for _, folder in zoo.parents))
        return self._residents[
            zoo, stamp(folders, "*.safetensors", "adapter_config.json", "tokenizer.json")
        ]

    def _survey(self, work: Survey, zoo: Zoo) -> Surveyed | Rejected:
        with closing(Parents(zoo)) as parents:
            found = survey(work, parents)
        if isinstance(found, Rejected) or work.suite is None:
            return found
        calibration = calibrate(work, work.suite, self._resident(zoo), cores=self._cores)
        return replace(found, calibration=calibration)

    def _evaluate(self, work: Evaluate, zoo: Zoo) -> Evaluated | Rejected:
        scored = self._judged(
            work.recipe, work.suite, zoo, lambda e: e.score(work.race), gated=work.gated
        )
        if isinstance(scored, Rejected):
            return scored
        return Evaluated(*scored, self._resident(zoo).evaluator(work.suite).left_early)

    def _confirm(self, work: Confirm, zoo: Zoo) -> Confirmed | Rejected:
        def score(evaluator: Evaluator) -> Scores:
            if not work.rungs:
                return evaluator.score()
            return evaluator.score_first(work.rungs, of=work.recipe.digest)

        scored = self._judged(work.recipe, work.suite, zoo, score, gated=False)
        return scored if isinstance(scored, Rejected) else Confirmed(*scored)

    def _judged(
        self,
        recipe: Recipe,
        suite: Suite,
        zoo: Zoo,
        score: Callable[[Evaluator], Scores],
        *,
        gated: bool,
    ) -> tuple[Scores, Timings, Fingerprint] | Rejected:
        """As `_scored`, or why this candidate has no scores, wherever it is merged."""
        start = time.perf_counter()
        resident = self._resident(zoo)
        evaluator = resident.evaluator(suite)
        try:
            return self._scored(recipe, suite, resident, score, start=start, gated=gated)
        except (NotMergeable, Unscorable) as error:
            return Rejected(str(error), fingerprint=evaluator.fingerprint)

    def _scored(
        self,
        recipe: Recipe,
        suite: Suite,
        resident: Resident,
        score: Callable[[Evaluator], Scores],
        *,
        start: float,
        gated: bool,
    ) -> tuple[Scores, Timings, Fingerprint]:
        evaluator = resident.evaluator(suite)
        gate = resident.gate(suite) if gated else None
        merge_start = self._now()
        resident.materializer.materialize(recipe)
        merge_s = self._now() - merge_start
        forward_s = 0.0
        if gate is not None:
            gate.check()
            forward_s += evaluator.forward_s
        scores = {**score(evaluator), **weigh(resident.materializer, suite)}
        forward_s += evaluator.forward_s
        other_s = time.perf_counter() - start - merge_s - forward_s
        scores = {objective.key: scores[objective.key] for objective in suite.objectives}
        return scores, Timings(merge_s, forward_s, other_s), evaluator.fingerprint

    def _now(self) -> float:
        """Seconds, once the device has done all that it was asked to."""
        if self._device.startswith("cuda"):
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200]
