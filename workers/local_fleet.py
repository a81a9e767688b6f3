"""Jobs in threads of this process: for tests, and for a service without Ray."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from workers.fleet import lost
from workers.messages import Job, Report, Result

Run = Callable[[Job], Result]


class LocalFleet:
    """Runs jobs in order of submission; with one slot also reports them in that order.

    An `OSError` out of ``run`` is a fault of the machine and is retried; any other exception is a
    bug, and is raised by ``next_report``.

    Args:
        run: does one job (``Worker().run``, or an analytic function in a test). It must be safe to
            call from ``slots`` threads at once.
        slots: number of threads.
        max_attempts: how often a job is tried.
    """

    def __init__(self, run: Run, *, slots: int = 1, max_attempts: int = 3) -> None:
        self._run = run
        self._slots = slots
        self._max_attempts = max_attempts
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="local")
        self._done: queue.SimpleQueue[Future[Report]] = queue.SimpleQueue()

    def submit(self, job: Job) -> None:
        """Queue a job; returns at once."""
        self._threads.submit(self._report, job).add_done_callback(self._done.put)

    def next_report(self, timeout_s: float) -> Report | None:
        """The next report in order of arrival, or None when none came in time."""
        try:
            return self._done.get(timeout=timeout_s).result()
        except queue.Empty:
            return None

    def slots(self) -> int:
        """How many jobs run at the same time."""
        return self._slots

    def close(self) -> None:
        """Drop what is queued; a job that runs ends in its own time."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _report(self, job: Job) -> Report:
        worker, attempt = threading.current_thread().name, 1
        while True:
            try:
                return Report(job.id, self._run(job), worker, attempt)
            except OSError as fault:
                if attempt == self._max_attempts:
                    return Report(job.id, lost(attempt, str(fault)), worker, attempt)
                attempt += 1
