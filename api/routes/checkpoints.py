"""Checkpoints: request one, then download it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.artifacts import Manifest, artifact_digest
from api.downloads import file_response, tar_response
from api.problem_details import Refusal, documented
from api.progress import Checkpoint
from api.routes.candidates import entry_or_404
from api.routes.parameters import Ordinal, SearchId
from api.schemas import CheckpointView
from api.service import Here, Service
from api.store import Entry, Search
from api.views import checkpoint_view

router = APIRouter(prefix="/searches/{search_id}/candidates/{ordinal}", tags=["checkpoints"])

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"application/octet-stream": _BINARY}


@router.post(
    "/checkpoint",
    operation_id="requestCheckpoint",
    status_code=202,
    responses=documented(404, 409),
)
def request_checkpoint(search_id: SearchId, ordinal: Ordinal, here: Here) -> CheckpointView:
    """Ask for a candidate's weights.

    Asking again changes nothing, unless the last attempt failed or its files are gone.
    """
    while True:
        entry, search, checkpoint, seq = _read(here, search_id, ordinal)
        if entry.outcome is None:
            raise Refusal(409, f"Candidate {ordinal} is not scored yet.")
        if entry.outcome.kind == "infeasible":
            raise Refusal(409, f"Candidate {ordinal} is infeasible; it has no weights.")
        if checkpoint is not None and not _is_lost(here, search_id, entry, checkpoint):
            return checkpoint_view(entry, search, checkpoint)
        here.store.append(search_id, "checkpoint_requested", ordinal=ordinal, after=seq)


@router.get("/checkpoint", operation_id="getCheckpoint", responses=documented(404))
def show_checkpoint(search_id: SearchId, ordinal: Ordinal, here: Here) -> CheckpointView:
    """State and files of a checkpoint."""
    entry, search, checkpoint, _ = _read(here, search_id, ordinal)
    if checkpoint is None:
        raise _never_requested(ordinal)
    return checkpoint_view(entry, search, checkpoint)


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
    search_id: SearchId, ordinal: Ordinal, name: str, request: Request, here: Here
) -> Response:
    """One file of a checkpoint; resumable with Range and If-Range."""
    entry, files = _stored(here, search_id, ordinal)
    digest = artifact_digest(search_id, entry.digest)
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
def download_tar(search_id: SearchId, ordinal: Ordinal, request: Request, here: Here) -> Response:
    """A checkpoint as one tar stream of known length."""
    entry, files = _stored(here, search_id, ordinal)
    name = here.store.search(search_id).spec.name
    digest = artifact_digest(search_id, entry.digest)
    return tar_response(request, here.artifacts, digest, files, f"{name}-{ordinal}")


def _read(
    here: Service, search_id: str, ordinal: int
) -> tuple[Entry, Search, Checkpoint | None, int]:
    with here.readings.open(search_id) as reading:
        progress, search = reading.progress, reading.search
        checkpoint, seq = progress.checkpoints.get(ordinal), progress.seq
    return entry_or_404(here, search_id, ordinal), search, checkpoint, seq


def _stored(here: Service, search_id: str, ordinal: int) -> tuple[Entry, Manifest]:
    """A candidate whose checkpoint can be downloaded, and its files."""
    entry, _, checkpoint, _ = _read(here, search_id, ordinal)
    if checkpoint is None:
        raise _never_requested(ordinal)
    if checkpoint.state == "failed":
        raise Refusal(409, f"The checkpoint failed: {checkpoint.body.get('reason', 'unknown')}")
    if checkpoint.state == "requested":
        raise Refusal(409, "The checkpoint is still being made.", headers={"Retry-After": "2"})
    return entry, _manifest(checkpoint)


def _is_lost(here: Service, search_id: str, entry: Entry, checkpoint: Checkpoint) -> bool:
    """Whether a request has come to nothing, or what came of it is no longer there."""
    if checkpoint.state == "stored":
        digest = artifact_digest(search_id, entry.digest)
        return not here.artifacts.holds(digest, _manifest(checkpoint))
    return checkpoint.state == "failed"


def _manifest(checkpoint: Checkpoint) -> Manifest:
    """The files of a stored checkpoint."""
    files = checkpoint.body["files"]
    return {name: (sha256, size) for name, (sha256, size) in files.items()}


def _never_requested(ordinal: int) -> Refusal:
    return Refusal(404, f"The checkpoint of candidate {ordinal} was never requested; POST to it.")
