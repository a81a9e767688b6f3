"""The running service: web server and controller, started and stopped together."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.app import artifacts_of, create_app
from api.artifacts import Artifacts, Publishing, artifact_digest
from api.controller import Controller
from api.settings import Settings
from api.store import Store
from search.method import MethodDeclaration
from workers.fleet import Fleet, FleetDown
from workers.merging.merge_method import methods
from workers.messages import Form

# SIGTERM to exit: open answers get so long, then the controller and its workers.
_DRAIN_S = 3
_JOIN_S = 5.0
_RETRY_S = 5.0

_log = logging.getLogger(__name__)

FleetMaker = Callable[[], Fleet]


class Server(uvicorn.Server):
    """Ends event streams before it waits for connections, which would otherwise never close.

    Args:
        app: of ``create_app``.
        settings: where to listen.
        stop: set as soon as a signal arrives.
    """

    def __init__(self, app: FastAPI, settings: Settings, stop: threading.Event) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=_DRAIN_S,
            )
        )
        self._feeds = app.state.service.feeds
        self._stop = stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's
        """Begin to stop. Unlike uvicorn's, the signal is not raised again when all is done."""
        self._stop.set()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End streams, drain the rest."""
        self._feeds.close()
        await super().shutdown(sockets)


def ray_fleet(settings: Settings) -> FleetMaker:
    """A fleet on Ray, as the settings say; nothing is imported or started before it is called."""

    def make() -> Fleet:
        from workers.ray_fleet import RayFleet

        return RayFleet(address=settings.ray_address, slots=settings.slots)

    return make


def serve(settings: Settings, *, fleet: FleetMaker | None = None) -> int:
    """Serve until a signal comes; the exit code.

    Args:
        settings: of the service.
        fleet: makes the fleet, in the controller's thread; on Ray by default.

    Raises:
        OSError: the address cannot be listened on; nothing was started.
    """
    listener = _listen(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    store = Store(settings.database)
    artifacts = artifacts_of(settings)
    stop = threading.Event()
    server = Server(create_app(settings, store, artifacts=artifacts), settings, stop)
    make = fleet or ray_fleet(settings)
    thread = threading.Thread(
        target=_control, args=(store, make, artifacts, stop, server), name="controller", daemon=True
    )
    thread.start()
    server.run([listener])
    died = not thread.is_alive() and not stop.is_set()
    stop.set()
    thread.join(_JOIN_S)
    if thread.is_alive():
        _log.warning("The controller did not stop in time", extra={"event": "controller_left"})
    store.close()
    return 1 if died or not server.started else 0


def _listen(settings: Settings) -> socket.socket:
    """Take the address before anything else is started."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        address = f"{settings.host}:{settings.port}"
        raise OSError(f"cannot listen on {address}: {error.strerror}") from error


def control(settings: Settings, *, fleet: FleetMaker | None = None) -> int:
    """Run a controller alone until a signal comes; the exit code."""
    settings.home.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    store = Store(settings.database)
    _run_controller(store, fleet or ray_fleet(settings), artifacts_of(settings), stop)
    store.close()
    return 0


def _control(
    store: Store, make: FleetMaker, artifacts: Artifacts, stop: threading.Event, server: Server
) -> None:
    """The controller's thread; a service without a controller must not look alive."""
    try:
        _run_controller(store, make, artifacts, stop)
    finally:
        server.should_exit = True


def _run_controller(
    store: Store, make: FleetMaker, artifacts: Artifacts, stop: threading.Event
) -> None:
    fleet = _reach(make, stop)
    if fleet is None:
        return

    def declaration(name: str) -> MethodDeclaration:
        return methods[name].declaration

    def destination(search_id: str, recipe_digest: str, form: Form) -> str:
        return str(artifacts.staging(artifact_digest(search_id, recipe_digest, form)))

    try:
        Controller(
            store,
            Publishing(fleet, artifacts),
            declaration=declaration,
            destination=destination,
        ).run(stop)
    finally:
        fleet.close()


def _reach(make: FleetMaker, stop: threading.Event) -> Fleet | None:
    """The fleet, as soon as there is one; None when stopped before."""
    while not stop.is_set():
        try:
            return make()
        except FleetDown as error:
            _log.warning("No worker can be reached: %s", error, extra={"event": "fleet_down"})
            stop.wait(_RETRY_S)
    return None
