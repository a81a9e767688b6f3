"""Errors as RFC 9457 problem documents: one shape for everything that can go wrong."""

from __future__ import annotations

import http
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from api.store import IdempotencyConflict, StoreDown, UnknownSearch
from search.problems import Invalid, Problem
from search.spec import field_path

MEDIA_TYPE = "application/problem+json"

_log = logging.getLogger(__name__)


class ProblemDetails(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Problem] = Field(
        default=[], description="each problem with the path of the field that it is about"
    )


class Refusal(HTTPException):
    """A request that cannot be granted, with the fields that are to blame where there are any."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.errors = list(errors)


def problem(
    status: int,
    detail: str,
    *,
    errors: Sequence[Problem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document as a response."""
    body = ProblemDetails(
        title=http.HTTPStatus(status).phrase, status=status, detail=detail, errors=list(errors)
    )
    # Text from a request may hold lone surrogates, which have no UTF-8.
    text = body.model_dump(mode="json")
    return _Json(text, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems of an operation, for OpenAPI; those that every operation has included."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {
        status: {"description": http.HTTPStatus(status).phrase, "content": content}
        for status in sorted({*statuses, 400, 401, 403, 422, 500, 503})
    }


def install(app: FastAPI) -> None:
    """Answer every error of an application with a problem document."""
    app.exception_handler(RequestValidationError)(_malformed)
    app.exception_handler(StarletteHTTPException)(_refused)
    app.exception_handler(Invalid)(_invalid)
    app.exception_handler(UnknownSearch)(_unknown_search)
    app.exception_handler(IdempotencyConflict)(_key_conflict)
    app.exception_handler(StoreDown)(_store_down)
    app.exception_handler(Exception)(_unexpected)


class _Json(Response):
    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def _malformed(_: Request, error: RequestValidationError) -> Response:
    """Parameters that do not fit what the operation declares."""
    errors = [
        Problem(field=field_path(item["loc"][1:]) or str(item["loc"][0]), message=item["msg"])
        for item in error.errors()
    ]
    return problem(422, "The request does not fit its description.", errors=errors)


def _refused(request: Request, error: StarletteHTTPException) -> Response:
    detail = error.detail
    if error.status_code == 404 and detail == "Not Found":
        detail = f"There is nothing at {request.url.path}; /openapi.json lists what there is."
    if error.status_code == 405:
        detail = f"{request.url.path} does not take {request.method}."
    return problem(
        error.status_code, detail, errors=getattr(error, "errors", ()), headers=error.headers
    )


def _invalid(_: Request, error: Invalid) -> Response:
    count = len(error.problems)
    detail = "1 problem was found." if count == 1 else f"{count} problems were found."
    return problem(422, detail, errors=error.problems)


def _unknown_search(request: Request, _: UnknownSearch) -> Response:
    return problem(404, f"There is no search '{request.path_params.get('search_id', '')}'.")


def _key_conflict(_: Request, __: IdempotencyConflict) -> Response:
    message = "was used before, for another spec; send each new spec with a new key"
    return problem(
        422,
        "The idempotency key belongs to another request.",
        errors=[Problem(field="Idempotency-Key", message=message)],
    )


def _store_down(_: Request, __: StoreDown) -> Response:
    _log.error("The database cannot be reached", extra={"event": "store_down"})
    detail = "The database cannot be reached at the moment; try again."
    return problem(503, detail, headers={"Retry-After": "5"})


def _unexpected(_: Request, __: Exception) -> Response:
    """A bug: the server's log has the traceback, the answer does not."""
    return problem(500, "The service failed in a way that it should not; its log has the details.")
