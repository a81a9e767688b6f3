"""The REST API without anything behind it: the routes that the dashboard calls, and its files."""

from __future__ import annotations

import asyncio
import contextlib
import io
import tarfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import uvicorn
import yaml
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse

import api
from api.schemas import (
    CandidateDetail,
    CandidatePage,
    CandidateView,
    CheckpointView,
    Command,
    FrontView,
    MethodView,
    MetricView,
    ModelView,
    NeedsView,
    OptimizerView,
    ParameterView,
    SearchDetail,
    SearchPage,
    SideBySideView,
    TaskView,
    Validation,
)
from search.problems import Invalid, Problem
from search.registry import UnknownName
from search.spec import SearchSpec, parse_spec
from tests.api.dashboard.fake_search import FakeSearch, RecipeForm, file_content
from workers.checkpoints.model_facts import Copied
from workers.messages import Form

POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
DASHBOARD = Path(api.__file__).with_name("dashboard")
PLOTLY = Path(str(files("plotly") / "package_data" / "plotly.min.js"))


class FakeService:
    """What the service knows.

    Args:
        token: asked of every call where it is given.
        pace_s: seconds between two outcomes of a submitted search.
    """

    def __init__(self, *, token: str | None = None, pace_s: float = 0.05) -> None:
        self.token = token
        self.pace_s = pace_s
        self.searches: dict[str, FakeSearch] = {}
        self.keys: dict[str, str] = {}
        self.tasks = list(_TASKS)
        self.closing = threading.Event()

    def add(
        self,
        spec: SearchSpec,
        *,
        pace_s: float = 0.0,
        form: RecipeForm = "blocks",
        hostile: str = "",
    ) -> FakeSearch:
        identity = f"search-{len(self.searches) + 1}"
        search = FakeSearch(identity, spec, pace_s=pace_s, form=form, hostile=hostile)
        self.searches[identity] = search
        return search

    def problems(self, spec: SearchSpec) -> list[Problem]:
        """The few things that this service can find wrong."""
        known = [task.name for task in self.tasks]
        found = [
            Problem(field=f"objectives[{i}].task", message=unknown("task", objective.task, known))
            for i, objective in enumerate(spec.objectives)
            if objective.task not in known
        ]
        methods = [method.name for method in _METHODS]
        if spec.method not in methods:
            message = unknown("merge method", spec.method, methods)
            found.append(Problem(field="method", message=message))
        return found


def unknown(kind: str, name: str, known: list[str]) -> str:
    """What the registries say of such a name."""
    return str(UnknownName(kind, name, known))


@contextlib.contextmanager
def served(service: FakeService) -> Iterator[str]:
    """Serve on a free port of the loopback interface; yields the base URL."""
    config = uvicorn.Config(
        application(service), port=0, ws="none", lifespan="off", log_level="warning",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        service.closing.set()
        server.should_exit = True
        thread.join(timeout=10)


def application(service: FakeService) -> FastAPI:
    """The service as an ASGI application."""
    app = FastAPI(docs_url=None)
    _guard(app, service)
    _files(app)
    _searches(app, service)
    _candidates(app, service)
    _events(app, service)
    _checkpoints(app, service)
    _catalogues(app, service)
    return app


def _guard(app: FastAPI, service: FakeService) -> None:
    @app.middleware("http")
    async def policy(request: Request, follow: Any) -> Response:
        known = service.token is None or request.cookies.get("session") == service.token
        if request.url.path.startswith("/v1/") and request.url.path != "/v1/session" and not known:
            response: Response = _refused(401, "send the API token")
        else:
            for search in service.searches.values():
                search.advance()
            response = await follow(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.get("/v1/session")
    async def state(request: Request) -> dict[str, bool]:
        known = request.cookies.get("session") == service.token
        return {"required": service.token is not None, "open": service.token is None or known}

    @app.post("/v1/session")
    async def session(request: Request) -> Response:
        if (await request.json())["token"] != service.token:
            return _refused(401, "this is not the API token")
        response = Response(status_code=204)
        response.set_cookie("session", service.token or "", httponly=True, samesite="strict")
        return response


def _files(app: FastAPI) -> None:
    @app.get("/")
    async def index() -> FileResponse:
        return FileResponse(DASHBOARD / "index.html")

    @app.get("/assets/{name}")
    async def asset(name: str) -> FileResponse:
        path = PLOTLY if name == "plotly.min.js" else DASHBOARD / name
        if not path.is_file():
            raise HTTPException(404)
        return FileResponse(path)


def _searches(app: FastAPI, service: FakeService) -> None:
    @app.get("/v1/searches")
    async def listed() -> SearchPage:
        newest = [search.view() for search in reversed(service.searches.values())]
        return SearchPage(items=newest, next=None)

    @app.get("/v1/searches/{identity}")
    async def one(identity: str) -> SearchDetail:
        return _find(service, identity).detail()

    @app.post("/v1/searches:validate")
    async def validate(request: Request) -> Validation:
        try:
            spec = parse_spec(yaml.safe_load(await request.body()))
        except Invalid as error:
            return Validation(valid=False, problems=list(error.problems))
        problems = service.problems(spec)
        return Validation(
            valid=not problems, problems=problems, genes=84, parameters=1_830_000,
            memory_bytes=36_600_000, checkpoint_bytes=7_320_000,
            warnings=[Problem(field="parents[1].path", message="has no licence file")],
            copied=[Copied("a buffer", ("model.rotary.inv_freq",))],
            needs=NeedsView(
                place="mmap", host_bytes=7_320_000, mapped_bytes=29_280_000,
                host_free_bytes=16 * 2**30, device_bytes=0, device_free_bytes=0,
                directions_bytes=0, directions_kept_bytes=2 * 2**30,
                disk_bytes=7_320_000, disk_free_bytes=2**40, merge_s=0.004, forward_s=0.7,
                candidate_s=0.7, search_s=90, basis="0.04 GB merged at 10 GB/s",
            ),
        )  # fmt: skip

    @app.post("/v1/searches", status_code=201)
    async def submit(request: Request) -> Response:
        key = request.headers["Idempotency-Key"]
        if key not in service.keys:
            try:
                spec = parse_spec(yaml.safe_load(await request.body()))
                problems = service.problems(spec)
            except Invalid as error:
                problems = list(error.problems)
            if problems:
                return _refused(422, "The spec has problems.", problems)
            service.keys[key] = service.add(spec, pace_s=service.pace_s).id
        detail = service.searches[service.keys[key]].detail()
        return Response(detail.model_dump_json(), 201, media_type="application/json")

    @app.post("/v1/searches/{identity}/commands", status_code=202)
    async def command(identity: str, body: Command) -> None:
        _find(service, identity).command(body.kind, body.evaluations)


def _candidates(app: FastAPI, service: FakeService) -> None:
    @app.get("/v1/searches/{identity}/candidates")
    async def page(identity: str, after: int = -1, limit: int = 100) -> CandidatePage:
        rest = _find(service, identity).candidates()[after + 1 :]
        more = rest[limit - 1].ordinal if len(rest) > limit else None
        return CandidatePage(items=rest[:limit], next=more)

    @app.get("/v1/searches/{identity}/candidates/{ordinal}")
    async def one(identity: str, ordinal: int) -> CandidateDetail:
        found = _find(service, identity).candidate(ordinal)
        if found is None:
            raise HTTPException(404)
        return found

    @app.get("/v1/searches/{identity}/candidates/{ordinal}/comparison")
    async def comparison(identity: str, ordinal: int, baseline: int, split: str) -> SideBySideView:
        if split != "search":
            raise HTTPException(404)
        return _find(service, identity).compare(ordinal, baseline)

    @app.get("/v1/searches/{identity}/front")
    async def front(identity: str) -> FrontView:
        search = _find(service, identity)
        return FrontView(objectives=search.objectives, items=search.front())

    @app.get("/v1/searches/{identity}/best")
    async def best(identity: str, weights: str) -> CandidateView:
        numbers = dict(part.rsplit("=", 1) for part in weights.split(","))
        found = _find(service, identity).picked({k: float(v) for k, v in numbers.items()})
        if found is None:
            raise HTTPException(404)
        return found


def _events(app: FastAPI, service: FakeService) -> None:
    @app.get("/v1/searches/{identity}/events")
    async def events(request: Request, identity: str, after: int = 0) -> StreamingResponse:
        search = _find(service, identity)
        seen = int(request.headers.get("Last-Event-ID", after))
        return StreamingResponse(_stream(service, search, seen), media_type="text/event-stream")


async def _stream(service: FakeService, search: FakeSearch, seen: int) -> AsyncIterator[str]:
    yield ": hello\n\n"
    while not service.closing.is_set():
        search.advance()
        for event in search.events[seen:]:
            yield f"id: {event.seq}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"
            seen = event.seq
        await asyncio.sleep(0.05)


def _checkpoints(app: FastAPI, service: FakeService) -> None:
    path = "/v1/searches/{identity}/candidates/{ordinal}/checkpoint"

    @app.post(path, status_code=202)
    async def request_(identity: str, ordinal: int, form: Form) -> CheckpointView:
        return _find(service, identity).request_checkpoint(ordinal, form)

    @app.get(path)
    async def state(identity: str, ordinal: int, form: Annotated[Form, Query()]) -> CheckpointView:
        found = _find(service, identity).checkpoints.get((ordinal, form))
        if found is None:
            raise HTTPException(404)
        return found

    @app.get(path + "/files/{name}")
    async def file(identity: str, ordinal: int, name: str) -> Response:
        return Response(file_content(ordinal, name), media_type="application/octet-stream")

    @app.get(path + ".tar")
    async def archive(identity: str, ordinal: int, form: Annotated[Form, Query()]) -> Response:
        manifest = _find(service, identity).checkpoints[ordinal, form].files
        name = f"attachment; filename={identity}-{ordinal}.tar"
        return Response(
            _tar(ordinal, list(manifest)), media_type="application/x-tar",
            headers={"Content-Disposition": name},
        )  # fmt: skip


def _tar(ordinal: int, names: list[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            content = file_content(ordinal, name)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _catalogues(app: FastAPI, service: FakeService) -> None:
    @app.get("/v1/methods")
    async def methods() -> list[MethodView]:
        return _METHODS

    @app.get("/v1/optimizers")
    async def optimizers() -> list[OptimizerView]:
        return _OPTIMIZERS

    @app.get("/v1/tasks")
    async def tasks() -> list[TaskView]:
        return service.tasks

    @app.get("/v1/models")
    async def models() -> list[ModelView]:
        return _MODELS


def _find(service: FakeService, identity: str) -> FakeSearch:
    if identity not in service.searches:
        raise HTTPException(404, f"there is no search '{identity}'")
    return service.searches[identity]


def _refused(status: int, detail: str, problems: list[Problem] | None = None) -> JSONResponse:
    errors = [problem.model_dump() for problem in problems or []]
    body = {"title": "Refused", "status": status, "detail": detail, "errors": errors}
    return JSONResponse(body, status, media_type="application/problem+json")


def _parameter(name: str, description: str, *, high: float, per_parent: bool) -> ParameterView:
    return ParameterView(
        name=name, description=description, kind="float", per_parent=per_parent, per_block=True,
        default=1.0, low=0.0, high=high, minimum=0.0, maximum=None, log=False, choices=[],
    )  # fmt: skip


_METHODS = [
    MethodView(
        name="linear", summary="Weighted sum of the parents.", source="Wortsman et al. 2022",
        uses_base=False, minimum_parents=1, maximum_parents=None, cost="linear", presets={},
        parameters=[_parameter("weight", "share of each parent", high=1.5, per_parent=True)],
    ),
    MethodView(
        name="ties", summary="Trim, elect signs, and average what agrees.",
        source="Yadav et al. 2023", uses_base=True, minimum_parents=1, maximum_parents=None,
        cost="vote", presets={"paper": {"scope": "model"}},
        parameters=[
            _parameter("weight", "multiplies each task vector", high=1.5, per_parent=True),
            _parameter("density", "fraction of entries kept", high=1.0, per_parent=True),
            _parameter("lambda", "scales the merged task vector", high=2.0, per_parent=False),
        ],
    ),
]  # fmt: skip
_OPTIMIZERS = [
    OptimizerView(
        name="cma_es", summary="Adapts a Gaussian to where good merges lie.", source="Hansen 2016",
        options={"properties": {"sigma": {"description": "initial step, in spans of the space"}}},
    ),
    OptimizerView(
        name="m2n2", summary="An archive in which models compete for examples.",
        source="Abrantes et al. 2025",
        options={"properties": {"population": {"description": "size of the archive"}}},
    ),
]  # fmt: skip
_TASKS = [
    TaskView(
        name=name, output_type=kind, examples={"search": 200, "select": 200, "report": 300},
        metrics=[MetricView(name=metric, higher_is_better=metric != "bits_per_byte")],
    )
    for name, kind, metric in (
        ("nm_arith", "multiple_choice", "acc"), ("nm_string", "generate_until", "exact_match"),
        ("nm_facts", "multiple_choice", "acc"),
        ("nm_text", "loglikelihood_rolling", "bits_per_byte"),
    )
]  # fmt: skip
_MODELS = [
    *(
        ModelView(
            path=f"models/{name}", parameters=1_830_000, architecture="LlamaForCausalLM",
            dtype="float32",
        )
        for name in ("arith", "base", "facts", "string")
    ),
    ModelView(
        path="models/tuned-lora", parameters=20_000, architecture="LoRA", dtype="float32",
        adapter_of="models/base",
    ),
    ModelView(
        path="models/broken", parameters=None, architecture=None, dtype=None,
        problem="config.json is not JSON",
    ),
]  # fmt: skip
