"""For operators: is it alive, is it ready, how does it do, what can it do."""

from __future__ import annotations

import html
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from api.metrics import CONTENT_TYPE
from api.problem_details import documented
from api.service import Here

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """A short answer for probes."""

    status: str


@router.get("/healthz", operation_id="isAlive", responses=documented())
def healthz() -> Health:
    """The process answers."""
    return Health(status="alive")


@router.get("/readyz", operation_id="isReady", responses=documented())
def readyz(here: Here) -> Health:
    """The log can be read; 503 while it cannot."""
    here.store.heads()
    return Health(status="ready")


@router.get(
    "/metrics",
    operation_id="getMetrics",
    response_class=Response,
    responses={
        200: {
            "description": "Numbers in Prometheus' text format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **documented(),
    },
)
def metrics(here: Here) -> Response:
    """Searches, outcomes, streams and request times for Prometheus."""
    return Response(here.metrics.text(), media_type=CONTENT_TYPE)


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    """The operations as a plain page.

    The usual Swagger page loads its scripts from elsewhere, which our Content-Security-Policy
    forbids, and which a machine without internet cannot do.
    """
    description = request.app.openapi()
    rows = "".join(
        _row(path, verb, operation)
        for path, operations in description["paths"].items()
        for verb, operation in operations.items()
    )
    return HTMLResponse(_PAGE.format(title=html.escape(description["info"]["title"]), rows=rows))


def _row(path: str, verb: str, operation: dict[str, Any]) -> str:
    parameters = ", ".join(parameter["name"] for parameter in operation.get("parameters", ()))
    text = operation.get("description") or operation["summary"]
    cells = (f"{verb.upper()} {path}", text, parameters)
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}: REST API</title></head>
<body>
<h1>{title}: REST API</h1>
<p>Everything below, with schemas, is in <a href="openapi.json">openapi.json</a> (OpenAPI 3.1): open
it with any client of your choice. Specs also have a <a href="v1/schemas/spec">JSON schema</a>.</p>
<table>
<tr><th scope="col">Operation</th><th scope="col">Does</th><th scope="col">Parameters</th></tr>
{rows}
</table>
</body>
</html>
"""
