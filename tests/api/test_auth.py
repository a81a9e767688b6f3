"""Who may call: every operation of the description, with each kind of caller."""

import time
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from api.app import create_app
from api.artifacts import Artifacts
from api.auth import COOKIE, Sessions
from api.settings import Settings
from api.store import Store
from tests.serving import TOKEN, accept, problem_of

OPEN = {"/healthz", "/readyz", "/v1/session"}
BEARER = {"authorization": f"Bearer {TOKEN}"}


def operations(client: TestClient) -> list[tuple[str, str]]:
    paths = client.get("/openapi.json", headers=BEARER).json()["paths"]
    example = {"{search_id}": "x", "{ordinal}": "0", "{name}": "f"}
    found = []
    for path, methods in paths.items():
        for placeholder, value in example.items():
            path = path.replace(placeholder, value)
        found += [(method.upper(), path) for method in methods]
    return [*found, ("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/v1/nowhere")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"cookie": f"{COOKIE}=9999999999.{'0' * 64}"},
        {"cookie": f"{COOKIE}={TOKEN}"},
        {"cookie": f"{COOKIE}=\xb2.x".encode("latin-1")},
        {"cookie": f"another/service=1; {COOKIE}=x"},
    ],
    ids=[
        "nothing",
        "wrong",
        "basic",
        "longer",
        "forged",
        "token as cookie",
        "odd digits",
        "odd name",
    ],
)
def test_every_operation_wants_the_token(guarded: TestClient, headers: Any) -> None:
    tried = 0
    for method, path in operations(guarded):
        if path in OPEN:
            continue
        answer = guarded.request(method, path, headers=headers)
        assert answer.status_code == 401, f"{method} {path}"
        if method != "HEAD":
            problem_of(answer)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        tried += 1
    assert tried > 20


def test_control_with_the_token_no_operation_answers_401(guarded: TestClient) -> None:
    for method, path in operations(guarded):
        if path in OPEN or path.endswith("/events"):
            continue
        answer = guarded.request(method, path, headers=BEARER)
        assert answer.status_code != 401, f"{method} {path}"
        assert answer.status_code < 500, f"{method} {path}"


def test_without_a_token_set_nobody_is_asked(client: TestClient) -> None:
    assert client.get("/v1/searches").status_code == 200
    assert client.get("/v1/session").json() == {"required": False, "open": True}


def test_the_page_and_probes_are_open_but_say_nothing(guarded: TestClient) -> None:
    for path in ("/", "/assets/plotly.min.js", "/healthz", "/readyz"):
        assert guarded.get(path).status_code == 200


def test_a_browser_trades_the_token_for_a_cookie(guarded: TestClient) -> None:
    assert guarded.get("/v1/session").json() == {"required": True, "open": False}
    wrong = guarded.post("/v1/session", json={"token": "guess"})
    assert wrong.status_code == 401
    problem_of(wrong)
    answer = guarded.post("/v1/session", json={"token": TOKEN})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert guarded.get("/v1/searches").status_code == 200
    assert guarded.get("/v1/session").json()["open"]
    assert guarded.delete("/v1/session").status_code == 204
    assert guarded.get("/v1/searches").status_code == 401


def test_a_session_ends_by_itself_and_with_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(SecretStr(TOKEN))
    cookie = sessions.open()
    assert sessions.accepts_cookie(cookie)
    assert not Sessions(SecretStr(TOKEN + "new")).accepts_cookie(cookie)
    later = time.time() + 31 * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert not sessions.accepts_cookie(cookie)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
    ],
)
def test_pages_of_other_origins_cannot_change_anything(
    client: TestClient, guarded: TestClient, document: Any, headers: dict[str, str]
) -> None:
    guarded.post("/v1/session", json={"token": TOKEN})
    for caller in (client, guarded):
        answer = caller.post("/v1/searches", json=document, headers=headers)
        assert answer.status_code == 403
        problem_of(answer)
    assert guarded.post("/v1/searches", json=document, headers=headers | BEARER).status_code == 201


@pytest.mark.parametrize(
    "headers", [{}, {"sec-fetch-site": "same-origin"}, {"origin": "http://127.0.0.1"}]
)
def test_control_our_own_page_can(
    client: TestClient, document: Any, headers: dict[str, str]
) -> None:
    assert client.post("/v1/searches", json=document, headers=headers).status_code == 201


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::2]"])
def test_a_loopback_server_answers_to_its_own_names_only(client: TestClient, host: str) -> None:
    answer = client.get("/v1/searches", headers={"host": host})
    assert answer.status_code == 400
    problem_of(answer)


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1:1", "[::1]:8765", "LOCALHOST"])
def test_control_its_own_names_are_accepted(client: TestClient, host: str) -> None:
    assert client.get("/v1/searches", headers={"host": host}).status_code == 200


def test_an_exposed_server_can_be_told_its_names(
    settings: Settings, store: Store, artifacts: Artifacts
) -> None:
    exposed = Settings(
        home=settings.home, host="0.0.0.0", api_token=TOKEN, allowed_hosts=("merge.example",)
    )
    app = create_app(exposed, store, artifacts=artifacts, check=accept)
    with TestClient(app, "http://merge.example") as named:
        assert named.get("/healthz").status_code == 200
        assert named.get("/healthz", headers={"host": "other.example"}).status_code == 400


def test_the_token_is_in_no_answer_and_no_log(
    guarded: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    texts = [
        guarded.request(method, path, headers=BEARER).text
        for method, path in operations(guarded)
        if not path.endswith("/events")
    ]
    assert all(TOKEN not in text for text in texts)
    assert TOKEN not in caplog.text
