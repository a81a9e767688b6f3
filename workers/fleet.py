"""Where jobs run."""

from __future__ import annotations

from typing import Protocol

from workers.messages import Job, Report


class FleetDown(RuntimeError):
    """No worker can be reached at all; waiting may help, the search is not to blame."""


class Fleet(Protocol):
    """Runs jobs and reports each exactly once.

    Infrastructure faults (a worker or node lost, a timeout) are retried here; a job lost
    ``max_attempts`` times is reported as `Rejected`, so that every submitted job is reported in
    the end.
    """

    def submit(self, job: Job) -> None:
        """Queue a job; returns at once."""

    def next_report(self, timeout_s: float) -> Report | None:
        """The next report in order of arrival, or None when none came in time."""

    def slots(self) -> int:
        """How many jobs run at the same time."""

    def close(self) -> None:
        """Stop the workers; jobs in flight are dropped."""
