"""Who may call: the API token, the dashboard's session, and what browsers make necessary."""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problem_details import Refusal, problem

COOKIE = "nichemerge_session"
SESSION_S = 30 * 24 * 3600
MAX_BODY_BYTES = 256 * 1024

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# What a browser needs before it has a session, and what probes ask: none of it says anything.
_OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/v1/session", "/favicon.ico"})
_OPEN_PREFIX = "/assets/"


class Sessions:
    """Signed cookies in place of the token: stateless, and void once the token changes."""

    def __init__(self, token: SecretStr | None) -> None:
        self._token = None if token is None else token.get_secret_value().encode()

    @property
    def required(self) -> bool:
        """Whether callers must prove anything."""
        return self._token is not None

    def accepts_token(self, candidate: str) -> bool:
        """Whether this is the API token."""
        return self._token is None or hmac.compare_digest(candidate.encode(), self._token)

    def open(self) -> str:
        """A new cookie."""
        expires = str(int(time.time()) + SESSION_S)
        return f"{expires}.{self._sign(expires)}"

    def accepts_cookie(self, cookie: str) -> bool:
        """Whether a cookie was made here and has not expired."""
        expires, _, signature = cookie.partition(".")
        genuine = hmac.compare_digest(signature.encode(), self._sign(expires).encode())
        return genuine and expires.isascii() and expires.isdigit() and int(expires) > time.time()

    def _sign(self, expires: str) -> str:
        key = self._token or b""
        return hmac.new(key, b"session:" + expires.encode(), hashlib.sha256).hexdigest()


class Guard:
    """The first to see a request; what it lets through is allowed, small, and not a forgery.

    Args:
        app: the application.
        sessions: who may call.
        hosts: accepted names of this server, against DNS rebinding; empty accepts any, which only
            is safe with a token.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, hosts: tuple[str, ...]) -> None:
        self._app = app
        self._sessions = sessions
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, _Limited(receive), send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if self._hosts and _host(headers.get("host", "")) not in self._hosts:
            return problem(
                400, "This server does not go by the name in the Host header; set "
                "NICHEMERGE_ALLOWED_HOSTS to its names."
            )  # fmt: skip
        bearer = _bearer(headers)
        if scope["method"] not in _SAFE_METHODS and bearer is None and _is_forged(headers):
            return problem(403, "Another site's page may not make this request.")
        if _is_open(scope["path"]) or self._is_known(bearer, headers):
            length = headers.get("content-length", "")
            if length.isdigit() and int(length) > MAX_BODY_BYTES:
                return problem(413, _TOO_LARGE)
            return None
        return problem(
            401,
            "This service asks for its API token: send it as 'Authorization: Bearer <token>'.",
            headers={"WWW-Authenticate": 'Bearer realm="nichemerge"'},
        )

    def _is_known(self, bearer: str | None, headers: Headers) -> bool:
        if not self._sessions.required:
            return True
        if bearer is not None:
            return self._sessions.accepts_token(bearer)
        # Browsers send a host's cookies to all of its ports: other services' may be of any form.
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        return cookie is not None and self._sessions.accepts_cookie(cookie)


_TOO_LARGE = f"The body is larger than {MAX_BODY_BYTES // 1024} KiB."


class _Limited:
    """Passes a body on as long as it stays small, also where its length was not announced."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > MAX_BODY_BYTES:
            raise Refusal(413, _TOO_LARGE)
        return message


def loopback_hosts(host: str) -> tuple[str, ...]:
    """Names by which a server on the loopback interface may be called."""
    return ("127.0.0.1", "localhost", "[::1]", host)


def _is_open(path: str) -> bool:
    return path in _OPEN_PATHS or path.startswith(_OPEN_PREFIX)


def _bearer(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _is_forged(headers: Headers) -> bool:
    """Whether a browser says that a page of another origin made the request."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _host(header: str) -> str:
    """Host without port."""
    host = header.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
