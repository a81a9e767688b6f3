"""The web application: every route, behind one guard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from api import problem_details
from api.artifacts import Artifacts
from api.auth import Guard, Sessions, loopback_hosts
from api.events import POLL_S, Feeds, polling
from api.metrics import Metrics, Timed
from api.problem_details import ProblemDetails
from api.reading import Readings
from api.routes import (
    candidates,
    catalogue,
    checkpoints,
    examples,
    operations,
    pages,
    searches,
    session,
)
from api.security_headers import SecurityHeaders
from api.service import Service
from api.settings import Settings
from api.store import Store
from api.validation import Accepted, validate

TITLE = "nichemerge"
VERSION = "0.1.0"


def create_app(
    settings: Settings,
    store: Store,
    *,
    artifacts: Artifacts | None = None,
    check: Callable[[object], Accepted] | None = None,
    poll_s: float = POLL_S,
) -> FastAPI:
    """The application over a store; whether a controller runs in this process is not its business.

    Args:
        settings: token, folders and names of the server.
        store: the log.
        artifacts: finished checkpoints; by default where the settings say.
        check: replaces the validation of specs, for tests without models.
        poll_s: seconds between two looks for new events.
    """
    readings, feeds = Readings(store), Feeds(store, poll_s=poll_s)
    service = Service(
        settings=settings,
        store=store,
        readings=readings,
        feeds=feeds,
        artifacts=artifacts or artifacts_of(settings),
        sessions=Sessions(settings.api_token),
        metrics=Metrics(store, readings, lambda: feeds.viewers),
        check=check or partial(validate, settings=settings),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with polling(feeds):
            yield

    app = FastAPI(
        title=TITLE,
        version=VERSION,
        summary="Search for the merge that keeps the strengths of all your fine-tuned checkpoints.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # An address with a slash too many is unknown, not redirected out of a proxy's prefix.
        redirect_slashes=False,
    )
    app.state.service = service
    for module in (searches, candidates, examples, checkpoints, catalogue, session):
        app.include_router(module.router, prefix="/v1")
    app.include_router(operations.router)
    app.include_router(pages.router)
    problem_details.install(app)
    app.openapi = partial(_openapi, app)  # type: ignore[method-assign]  # FastAPI's documented way
    # The last one added sees a request first.
    app.add_middleware(Guard, sessions=service.sessions, hosts=_hosts(settings))
    app.add_middleware(Timed, metrics=service.metrics)
    app.add_middleware(SecurityHeaders)
    return app


def artifacts_of(settings: Settings) -> Artifacts:
    """The artifact store that the settings name."""
    return Artifacts(settings.artifact_url, staging=settings.home.resolve() / "staging")


def _hosts(settings: Settings) -> tuple[str, ...]:
    """Names that the Host header may have; any where a token protects an exposed server."""
    if settings.allowed_hosts:
        return settings.allowed_hosts
    return loopback_hosts(settings.host) if settings.is_loopback else ()


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The description of the API, with the schemas that are only referred to."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        for model in (ProblemDetails, *searches.DESCRIBED):
            _describe(model, schemas)
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        schema["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "NICHEMERGE_API_TOKEN"}
        }
        schema["security"] = [{"token": []}, {}]
        app.openapi_schema = schema
    return app.openapi_schema


def _describe(model: type[BaseModel], schemas: dict[str, Any]) -> None:
    description = model.model_json_schema(
        ref_template="#/components/schemas/{model}", mode="serialization"
    )
    for name, definition in description.pop("$defs", {}).items():
        schemas.setdefault(name, definition)
    schemas.setdefault(model.__name__, description)
