"""The dashboard's files: our own, and plotly.js from the installed wheel."""

from __future__ import annotations

import hashlib
import mimetypes
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from api.problem_details import Refusal

router = APIRouter(include_in_schema=False)

# Types are stated here because the system's own table may lack them; with nosniff they matter.
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@router.get("/")
def index(request: Request) -> Response:
    """The dashboard."""
    return _answer(request, "index.html")


@router.get("/assets/{name}")
def asset(name: str, request: Request) -> Response:
    """A file of the dashboard."""
    return _answer(request, name)


@router.get("/favicon.ico")
def favicon() -> Response:
    """The page names its own icon; browsers ask for this one without being told to."""
    return Response(status_code=204)


def _answer(request: Request, name: str) -> Response:
    content, etag = _file(name)
    headers = {"etag": etag, "cache-control": "no-cache"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    suffix = name[name.rfind(".") :]
    media_type = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(content, headers=headers, media_type=media_type)


@cache
def _known() -> frozenset[str]:
    """Names that are served: nothing is looked up that is not in this list."""
    dashboard = files("api").joinpath("dashboard")
    names = {item.name for item in dashboard.iterdir() if item.is_file()}
    return frozenset({*names, "plotly.min.js"})


def _file(name: str) -> tuple[bytes, str]:
    """Content and ETag."""
    if name not in _known():
        raise Refusal(404, f"The dashboard has no file '{name}'.")
    return _read(name)


@cache
def _read(name: str) -> tuple[bytes, str]:
    if name == "plotly.min.js":
        content = files("plotly").joinpath("package_data", name).read_bytes()
    else:
        content = files("api").joinpath("dashboard", name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()}"'
