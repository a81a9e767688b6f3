"""The REST API from Python: for notebooks, scripts and the command line."""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from httpx_sse import SSEError, connect_sse
from pydantic import BaseModel, TypeAdapter, ValidationError

from api.problem_details import ProblemDetails
from api.schemas import (
    OVER,
    CandidateDetail,
    CandidatePage,
    CandidateView,
    CheckpointView,
    EventView,
    FileView,
    FrontView,
    MethodView,
    ModelView,
    OptimizerView,
    SearchDetail,
    SearchPage,
    SearchView,
    SideBySideView,
    TaskView,
    Validation,
)
from workers.messages import MODEL, Form

DEFAULT_URL = "http://127.0.0.1:8765"

# A plain name, or one in a folder (additional_chat_templates); neither leads anywhere else.
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,95}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_CHUNK_BYTES = 1 << 20
# The server says something at least every 15 seconds.
_SILENCE_S = 45.0

_View = TypeVar("_View", bound=BaseModel)
Spec = Mapping[str, Any] | str


class ServerProblem(RuntimeError):
    """The server said no; ``problem`` says why, field by field."""

    def __init__(self, problem: ProblemDetails) -> None:
        self.problem = problem
        super().__init__(problem.detail)


class Unreachable(ConnectionError):
    """No server answers at the address."""


class Damaged(RuntimeError):
    """A downloaded file is not what the manifest says, even on a second try."""


class Client:
    """A connection to one service.

    Args:
        url: of the service.
        token: the API token, where the service asks for one.
        timeout_s: for an answer to begin; validation of a large spec may take seconds.
        patience_s: how long `watch` and `download` try to resume a broken connection.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: str | None = None,
        *,
        timeout_s: float = 60.0,
        patience_s: float = 60.0,
    ) -> None:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self.url = url.rstrip("/")
        self._patience_s = patience_s
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=timeout_s,
            transport=httpx.HTTPTransport(retries=2),
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def validate(self, spec: Spec) -> Validation:
        """What is wrong with a spec, and what it would cost."""
        return self._post(Validation, "/v1/searches:validate", **_body(spec))

    def submit(self, spec: Spec, *, key: str | None = None) -> SearchDetail:
        """Submit a search.

        Args:
            spec: a mapping, or the text of a YAML or JSON file.
            key: the same key and spec give the same search; a new one by default.
        """
        request = _body(spec)
        request["headers"]["idempotency-key"] = key or uuid.uuid4().hex
        return self._post(SearchDetail, "/v1/searches", **request)

    def search(self, search_id: str) -> SearchDetail:
        """One search."""
        return self._get(SearchDetail, f"/v1/searches/{search_id}")

    def searches(self) -> Iterator[SearchView]:
        """All searches, newest first."""
        cursor: str | None = None
        while True:
            page = self._get(SearchPage, "/v1/searches", {"cursor": cursor} if cursor else {})
            yield from page.items
            if (cursor := page.next) is None:
                return

    def candidates(self, search_id: str, *, after: int = -1) -> Iterator[CandidateView]:
        """Candidates by ordinal."""
        path = f"/v1/searches/{search_id}/candidates"
        while True:
            page = self._get(CandidatePage, path, {"after": after, "limit": 500})
            yield from page.items
            if page.next is None:
                return
            after = page.next

    def candidate(self, search_id: str, ordinal: int) -> CandidateDetail:
        """One candidate with its recipe."""
        return self._get(CandidateDetail, f"/v1/searches/{search_id}/candidates/{ordinal}")

    def front(self, search_id: str, objectives: Iterable[str] = ()) -> FrontView:
        """The nondominated candidates, in all objectives or in some (``task/metric``)."""
        keys = ",".join(objectives)
        return self._get(
            FrontView, f"/v1/searches/{search_id}/front", {"objectives": keys} if keys else {}
        )

    def best(self, search_id: str, weights: Mapping[str, float] | None = None) -> CandidateView:
        """The candidate that a preference picks; the spec's by default."""
        text = ",".join(f"{key}={weight}" for key, weight in (weights or {}).items())
        return self._get(
            CandidateView, f"/v1/searches/{search_id}/best", {"weights": text} if text else {}
        )

    def command(self, search_id: str, kind: str, *, evaluations: int | None = None) -> SearchView:
        """Pause, resume, extend (by so many evaluations) or cancel."""
        order = (
            {"kind": kind} if evaluations is None else {"kind": kind, "evaluations": evaluations}
        )
        return self._post(SearchView, f"/v1/searches/{search_id}/commands", json=order)

    def watch(self, search_id: str, *, after: int = 0) -> Iterator[EventView]:
        """The log as it grows, until the search is over; resumed where a connection breaks.

        Raises:
            Unreachable: the server stayed away for longer than ``patience_s``.
        """
        seen, deadline = after, time.monotonic() + self._patience_s
        while not self._is_over(search_id, seen, deadline):
            for event in self._stream(search_id, seen):
                yield event
                seen, deadline = event.seq, time.monotonic() + self._patience_s
                if event.state in OVER and self._is_over(search_id, seen, deadline):
                    return
            time.sleep(0.5)

    def checkpoint(self, search_id: str, ordinal: int, *, form: Form = MODEL) -> CheckpointView:
        """State and files of a checkpoint."""
        return self._get(CheckpointView, _checkpoint(search_id, ordinal), _which(form))

    def request_checkpoint(
        self,
        search_id: str,
        ordinal: int,
        *,
        form: Form = MODEL,
        wait: bool = False,
        poll_s: float = 0.5,
    ) -> CheckpointView:
        """Ask for a candidate's checkpoint; with ``wait``, until it is stored or failed.

        Args:
            search_id: of the search.
            ordinal: of the candidate.
            form: a whole model, or ``Form(kind="adapter", rank=8)`` where the parents are adapters.
            wait: for it.
            poll_s: between two looks.
        """
        asked = form.model_dump()
        view = self._post(CheckpointView, _checkpoint(search_id, ordinal), json=asked)
        while wait and view.state == "requested":
            time.sleep(poll_s)
            view = self.checkpoint(search_id, ordinal, form=form)
        return view

    def download(
        self,
        search_id: str,
        ordinal: int,
        folder: Path,
        *,
        form: Form = MODEL,
        told: Callable[[str, int], None] = lambda _name, _bytes: None,
    ) -> list[Path]:
        """Download a stored checkpoint; whatever is there already is kept or resumed.

        Every file is written under a partial name, compared with the manifest's sha256, flushed to
        the disk and renamed.

        Args:
            search_id: of the search.
            ordinal: of the candidate.
            folder: is made where it does not exist.
            form: that was requested.
            told: is called with a name and the bytes that just arrived.

        Raises:
            Damaged: a file does not have the sha256 of the manifest.
            Unreachable: the server stayed away for longer than ``patience_s``.
        """
        files = self.checkpoint(search_id, ordinal, form=form).files
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, facts in files.items():
            if _NAME.fullmatch(name) is None:
                raise Damaged(f"the manifest names a file {name!r}, which is no plain name")
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            if not (path.is_file() and _sha256(path) == facts.sha256):
                url = httpx.URL(
                    f"{_checkpoint(search_id, ordinal)}/files/{name}", params=_which(form)
                )
                self._download(url, path, facts, told)
            paths.append(path)
        return paths

    def examples(
        self,
        search_id: str,
        path: Path,
        *,
        candidates: Iterable[int] = (),
        split: str | None = None,
    ) -> int:
        """Download every example's score as a Parquet file; returns its size in bytes.

        Args:
            search_id: of the search.
            path: of the file; what is there before is replaced when all has arrived.
            candidates: only of these; of all when empty.
            split: only search, select or report.
        """
        listed = ",".join(map(str, candidates))
        query = {"candidates": listed, "split": split}
        query = {name: value for name, value in query.items() if value}
        partial = path.with_name(path.name + ".partial")
        url = f"/v1/searches/{search_id}/examples.parquet"
        try:
            with self._http.stream("GET", url, params=query) as response:
                if not response.is_success:
                    response.read()
                    _check(response)
                with partial.open("wb") as file:
                    for chunk in response.iter_bytes(_CHUNK_BYTES):
                        file.write(chunk)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        partial.replace(path)
        return path.stat().st_size

    def compare(
        self, search_id: str, ordinal: int, baseline: int, *, split: str = "search", limit: int = 20
    ) -> SideBySideView:
        """The examples that a candidate wins and loses against another."""
        path = f"/v1/searches/{search_id}/candidates/{ordinal}/comparison"
        return self._get(
            SideBySideView, path, {"baseline": baseline, "split": split, "limit": limit}
        )

    def methods(self) -> list[MethodView]:
        """Merge methods."""
        return self._list(MethodView, "/v1/methods")

    def optimizers(self) -> list[OptimizerView]:
        """Optimizers."""
        return self._list(OptimizerView, "/v1/optimizers")

    def tasks(self) -> list[TaskView]:
        """Tasks that can be objectives."""
        return self._list(TaskView, "/v1/tasks")

    def models(self) -> list[ModelView]:
        """Models below the server's roots."""
        return self._list(ModelView, "/v1/models")

    def ready(self) -> bool:
        """Whether the service answers and can read its log."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def _get(self, view: type[_View], path: str, query: Mapping[str, Any] | None = None) -> _View:
        return view.model_validate_json(self._send("GET", path, params=query).content)

    def _post(self, view: type[_View], path: str, **request: Any) -> _View:
        return view.model_validate_json(self._send("POST", path, **request).content)

    def _list(self, view: type[_View], path: str) -> list[_View]:
        return TypeAdapter(list[view]).validate_json(self._send("GET", path).content)  # type: ignore[valid-type]  # a type made at run time

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        _check(response)
        return response

    def _unreachable(self, error: httpx.TransportError) -> Unreachable:
        reason = str(error) or type(error).__name__
        return Unreachable(f"no nichemerge server answers at {self.url} ({reason})")

    def _is_over(self, search_id: str, seen: int, deadline: float) -> bool:
        """Whether nothing is left to watch; waits for the server until the deadline."""
        while True:
            try:
                search = self.search(search_id)
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return search.state in OVER and search.seq <= seen

    def _stream(self, search_id: str, after: int) -> Iterator[EventView]:
        """Events until the connection ends, for whatever reason."""
        path = f"/v1/searches/{search_id}/events"
        timeout = httpx.Timeout(self._http.timeout.connect, read=_SILENCE_S)
        try:
            with connect_sse(
                self._http, "GET", path, params={"after": after}, timeout=timeout
            ) as source:
                if not source.response.is_success:
                    source.response.read()
                    _check(source.response)
                for message in source.iter_sse():
                    if message.data:
                        yield EventView.model_validate_json(message.data)
        except (httpx.TransportError, SSEError):
            return

    def _download(
        self, path: httpx.URL, target: Path, facts: FileView, told: Callable[[str, int], None]
    ) -> None:
        partial = target.with_name(target.name + ".partial")
        for _ in range(2):
            self._fill(path, partial, facts, lambda count: told(target.name, count))
            if _sha256(partial) == facts.sha256:
                partial.replace(target)
                _flush_folder(target.parent)
                return
            partial.unlink()
        raise Damaged(f"{target.name} does not have the sha256 of the manifest; nothing was kept")

    def _fill(
        self, path: httpx.URL, partial: Path, facts: FileView, told: Callable[[int], None]
    ) -> None:
        """Append to a partial file until it has its size, over as many connections as it takes."""
        deadline = time.monotonic() + self._patience_s
        with partial.open("ab") as file:
            if file.tell() > facts.size_bytes:
                file.truncate(0)
            while (size := file.seek(0, os.SEEK_END)) < facts.size_bytes:
                headers = {"range": f"bytes={size}-", "if-range": f'"{facts.sha256}"'}
                try:
                    with self._http.stream("GET", path, headers=headers) as response:
                        if not response.is_success:
                            response.read()
                            _check(response)
                        if response.status_code != httpx.codes.PARTIAL_CONTENT:
                            file.truncate(0)
                        for chunk in response.iter_raw(_CHUNK_BYTES):
                            file.write(chunk)
                            told(len(chunk))
                            deadline = time.monotonic() + self._patience_s
                except httpx.TransportError as error:
                    if time.monotonic() > deadline:
                        raise self._unreachable(error) from error
                    time.sleep(0.5)
            file.flush()
            os.fsync(file.fileno())


def _checkpoint(search_id: str, ordinal: int) -> str:
    return f"/v1/searches/{search_id}/candidates/{ordinal}/checkpoint"


def _which(form: Form) -> dict[str, Any]:
    """A form as a query: nothing where it is the usual one."""
    return form.model_dump(exclude_defaults=True)


def _body(spec: Spec) -> dict[str, Any]:
    """A spec as arguments of a request."""
    if not isinstance(spec, str):
        return {"json": dict(spec), "headers": {}}
    is_json = spec.lstrip().startswith("{")
    media_type = "application/json" if is_json else "application/yaml"
    return {"content": spec.encode(), "headers": {"content-type": media_type}}


def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        problem = ProblemDetails.model_validate_json(response.content)
    except ValidationError:  # something between us and the service answered
        detail = f"{response.url} answered {response.status_code} {response.reason_phrase}"
        problem = ProblemDetails(
            title=response.reason_phrase, status=response.status_code, detail=detail
        )
    raise ServerProblem(problem)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
