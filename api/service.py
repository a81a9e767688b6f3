"""What the routes work with, made once per application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.artifacts import Artifacts
from api.auth import Sessions
from api.events import Feeds
from api.metrics import Metrics
from api.reading import Readings
from api.settings import Settings
from api.store import Store
from api.validation import Accepted


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that outlives a request.

    Args:
        settings: as started.
        store: the log.
        readings: folded searches.
        feeds: live events.
        artifacts: finished checkpoints.
        sessions: who may call.
        metrics: for Prometheus.
        check: turns a parsed document into an accepted submission, or raises Invalid.
    """

    settings: Settings
    store: Store
    readings: Readings
    feeds: Feeds
    artifacts: Artifacts
    sessions: Sessions
    metrics: Metrics
    check: Callable[[object], Accepted]


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Here = Annotated[Service, Depends(_service)]
