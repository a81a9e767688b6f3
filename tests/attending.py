"""A controller at work, for as long as a test wants."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from api.controller import Controller
from api.progress import Progress
from api.store import Store
from tests.analytic import AnalyticFleet, declaration
from workers.fleet import Fleet


def progress_of(store: Store, search_id: str) -> Progress:
    progress = Progress(store.search(search_id).spec)
    while events := store.events(search_id, after=progress.seq):
        progress.feed(events)
    return progress


def turns(store: Store, search_id: str) -> list[str]:
    """What changed the state of a search, in order."""
    return [e.kind for e in store.events(search_id, outcomes=False) if e.ordinal is None]


_OVER = ("finished", "failed", "checkpoint_stored", "checkpoint_failed")


class Over(threading.Event):
    """Set when a search or a checkpoint is done or has failed: how long a controller runs."""

    def __init__(self, store: Store, search_id: str) -> None:
        super().__init__()
        self._store = store
        self._search_id = search_id

    def is_set(self) -> bool:
        heads = {head.search_id: head.kind for head in self._store.heads()}
        return heads[self._search_id] in _OVER


def controller_of(store: Store, fleet: Fleet, **settings: Any) -> Controller:
    return Controller(
        store,
        fleet,
        declaration=declaration,
        destination=lambda search, digest, form: f"artifacts/{search}/{digest}/{form}",
        **{"poll_s": 0.01, "lease_s": 1.0, **settings},
    )


@contextmanager
def attending(store: Store, fleet: Fleet | None = None, **settings: Any) -> Iterator[Controller]:
    """Run a controller until the block ends; what it raised is raised here."""
    fleet = fleet or AnalyticFleet()
    controller = controller_of(store, fleet, **settings)
    stop = threading.Event()
    raised: list[BaseException] = []

    def work() -> None:
        try:
            controller.run(stop)
        except BaseException as error:  # noqa: BLE001  # raised again in the test's own thread
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield controller
    finally:
        stop.set()
        thread.join()
        fleet.close()
    if raised:
        raise raised[0]


def wait_for(condition: Callable[[], object], what: str, *, timeout_s: float = 90.0) -> None:
    """Poll until something holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {timeout_s} s"
        time.sleep(0.005)
