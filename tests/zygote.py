"""A process that has imported everything and forks a controller for every line that it reads.

So that a controller can be killed and started again twenty times in seconds. Lines in are JSON
(see `control`), lines out are ``started PID`` and, when that process is over, ``ended STATUS``.
"""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from api.store import Store
from search.optimizer import Options, RacesOn, Task, optimizers
from search.outcome import Candidate, Origin, Outcome
from search.spec import SearchSpec
from tests.analytic import AnalyticFleet
from tests.attending import Over, controller_of


class Moody:
    """Breaks the contract of optimizers: asking changes it. What the control is run with."""

    name: ClassVar[str] = "moody"
    summary: ClassVar[str] = "Counts how often it was asked."
    source: ClassVar[str] = "none"
    options: ClassVar[type[Options]] = Options
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "front"

    def __init__(self, task: Task, options: Options) -> None:
        self._task = task
        self._asked = 0

    def ask(
        self, ordinal: int, rng: np.random.Generator, _pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        self._asked += 1
        genome = np.full(self._task.space.dim, self._asked / 1000)
        return Candidate(
            ordinal, self._task.space.decode(genome), Origin("sample"), tuple(genome.tolist())
        )

    def tell(self, outcome: Outcome) -> None:
        pass

    def status(self) -> str:
        return "Counts."

    @staticmethod
    def problems(spec: SearchSpec, dim: int, options: Options, /) -> dict[str, str]:
        return {}


def control(url: str, search_id: str, seed: int, lease_s: float, longest_s: float) -> None:
    """Attend to the database until this search is finished."""
    store = Store(url)
    fleet = AnalyticFleet(seed=seed, longest_s=longest_s)
    controller = controller_of(store, fleet, poll_s=0.02, lease_s=lease_s)
    controller.run(Over(store, search_id))


def serve() -> None:
    list(optimizers)  # imports them all
    optimizers.register(Moody)
    _say("ready")
    for line in sys.stdin:
        arguments: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                control(**arguments)
            finally:
                sys.stderr.flush()
                os._exit(1 if sys.exc_info()[0] else 0)
        _say(f"started {pid}")
        _, status = os.waitpid(pid, 0)
        _say(f"ended {os.waitstatus_to_exitcode(status)}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()
