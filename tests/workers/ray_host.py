"""A process that hosts a Ray fleet, as the service does; run by a test."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from tests.workers.fake_runner import FakeRunner, job
from workers.ray_fleet import RayFleet


def main(folder: Path) -> None:
    terminated = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    fleet = RayFleet(make=FakeRunner, slots=1)
    fleet.submit(job("plain", folder))
    report = fleet.next_report(30)
    if report is not None:
        (folder / "ready").touch()
    terminated.wait(30)
    fleet.close()
    (folder / "closed").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
