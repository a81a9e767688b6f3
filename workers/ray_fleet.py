"""Jobs on warm Ray actors, with retries of our own. Nothing of Ray leaves this module."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from workers.fleet import FleetDown, lost
from workers.messages import Job, Report, Result

_log = logging.getLogger(__name__)

_OBJECT_STORE_BYTES = 128 << 20  # messages are a few kB; weights never travel
_PATIENCE_S = 0.5  # how late a time-out may be noticed
_LOOK_S = 10.0  # between two looks at how large a cluster has become
_STARTS = 3  # so many actors in a row that die before they answer mean that none will
_SOURCE = str(Path(__file__).resolve().parents[1])  # where our packages are imported from


class Runner(Protocol):
    """What a slot runs jobs with: a `Worker`, or a stand-in in tests."""

    def run(self, job: Job) -> Result:
        """Do one job."""


class _Actor:
    """Lives in a process of Ray's, around one `Runner`."""

    def __init__(self, make: Callable[[], Runner]) -> None:
        logging.basicConfig(level=logging.INFO)
        self._runner = make()

    def hello(self) -> str:
        return f"{socket.gethostname()}:{os.getpid()}"

    def run(self, job: Job) -> Result:
        return self._runner.run(job)


@dataclass(frozen=True, slots=True)
class _Attempt:
    job: Job
    number: int


@dataclass(slots=True)
class _Slot:
    """One actor: starting (no worker name yet), idle, or busy with an attempt until a deadline."""

    actor: Any
    pending: Any
    worker: str | None = None
    attempt: _Attempt | None = None
    deadline: float = float("inf")


class RayFleet:
    """One warm actor per GPU, or per CPU slot where there is no GPU.

    An actor runs one job at a time. When it dies, fails or overstays the time-out, it is replaced
    and its job goes back to the head of the queue; what an abandoned actor may still answer is
    never looked at. For use from one thread; everything moves on within ``next_report``.

    Args:
        address: of a Ray cluster; None starts a Ray on this machine, for this process alone (or
            joins the one that this process already has).
        slots: number of actors; None takes every GPU, else every core, and on a cluster follows it
            as it grows.
        max_attempts: a job lost so often is rejected.
        timeout_s: for one attempt at one job.
        make: builds the runner within the actor; None makes a `Worker`.

    A cluster that does not answer yet is no reason not to start: ``next_report`` says so.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        slots: int | None = None,
        max_attempts: int = 3,
        timeout_s: float = 3600.0,
        make: Callable[[], Runner] | None = None,
    ) -> None:
        self._address = address
        self._wanted = slots
        self._max_attempts = max_attempts
        self._timeout_s = timeout_s
        self._make = make
        self._queue: deque[_Attempt] = deque()
        self._done: deque[Report] = deque()
        self._pool: list[_Slot] = []
        self._failed_starts = 0
        self._connected = False
        with suppress(FleetDown):
            self._connect()

    def submit(self, job: Job) -> None:
        """Queue a job; returns at once."""
        self._queue.append(_Attempt(job, 1))

    def next_report(self, timeout_s: float) -> Report | None:
        """The next report in order of arrival, or None when none came in time.

        Raises:
            FleetDown: the cluster does not answer, or workers die before they can take a job. No
                job is lost; the next call tries again.
        """
        end = time.monotonic() + timeout_s
        try:
            self._connect()
            self._step(0.0)
            while not self._done and (now := time.monotonic()) < end:
                self._step(min(end - now, _PATIENCE_S))
        except ConnectionError as error:
            self._disconnect()
            raise FleetDown(f"the Ray cluster is gone: {error}") from error
        return self._done.popleft() if self._done else None

    def slots(self) -> int:
        """How many jobs run at the same time."""
        return max(1, len(self._pool))

    def close(self) -> None:
        """Kill the workers, and leave Ray; a Ray that was started for them ends too."""
        if not (self._connected and ray.is_initialized()):
            return
        for slot in self._pool:
            ray.kill(slot.actor, no_restart=True)
        self._pool.clear()
        if self._owns_ray:
            ray.shutdown()
        self._connected = False

    def _connect(self) -> None:
        if self._connected:
            return
        self._owns_ray = connect(self._address, self._wanted)
        self._connected = True
        self._next_look = 0.0
        self._grow()

    def _disconnect(self) -> None:
        """Forget a cluster that is gone; what was in flight there will be done again."""
        lost = [slot.attempt for slot in self._pool if slot.attempt is not None]
        self._queue.extendleft(reversed(lost))
        self._pool.clear()
        if self._owns_ray:
            ray.shutdown()
        self._connected = False

    def _step(self, timeout_s: float) -> None:
        """Collect what arrives in time, and keep every worker busy."""
        self._collect(timeout_s)
        self._expire()
        self._grow()
        self._dispatch()

    def _grow(self) -> None:
        """Start an actor for every slot that there is no actor for yet."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_S if self._address and not self._wanted else float("inf")
        self._gpus, self._cores = _resources()
        for _ in range((self._wanted or self._gpus or self._cores) - len(self._pool)):
            self._pool.append(self._start())

    def _start(self) -> _Slot:
        slots = max(self._wanted or 0, 1)
        options = _options(slots, gpus=self._gpus, cores=self._cores)
        make = self._make or partial(_worker, "cuda" if self._gpus else "cpu", self._cores_each)
        actor: Any = ray.remote(_Actor).options(**options).remote(make)
        return _Slot(actor, actor.hello.remote())

    @property
    def _cores_each(self) -> int:
        """That a worker has to itself; on a cluster it has the one that it asks Ray for."""
        if self._address is not None or self._gpus:
            return 1
        return max(1, (os.cpu_count() or 1) // (self._wanted or self._cores))

    def _dispatch(self) -> None:
        for slot in self._pool:
            if not self._queue:
                return
            if slot.worker is not None and slot.attempt is None:
                slot.attempt = self._queue.popleft()
                slot.pending = slot.actor.run.remote(slot.attempt.job)
                slot.deadline = time.monotonic() + self._timeout_s

    def _collect(self, timeout_s: float) -> None:
        """Wait for one answer, and take all that have come."""
        pending = {slot.pending: slot for slot in self._pool if slot.pending is not None}
        if not pending:
            time.sleep(timeout_s)
            return
        ready, _ = ray.wait(list(pending), num_returns=1, timeout=timeout_s)
        if ready:
            ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0)
        for answer in ready:
            self._take(pending[answer])

    def _take(self, slot: _Slot) -> None:
        try:
            answer = ray.get(slot.pending)
        except RayError as fault:
            self._replace(slot, _in_words(fault))
            return
        slot.pending = None
        if slot.attempt is None:
            slot.worker = answer
            self._failed_starts = 0
            return
        attempt, slot.attempt, slot.deadline = slot.attempt, None, float("inf")
        self._report(attempt, answer, slot)

    def _expire(self) -> None:
        now = time.monotonic()
        for slot in list(self._pool):
            if slot.deadline <= now:
                self._replace(slot, f"no answer within {self._timeout_s:g} s")

    def _replace(self, slot: _Slot, reason: str) -> None:
        """Put a new actor in the place of one that is lost, and its job back in the queue."""
        ray.kill(slot.actor, no_restart=True)
        if slot.attempt is not None:
            self._lose(slot.attempt, slot, reason)
        else:
            self._failed_starts += slot.worker is None
        self._pool[self._pool.index(slot)] = self._start()
        if self._failed_starts >= _STARTS * len(self._pool):
            self._failed_starts = 0
            raise FleetDown(f"no worker could be started: {reason}")

    def _lose(self, attempt: _Attempt, slot: _Slot, reason: str) -> None:
        _log.warning(
            "A worker was lost with a job",
            extra={
                "event": "job_lost",
                "job": attempt.job.id,
                "attempt": attempt.number,
                "worker": slot.worker,
                "reason": reason,
            },
        )
        if attempt.number < self._max_attempts:
            self._queue.appendleft(_Attempt(attempt.job, attempt.number + 1))
        else:
            self._report(attempt, lost(attempt.number, reason), slot)

    def _report(self, attempt: _Attempt, result: Result, slot: _Slot) -> None:
        self._done.append(Report(attempt.job.id, result, slot.worker or "", attempt.number))


def connect(address: str | None, slots: int | None = None) -> bool:
    """Join a cluster, or start a Ray for this process; whether one was joined or started.

    A local Ray has no dashboard, sends no statistics, asks every caller for a token (its own,
    unless the environment has one), and advertises only the loopback address. The handlers of
    SIGTERM and SIGINT stay those of the host.
    """
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"address": address}
    if address is None:
        # Ray turns tokens on by itself for a local cluster, and would leave its own in ~/.ray.
        if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        options = {
            "address": "local",
            "num_cpus": max(slots or 0, os.cpu_count() or 1),
            "object_store_memory": _OBJECT_STORE_BYTES,
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
        }
    with _own_signal_handlers():
        try:
            ray.init(
                **options,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": _environment(local=address is None)},
            )
        except ConnectionError as error:
            reason = str(error).partition("\n")[0]
            raise FleetDown(f"no Ray cluster answers at {address}: {reason}") from error
    return True


def _environment(*, local: bool) -> Mapping[str, str]:
    """What workers find in their environment; never anything that a user wrote."""
    variables = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if local:
        path = os.environ.get("PYTHONPATH")
        variables["PYTHONPATH"] = f"{_SOURCE}{os.pathsep}{path}" if path else _SOURCE
    return variables


def _resources() -> tuple[int, int]:
    """GPUs and cores of the whole cluster."""
    cluster: Any = ray  # its state module has no types
    total = cluster.cluster_resources()
    return int(total.get("GPU", 0)), int(total.get("CPU", 0))


def _options(slots: int, *, gpus: int, cores: int) -> dict[str, Any]:
    """What each actor asks Ray for; more slots than devices share them."""
    return {
        "num_cpus": 0 if gpus else min(1.0, max(1, cores) / slots),
        "num_gpus": min(1.0, gpus / slots),
        "max_restarts": 0,
        "max_task_retries": 0,
    }


def _worker(device: str, cores: int) -> Runner:
    # Imported in the actor only: the service has no need of transformers and lm-eval.
    from workers.worker import Worker

    return Worker(device=device, cores=cores)


def _in_words(fault: RayError) -> str:
    """Why an attempt was lost, in one line."""
    if isinstance(fault, RayTaskError):
        return f"{type(fault.cause).__name__}: {fault.cause}".splitlines()[0]
    if isinstance(fault, RayActorError):
        return "the worker died"
    return f"{type(fault).__name__}: {fault}".splitlines()[0]


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Undo what ``ray.init`` does to the handlers of the host process.

    Ray's handler calls sys.exit, which would end a server before it has finished its requests.
    Only the main thread can set handlers, and Ray leaves them alone elsewhere.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    handlers = [signal.getsignal(number) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, handlers, strict=True):
            signal.signal(number, handler)
