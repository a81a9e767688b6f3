"""Checkpoints: request one, as a whole model or as an adapter, then download it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response

from api.artifacts import Manifest, artifact_digest
from api.downloads import file_response, tar_response
from api.problem_details import Refusal, documented
from api.progress import Checkpoint
from api.routes.candidates import entry_or_404
from api.routes.parameters import Ordinal, SearchId
from api.schemas import CheckpointView
from api.service import Here, Service
from api.store import Entry, Search
from api.views import adapters, checkpoint_view
from workers.checkpoints.lowrank import obstacles
from workers.messages import MODEL, Form

router = APIRouter(prefix="/searches/{search_id}/candidates/{ordinal}", tags=["checkpoints"])

# Which of a candidate's checkpoints: ``?kind=adapter&rank=8``; the whole model when not said.
Which = Annotated[Form, Query()]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"application/octet-stream": _BINARY}


@router.post(
    "/checkpoint",
    operation_id="requestCheckpoint",
    status_code=202,
    responses=documented(404, 409),
)
def request_checkpoint(
    search_id: SearchId, ordinal: Ordinal, here: Here, form: Annotated[Form, Body()] = MODEL
) -> CheckpointView:
    """Ask for a candidate's weights: a whole model, or where it can be one a LoRA adapter.

    Asking again changes nothing, unless the last attempt failed or its files are gone.
    """
    while True:
        entry, search, checkpoint, seq = _read(here, search_id, ordinal, form)
        if entry.outcome is None:
            raise Refusal(409, f"Candidate {ordinal} is not scored yet.")
        if entry.outcome.kind == "infeasible":
            raise Refusal(409, f"Candidate {ordinal} is infeasible; it has no weights.")
        if form.kind == "adapter":
            _require_adapter(entry, search)
        if checkpoint is not None and not _is_lost(here, search_id, entry, form, checkpoint):
            return checkpoint_view(entry, search, form, checkpoint)
        body = {"form": form.model_dump()}
        here.store.append(search_id, "checkpoint_requested", body, ordinal=ordinal, after=seq)


@router.get("/checkpoint", operation_id="getCheckpoint", responses=documented(404))
def show_checkpoint(
    search_id: SearchId, ordinal: Ordinal, here: Here, form: Which
) -> CheckpointView:
    """State and files of a checkpoint."""
    entry, search, checkpoint, _ = _read(here, search_id, ordinal, form)
    if checkpoint is None:
        raise _never_requested(ordinal, form)
    return checkpoint_view(entry, search, form, checkpoint)


@router.get(
    "/checkpoint/files/{name:path}",
    operation_id="downloadFile",
    response_class=Response,
    responses={
        200: {"description": "The whole file; its ETag is its sha256.", "content": _FILE},
        206: {"description": "The range that was asked for.", "content": _FILE},
        304: {"description": "As it was."},
        **documented(404, 409, 410, 416),
    },
)
@router.head(
    "/checkpoint/files/{name:path}",
    operation_id="headFile",
    response_class=Response,
    responses=documented(404, 409, 410, 416),
)
def download_file(
    search_id: SearchId, ordinal: Ordinal, name: str, request: Request, here: Here, form: Which
) -> Response:
    """One file of a checkpoint; resumable with Range and If-Range."""
    entry, files = _stored(here, search_id, ordinal, form)
    digest = artifact_digest(search_id, entry.digest, form)
    return file_response(request, here.artifacts, digest, name, files)


@router.get(
    "/checkpoint.tar",
    operation_id="downloadTar",
    response_class=Response,
    responses={
        200: {"description": "The whole folder.", "content": {"application/x-tar": _BINARY}},
        **documented(404, 409, 410),
    },
)
@router.head(
    "/checkpoint.tar",
    operation_id="headTar",
    response_class=Response,
    responses=documented(404, 409),
)
def download_tar(
    search_id: SearchId, ordinal: Ordinal, request: Request, here: Here, form: Which
) -> Response:
    """A checkpoint as one tar stream of known length."""
    entry, files = _stored(here, search_id, ordinal, form)
    name = f"{here.store.search(search_id).spec.name}-{ordinal}"
    digest = artifact_digest(search_id, entry.digest, form)
    called = name if form == MODEL else f"{name}-{form}"
    return tar_response(request, here.artifacts, digest, files, called)


def _read(
    here: Service, search_id: str, ordinal: int, form: Form
) -> tuple[Entry, Search, Checkpoint | None, int]:
    with here.readings.open(search_id) as reading:
        progress, search = reading.progress, reading.search
        checkpoint, seq = progress.checkpoints.get((ordinal, form)), progress.seq
    return entry_or_404(here, search_id, ordinal), search, checkpoint, seq


def _require_adapter(entry: Entry, search: Search) -> None:
    if problems := obstacles(entry.candidate.recipe, adapters(search)):
        detail = f"Candidate {entry.candidate.ordinal} is no LoRA adapter."
        raise Refusal(409, detail, errors=problems)


def _stored(here: Service, search_id: str, ordinal: int, form: Form) -> tuple[Entry, Manifest]:
    """A candidate whose checkpoint can be downloaded, and its files."""
    entry, _, checkpoint, _ = _read(here, search_id, ordinal, form)
    if checkpoint is None:
        raise _never_requested(ordinal, form)
    if checkpoint.state == "failed":
        raise Refusal(409, f"The checkpoint failed: {checkpoint.body.get('reason', 'unknown')}")
    if checkpoint.state == "requested":
        raise Refusal(409, "The checkpoint is still being made.", headers={"Retry-After": "2"})
    return entry, _manifest(checkpoint)


def _is_lost(
    here: Service, search_id: str, entry: Entry, form: Form, checkpoint: Checkpoint
) -> bool:
    """Whether a request has come to nothing, or what came of it is no longer there."""
    if checkpoint.state == "stored":
        digest = artifact_digest(search_id, entry.digest, form)
        return not here.artifacts.holds(digest, _manifest(checkpoint))
    return checkpoint.state == "failed"


def _manifest(checkpoint: Checkpoint) -> Manifest:
    """The files of a stored checkpoint."""
    files = checkpoint.body["files"]
    return {name: (sha256, size) for name, (sha256, size) in files.items()}


def _never_requested(ordinal: int, form: Form) -> Refusal:
    what = f"The checkpoint of candidate {ordinal}" + ("" if form == MODEL else f" as {form}")
    return Refusal(404, f"{what} was never requested; POST to it.")
