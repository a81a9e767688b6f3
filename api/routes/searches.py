"""Searches: submit, validate, list, look at, command, watch."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from api.continuing import pinned, unknown
from api.documents import parse_json, parse_yaml
from api.events import TooManyViewers
from api.preflight_views import preflight_fields
from api.problem_details import Refusal, documented
from api.progress import FINAL, Progress
from api.reading import Reading
from api.routes.parameters import AfterSeq, Limit, SearchId
from api.schemas import (
    OVER,
    CandidateView,
    Command,
    EventView,
    FrontView,
    SearchDetail,
    SearchPage,
    SearchView,
    Validation,
)
from api.service import Here, Service
from api.validation import Accepted
from api.views import candidate_view, front_view, search_detail, search_view
from search.problems import Invalid, Problem
from search.registry import suggestion
from search.spec import SearchSpec

router = APIRouter(tags=["searches"])

_MOST_EVALUATIONS = 1_000_000

_SPEC_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A search spec, as JSON or YAML.",
        "content": {
            media_type: {"schema": {"$ref": "#/components/schemas/SearchSpec"}}
            for media_type in ("application/json", "application/yaml")
        },
    }
}


async def _document(request: Request) -> object:
    """The body of a request as a plain document."""
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    body = await request.body()
    match media_type.lower():
        case "application/json":
            return parse_json(body)
        case "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml":
            return await run_in_threadpool(parse_yaml, body)
        case _:
            raise Refusal(415, f"Send application/json or application/yaml, not '{media_type}'.")


@router.post(
    "/searches",
    operation_id="submitSearch",
    status_code=201,
    responses={
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **documented(413, 415),
    },
    openapi_extra=_SPEC_BODY,
)
async def submit(
    request: Request,
    response: Response,
    here: Here,
    idempotency_key: Annotated[
        str | None,
        Header(description="repeat a request safely: same key, same search", max_length=200),
    ] = None,
) -> SearchDetail:
    """Submit a search; it starts by itself."""
    document = await _document(request)
    detail = await run_in_threadpool(_submit, here, document, idempotency_key)
    response.headers["location"] = request.url_for("show_search", search_id=detail.id).path
    return detail


def _submit(here: Service, document: object, key: str | None) -> SearchDetail:
    accepted = _accepted(here, document)
    search_id = here.store.create_search(accepted.submission, idempotency_key=key)
    return _detail(here, search_id)


def _accepted(here: Service, document: object) -> Accepted:
    """What is submitted, with what it continues looked up; or Invalid."""
    problems = list(unknown(document, here.store))
    try:
        accepted = here.check(document)
    except Invalid as invalid:
        raise Invalid([*invalid.problems, *problems]) from None
    if problems:
        raise Invalid(problems)
    continues = accepted.submission.spec.continues
    if continues is None:
        return accepted
    with here.readings.open(continues.search) as reading:
        earlier, measured = reading.search, reading.progress.complete
    return replace(accepted, submission=pinned(accepted.submission, earlier, measured))


@router.post(
    "/searches:validate",
    operation_id="validateSpec",
    responses=documented(413, 415),
    openapi_extra=_SPEC_BODY,
)
async def validate_spec(request: Request, here: Here) -> Validation:
    """Say everything that is wrong with a spec, and what it would cost; nothing is started."""
    document = await _document(request)
    return await run_in_threadpool(_validate, here, document)


def _validate(here: Service, document: object) -> Validation:
    try:
        accepted = _accepted(here, document)
    except Invalid as invalid:
        return Validation(valid=False, problems=list(invalid.problems))
    return Validation(
        valid=True,
        problems=[],
        warnings=list(accepted.warnings),
        genes=accepted.genes,
        **preflight_fields(accepted.preflight, accepted.needs),
    )


@router.get("/searches", operation_id="listSearches", responses=documented())
def list_searches(
    here: Here,
    cursor: Annotated[
        str | None, Query(description="`next` of the page before", max_length=64)
    ] = None,
    limit: Limit = 50,
) -> SearchPage:
    """All searches, newest first."""
    found = here.store.searches(before=cursor, limit=limit + 1)
    views = []
    for search in found[:limit]:
        with here.readings.open(search.id) as reading:
            views.append(search_view(reading, here.readings, here.store.proposed(search.id)))
    return SearchPage(items=views, next=found[limit - 1].id if len(found) > limit else None)


@router.get(
    "/searches/{search_id}", operation_id="getSearch", responses=documented(404), name="show_search"
)
def show_search(search_id: SearchId, here: Here) -> SearchDetail:
    """One search: spec, state, progress, best, front size, hypervolume, baselines."""
    return _detail(here, search_id)


def _detail(here: Service, search_id: str) -> SearchDetail:
    with here.readings.open(search_id) as reading:
        return search_detail(reading, here.readings, here.store.proposed(search_id))


@router.post(
    "/searches/{search_id}/commands", operation_id="commandSearch", responses=documented(404, 409)
)
def command(search_id: SearchId, order: Command, here: Here) -> SearchView:
    """Pause, resume, extend or cancel; appended to the log. Saying it twice changes nothing."""
    body = _command_body(order)
    while True:
        with here.readings.open(search_id) as reading:
            if _changes_nothing(order, reading.progress):
                return search_view(reading, here.readings, here.store.proposed(search_id))
            # Decided from this log: written only if nothing came in between.
            seq = reading.progress.seq
            if here.store.append(search_id, order.kind, body, after=seq) is not None:
                reading.catch_up(here.store)
                return search_view(reading, here.readings, here.store.proposed(search_id))


def _command_body(order: Command) -> dict[str, int]:
    if order.kind != "extend":
        if order.evaluations is not None:
            raise _field("evaluations", f"only belongs to extend, not to {order.kind}")
        return {}
    if order.evaluations is None or not 1 <= order.evaluations <= _MOST_EVALUATIONS:
        raise _field("evaluations", f"say how many more, from 1 to {_MOST_EVALUATIONS}")
    return {"evaluations": order.evaluations}


def _changes_nothing(order: Command, progress: Progress) -> bool:
    """Whether a command would leave the search as it is; a refusal where that cannot be meant."""
    state = progress.state
    match order.kind:
        case "cancel":
            if state in ("finished", "failed"):
                raise Refusal(409, f"The search is {state}; there is nothing to cancel.")
            return state == "cancelled"
        case "extend":
            if state in FINAL:
                raise Refusal(409, f"The search is {state}; submit a new one instead.")
            if progress.evaluations + (order.evaluations or 0) > _MOST_EVALUATIONS:
                raise _field("evaluations", f"the budget may not exceed {_MOST_EVALUATIONS}")
            return False
        case "pause" | "resume":
            if state in OVER:
                raise Refusal(409, f"The search is {state}; it cannot {order.kind}.")
            return (state == "paused") == (order.kind == "pause")


@router.get("/searches/{search_id}/front", operation_id="getFront", responses=documented(404))
def front(
    search_id: SearchId,
    here: Here,
    objectives: Annotated[
        str | None, Query(description="keys (task/metric), by comma; all when silent")
    ] = None,
) -> FrontView:
    """The candidates that no other dominates, in all objectives or in some."""
    with here.readings.open(search_id) as reading:
        known = [objective.key for objective in reading.search.spec.objectives]
        keys = known if objectives is None else list(dict.fromkeys(objectives.split(",")))
        _check_keys(keys, known, "objectives")
        return front_view(reading, here.readings, keys)


@router.get("/searches/{search_id}/best", operation_id="getBest", responses=documented(404))
def best(
    search_id: SearchId,
    here: Here,
    weights: Annotated[
        str | None,
        Query(description="key=weight, by comma; 0 for the others. Those of the spec when silent"),
    ] = None,
) -> CandidateView:
    """The candidate that a preference picks, on examples that the search never saw.

    Finalists and baselines are compared on the select split; while there are none, the front is on
    the search split. `reported` says what it scores on the report split, where that was measured.
    """
    with here.readings.open(search_id) as reading:
        wanted = None if weights is None else _weights(weights, reading)
        ordinal = reading.best(wanted)
        entry = None if ordinal is None else here.readings.entry(search_id, ordinal)
        if entry is None:
            raise Refusal(404, "Nothing is scored yet.")
        return candidate_view(entry, reading, on_front=ordinal in reading.standings.front)


def _weights(text: str, reading: Reading) -> dict[str, float]:
    """``a/acc=1,b/acc=0.5`` as numbers."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        key, _, number = part.rpartition("=")
        try:
            weights[key] = float(number)
        except ValueError:
            raise _field("weights", f"expected key=number, not '{part}'") from None
        if not 0 <= weights[key] < float("inf"):
            raise _field("weights", f"{number} is no weight; weights are finite, not negative")
    known = [objective.key for objective in reading.search.spec.objectives]
    _check_keys(weights, known, "weights")
    if not any(weights.values()):
        raise _field("weights", "at least one weight must be above 0")
    return weights


def _check_keys(keys: Any, known: list[str], field: str) -> None:
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise Invalid(
            [
                Problem(field=field, message=f"no objective is '{key}'; {suggestion(key, known)}")
                for key in unknown
            ]
        )


def _field(field: str, message: str) -> Invalid:
    return Invalid([Problem(field=field, message=message)])


@router.get(
    "/searches/{search_id}/events",
    operation_id="watchSearch",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: `id` is the seq, `data` an EventView.",
            "content": {
                "text/event-stream": {"schema": {"$ref": "#/components/schemas/EventView"}}
            },
        },
        **documented(404),
    },
)
async def watch(
    search_id: SearchId,
    here: Here,
    after: AfterSeq = None,
    last_event_id: Annotated[
        str | None, Header(description="where a broken stream left off; wins over `after`")
    ] = None,
) -> StreamingResponse:
    """The log as it grows, from `after` on; resumable, and open until the client leaves."""
    await run_in_threadpool(here.store.search, search_id)
    start = after or 0
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
        start = min(int(last_event_id[:16]), 2**53)
    try:
        here.feeds.reserve()
    except TooManyViewers:
        message = "Too many streams are open; ask for the search itself instead."
        raise Refusal(503, message, headers={"Retry-After": "30"}) from None
    return StreamingResponse(
        here.feeds.stream(search_id, start),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


# Named in a response by reference only, so that FastAPI would not know of them.
DESCRIBED = (SearchSpec, EventView)
