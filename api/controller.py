"""The controller: write, then act."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from api.attended import Assignment, Attended, Overtaken, write
from api.lease import Leases
from api.progress import Progress
from api.schemas import OVER
from api.store import Head, Store, StoreDown
from search.method import MethodDeclaration
from search.problems import Invalid
from workers.fleet import Fleet, FleetDown
from workers.messages import Form, Report

log = logging.getLogger(__name__)

# Jobs per slot that are handed to the fleet: one that runs, one that waits, so that no worker idles
# while an optimizer thinks. More would only make a newly submitted search wait for longer.
_JOBS_PER_SLOT = 2


class Controller:
    """Moves every search of a database forward, as far as its fleet has room.

    All that it knows it has read from the log; killed at any moment, it or another continues.
    Searches take turns, so that a large one does not keep a small one waiting.

    Args:
        store: the log.
        fleet: where jobs run; closed by its owner.
        declaration: merge method by name; UnknownName when there is none.
        destination: search id, recipe digest, form -> folder that is written to. A recipe
            alone is not enough: two searches may call different models by one name.
        poll_s: how soon a new search or command is noticed.
        lease_s: how soon another controller takes over from one that died.
        patience_s: how long to wait when the database or the fleet is down, before trying again.
    """

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        *,
        declaration: Callable[[str], MethodDeclaration],
        destination: Callable[[str, str, Form], str],
        poll_s: float = 0.2,
        lease_s: float = 5.0,
        patience_s: float = 1.0,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._declaration = declaration
        self._destination = destination
        self._poll_s = poll_s
        self._lease_s = lease_s
        self._patience_s = patience_s
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._attended: dict[str, Attended] = {}
        self._turns: deque[str] = deque()
        self._settled: dict[str, int] = {}
        self._elsewhere: dict[str, float] = {}
        self._unsent: deque[Assignment] = deque()
        self._in_flight: dict[str, Assignment] = {}
        self._unwritten: deque[Report] = deque()
        self._next_look = 0.0

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; waits while the database or the fleet is down."""
        leases = Leases(self._store, holder=self.holder, ttl_s=self._lease_s)
        log.info("controller starts", extra={"event": "controller_start", "holder": self.holder})
        try:
            while not stop.is_set():
                try:
                    self._step(leases)
                except (StoreDown, FleetDown) as error:
                    log.warning("waiting: %s", error, extra={"event": "controller_waits"})
                    stop.wait(self._patience_s)
        finally:
            leases.close()
            log.info("controller stops", extra={"event": "controller_stop", "holder": self.holder})

    def _step(self, leases: Leases) -> None:
        self._write_reports()
        self._look(leases)
        self._fill(leases)
        self._send()
        self._receive()

    def _look(self, leases: Leases) -> None:
        """Notice what others wrote: new searches, commands, requests."""
        if time.monotonic() < self._next_look:
            return
        for head in self._store.heads():
            attended = self._attended.get(head.search_id)
            if attended is None:
                self._attend(head, leases)
            elif head.seq > attended.progress.seq:
                attended.catch_up()
        self._next_look = time.monotonic() + self._poll_s

    def _attend(self, head: Head, leases: Leases) -> None:
        """Take a search on if there is something to do and nobody else does it."""
        search_id = head.search_id
        if self._settled.get(search_id) == head.seq:
            return
        if time.monotonic() < self._elsewhere.get(search_id, 0.0):
            return
        if not self._has_work(search_id):
            self._settled[search_id] = head.seq
            return
        if not leases.take(search_id):
            self._elsewhere[search_id] = time.monotonic() + self._lease_s / 3
            return
        self._attended[search_id] = Attended(
            self._store,
            self._store.search(search_id),
            declaration=self._declaration,
            destination=self._destination,
        )
        self._turns.append(search_id)
        log.info("search taken on", extra={"event": "search_attended", "search": search_id})

    def _has_work(self, search_id: str) -> bool:
        """Judged without reading outcomes, because most searches of a database are long over."""
        notes = Progress(self._store.search(search_id).spec)
        while events := self._store.events(search_id, after=notes.seq, outcomes=False):
            notes.feed(events)
        asked = any(checkpoint.state == "requested" for checkpoint in notes.checkpoints.values())
        return asked or notes.state not in OVER

    def _fill(self, leases: Leases) -> None:
        """Ask the searches in turn for jobs, until there is no room or nobody has one."""
        room = _JOBS_PER_SLOT * self._fleet.slots() - len(self._in_flight) - len(self._unsent)
        without = 0
        while room > 0 and without < len(self._turns):
            search_id = self._turns[0]
            self._turns.rotate(-1)
            assignment = self._ask(search_id, leases)
            if assignment is None:
                without += 1
                continue
            without = 0
            room -= 1
            self._unsent.append(assignment)

    def _ask(self, search_id: str, leases: Leases) -> Assignment | None:
        attended = self._attended[search_id]
        if attended.settled:
            self._settled[search_id] = attended.progress.seq
            self._forget(search_id)
            leases.release(search_id)
            return None
        if not leases.held(search_id):
            self._forget(search_id)
            return None
        try:
            return attended.next_job(self._is_busy)
        except Overtaken as error:
            log.warning("%s", error, extra={"event": "overtaken", "search": search_id})
            self._forget(search_id)
        except Invalid as invalid:
            attended.fail(invalid.problems)
        return None

    def _forget(self, search_id: str) -> None:
        del self._attended[search_id]
        self._turns.remove(search_id)

    def _is_busy(self, job_id: str) -> bool:
        return job_id in self._in_flight or any(a.job.id == job_id for a in self._unsent)

    def _send(self) -> None:
        while self._unsent:
            self._fleet.submit(self._unsent[0].job)
            assignment = self._unsent.popleft()
            self._in_flight[assignment.job.id] = assignment

    def _receive(self) -> None:
        """Wait for a report, then take all that have come."""
        report = self._fleet.next_report(self._poll_s)
        while report is not None:
            self._unwritten.append(report)
            report = self._fleet.next_report(0.0)
        self._write_reports()

    def _write_reports(self) -> None:
        while self._unwritten:
            report = self._unwritten[0]
            assignment = self._in_flight.get(report.job)
            if assignment is not None:
                write(self._store, assignment, report)
                _log_report(assignment, report)
                del self._in_flight[report.job]
            self._unwritten.popleft()
            if assignment is not None and assignment.search_id in self._attended:
                self._attended[assignment.search_id].catch_up()


def _log_report(assignment: Assignment, report: Report) -> None:
    log.info(
        "job done",
        extra={
            "event": type(report.result).__name__.lower(),
            "search": assignment.search_id,
            "ordinal": assignment.candidate.ordinal if assignment.candidate else None,
            "worker": report.worker,
            "attempt": report.attempt,
        },
    )
