"""Where finished checkpoints are kept: a folder, or any store that fsspec can reach."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from workers.fleet import Fleet
from workers.messages import MODEL, Export, Exported, Form, Job, Rejected, Report

_log = logging.getLogger(__name__)

# Name -> (sha256, size in bytes).
Manifest = Mapping[str, tuple[str, int]]

# A plain name, or one in a folder (additional_chat_templates); neither leads anywhere else.
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,95}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = tarfile.BLOCKSIZE


def artifact_digest(search_id: str, recipe_digest: str, form: Form = MODEL) -> str:
    """Under which a candidate's checkpoint is kept.

    A recipe alone does not determine weights: two searches may call different models by one name.
    """
    parts = [search_id, recipe_digest, *([] if form == MODEL else [str(form)])]
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


class Missing(LookupError):
    """A file that should be there is not."""


class Artifacts:
    """Checkpoint folders, each under a digest.

    A worker writes an export to ``staging(digest)``; ``publish`` then puts it in its place. In a
    local store the two are the same folder, and nothing is copied.

    Args:
        url: a folder, or an fsspec URL such as ``s3://bucket/prefix``.
        staging: folder that the workers can write to, for stores that are no folder.
    """

    def __init__(self, url: str, *, staging: Path) -> None:
        filesystem, root = fsspec.core.url_to_fs(url)
        self._filesystem: Any = filesystem
        self._root = str(root).rstrip("/")
        self._is_local = isinstance(filesystem, LocalFileSystem)
        self._staging = Path(self._root) if self._is_local else staging

    def staging(self, digest: str) -> Path:
        """The folder that an export of this digest is written to."""
        return self._staging / _checked(digest, _DIGEST)

    def publish(self, digest: str, files: Manifest) -> None:
        """Put a finished export where downloads find it; the folder it came from may go."""
        if self._is_local:
            return
        folder = self.staging(digest)
        for name in files:
            self._filesystem.put_file(str(folder / name), self._path(digest, name))
        shutil.rmtree(folder)

    def read(self, digest: str, name: str, start: int, stop: int) -> Iterator[bytes]:
        """Bytes ``start`` to ``stop`` of a file, in chunks.

        Raises:
            Missing: there is no such file, or it ends early.
        """
        path = self._path(digest, name)
        try:
            # No cache of fsspec's own: the file is read once, from start to end.
            with self._filesystem.open(path, "rb", cache_type="none") as file:
                file.seek(start)
                while start < stop:
                    chunk = file.read(min(_CHUNK_BYTES, stop - start))
                    if not chunk:
                        raise Missing(f"{name} ends after {start} bytes")
                    start += len(chunk)
                    yield chunk
        except FileNotFoundError:
            raise Missing(f"{name} is gone") from None

    def holds(self, digest: str, files: Manifest) -> bool:
        """Whether every file is there with its size."""
        return all(self._size(digest, name) == size for name, (_, size) in files.items())

    def tar(self, digest: str, files: Manifest, prefix: str) -> Iterator[bytes]:
        """The whole folder as a tar archive of ``tar_size(files, prefix)`` bytes."""
        for name, (_, size) in sorted(files.items()):
            yield _header(f"{prefix}/{name}", size)
            yield from self.read(digest, name, 0, size)
            yield bytes(-size % _BLOCK_BYTES)
        yield bytes(2 * _BLOCK_BYTES)

    def _size(self, digest: str, name: str) -> int | None:
        try:
            return int(self._filesystem.size(self._path(digest, name)))
        except FileNotFoundError:
            return None

    def _path(self, digest: str, name: str) -> str:
        return f"{self._root}/{_checked(digest, _DIGEST)}/{_checked(name, _NAME)}"


def tar_size(files: Manifest, prefix: str) -> int:
    """Bytes of the archive, known before any file is read."""
    size = 2 * _BLOCK_BYTES
    for name, (_, file_size) in files.items():
        padded = file_size + -file_size % _BLOCK_BYTES
        size += len(_header(f"{prefix}/{name}", file_size)) + padded
    return size


def _header(name: str, size: int) -> bytes:
    """A tar header without time or owner, so that the same files give the same archive."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def _checked(part: str, pattern: re.Pattern[str]) -> str:
    """A part of a path that cannot lead anywhere else."""
    if pattern.fullmatch(part) is None:
        raise Missing(f"{part!r} is no name of a stored file")
    return part


class Publishing:
    """A fleet whose exports are in the artifact store before anyone hears of them.

    Args:
        fleet: where the jobs really run.
        artifacts: where exports go.
    """

    def __init__(self, fleet: Fleet, artifacts: Artifacts) -> None:
        self._fleet = fleet
        self._artifacts = artifacts
        self._exports: dict[str, str] = {}

    def submit(self, job: Job) -> None:
        """Queue a job; returns at once."""
        if isinstance(job.work, Export):
            self._exports[job.id] = Path(job.work.destination).name
        self._fleet.submit(job)

    def next_report(self, timeout_s: float) -> Report | None:
        """The next report; an export that cannot be stored is rejected."""
        report = self._fleet.next_report(timeout_s)
        digest = None if report is None else self._exports.pop(report.job, None)
        if report is None or digest is None or not isinstance(report.result, Exported):
            return report
        try:
            self._artifacts.publish(digest, report.result.files)
        except Exception as error:  # noqa: BLE001  # every store behind fsspec has errors of its own
            _log.exception("Not stored", extra={"event": "publish_failed", "job": report.job})
            reason = f"the checkpoint could not be stored: {type(error).__name__}: {error}"
            return replace(report, result=Rejected(reason))
        return report

    def slots(self) -> int:
        """How many jobs run at the same time."""
        return self._fleet.slots()

    def close(self) -> None:
        """Stop the workers; jobs in flight are dropped."""
        self._fleet.close()
