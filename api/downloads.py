"""Files over HTTP that can be resumed: HEAD, one Range, If-Range, strong ETags."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import PurePosixPath

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from api.artifacts import Artifacts, Manifest, Missing, tar_size
from api.problem_details import Refusal

# One range only: a list of ranges is answered with the whole file, which RFC 9110 allows.
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
# A file never changes under its digest; still it is asked for with a token each time.
_CACHE = "private, max-age=31536000, immutable"


def file_response(
    request: Request, artifacts: Artifacts, digest: str, name: str, files: Manifest
) -> Response:
    """One file of a checkpoint, whole or in part.

    Raises:
        Refusal: 404 for a name that the manifest lacks, 416 for a range outside of the file, 410
            when the stored file is gone.
    """
    if name not in files:
        raise Refusal(404, f"This checkpoint has no file '{name}'.")
    sha256, size = files[name]
    headers = {
        "etag": f'"{sha256}"',
        "accept-ranges": "bytes",
        "cache-control": _CACHE,
        "content-disposition": f'attachment; filename="{PurePosixPath(name).name}"',
    }
    if _matches(request.headers.get("if-none-match"), headers["etag"]):
        return Response(status_code=304, headers=headers)
    status, start, stop = 200, 0, size
    if (part := _part(request, headers["etag"], size)) is not None:
        status, (start, stop) = 206, part
        headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["content-length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=_MEDIA_TYPE)
    body = _begun(artifacts.read(digest, name, start, stop))
    return StreamingResponse(body, status, headers, media_type=_MEDIA_TYPE)


_MEDIA_TYPE = "application/octet-stream"


def tar_response(
    request: Request, artifacts: Artifacts, digest: str, files: Manifest, prefix: str
) -> Response:
    """A whole checkpoint as one tar stream."""
    etag = hashlib.sha256(repr((prefix, sorted(files.items()))).encode()).hexdigest()
    headers = {
        "etag": f'"{etag}"',
        "cache-control": _CACHE,
        "content-disposition": f'attachment; filename="{prefix}.tar"',
        "content-length": str(tar_size(files, prefix)),
    }
    if request.method == "HEAD":
        return Response(headers=headers, media_type="application/x-tar")
    if not artifacts.holds(digest, files):
        raise Refusal(410, "Files of this checkpoint are gone; request it again.")
    return StreamingResponse(
        artifacts.tar(digest, files, prefix), headers=headers, media_type="application/x-tar"
    )


def _part(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """The bytes that a Range header asks for, or None for the whole file."""
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or not any(match.groups()):
        return None
    if request.headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if first:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    else:
        start, stop = max(0, size - int(last)), size
    if first and last and int(last) < int(first):
        return None
    if start >= size or start >= stop:
        raise Refusal(
            416,
            f"The file has {size} bytes; the range lies beyond them.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, stop


def _matches(header: str | None, etag: str) -> bool:
    tags = [] if header is None else [tag.strip() for tag in header.split(",")]
    return etag in tags or "*" in tags


def _begun(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Read the first chunk now, while a missing file can still be told to the client."""
    try:
        first = next(chunks, b"")
    except Missing as missing:
        raise Refusal(410, f"{missing}; request the checkpoint again.") from None
    return chain((first,), chunks)
