"""The dashboard's session: the token once, then a cookie that scripts cannot read."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, SecretStr

from api.auth import COOKIE, SESSION_S
from api.problem_details import Refusal, documented
from api.service import Here

router = APIRouter(prefix="/session", tags=["session"])


class Login(BaseModel):
    """The API token, as the operator gave it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: SecretStr


class Session(BaseModel):
    """Whether this service asks for a token at all, and whether the caller has shown it."""

    required: bool
    open: bool


@router.get("", operation_id="getSession", responses=documented())
def show_session(request: Request, here: Here) -> Session:
    """Whether a login is needed; this call never is refused."""
    cookie = request.cookies.get(COOKIE, "")
    required = here.sessions.required
    return Session(required=required, open=not required or here.sessions.accepts_cookie(cookie))


@router.post("", operation_id="openSession", status_code=204, responses=documented())
def open_session(login: Login, request: Request, response: Response, here: Here) -> None:
    """Exchange the API token for a session cookie."""
    if not here.sessions.accepts_token(login.token.get_secret_value()):
        raise Refusal(401, "This is not the API token of this service.")
    response.set_cookie(
        COOKIE,
        here.sessions.open(),
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


@router.delete("", operation_id="closeSession", status_code=204, responses=documented())
def close_session(request: Request, response: Response) -> None:
    """Forget the session in this browser."""
    response.delete_cookie(
        COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )
