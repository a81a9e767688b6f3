"""Models by their Hub ids: found in the local cache, and fetched into it where that is allowed."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Lock, Thread

from huggingface_hub import constants, snapshot_download

from search.problems import Invalid, Problem

_COMMIT = re.compile(r"[0-9a-f]{40}")
# Weights, configuration, tokenizer and model card; nothing that could run.
_WANTED = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "tokenizer.model",
    "spiece.model",
    "merges.txt",
    "vocab.txt",
    "README.md",
)
_UNWANTED = ("*/*.safetensors", "*/*.json")  # the same weights for other programs
# What is there already, and small models, are there within this time; for others one asks again.
_PATIENCE_S = 10.0


def locate(hub: str, revision: str, where: str, *, allow: Sequence[str] = ()) -> Path:
    """The folder of a revision, which is called by its commit.

    Args:
        hub: ``org/name``.
        revision: commit, branch or tag.
        where: field that problems are reported under.
        allow: patterns of ids that may be downloaded; for all others nothing is asked of anybody.

    Raises:
        Invalid: it is not in the cache, cannot be downloaded, or that takes longer.
    """
    if any(fnmatchcase(hub, pattern) for pattern in allow) and not constants.HF_HUB_OFFLINE:
        return _fetched(hub, revision, where)
    repository = _repository(hub)
    commit = revision if _COMMIT.fullmatch(revision) else _reference(repository, revision)
    folder = None if commit is None or repository is None else repository / "snapshots" / commit
    if folder is None or not folder.is_dir():
        message = (
            f"revision {revision[:12]} of '{hub}' is not in this server's Hub cache; fetch it with "
            f"'hf download {hub} --revision {revision}' and submit again"
        )
        raise Invalid([Problem(field=where, message=message)])
    return folder


def file_hashes(folder: Path) -> dict[str, str]:
    """What the Hub calls the content of each file of a cached revision.

    That is the sha256 of weights, and git's hash of a blob for small files.
    """
    links = sorted(entry.path for entry in os.scandir(folder) if entry.is_symlink())
    return {Path(link).name: Path(link).readlink().name for link in links}


def _repository(hub: str) -> Path | None:
    if {"..", "."} & set(hub.split("/")):
        return None
    return Path(constants.HF_HUB_CACHE) / ("models--" + hub.replace("/", "--"))


def _reference(repository: Path | None, revision: str) -> str | None:
    """The commit that a branch or tag meant when it was fetched."""
    if repository is None or ".." in revision.split("/"):
        return None
    try:
        commit = (repository / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


@dataclass(slots=True)
class _Fetch:
    """A download that goes on when nobody waits for it."""

    hub: str
    revision: str
    folder: Path | None = None
    error: str = ""
    thread: Thread = field(init=False)

    def __post_init__(self) -> None:
        # A daemon: a server that is stopped does not wait; the next download goes on from there.
        self.thread = Thread(target=self._run, name=f"fetch {self.hub}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.folder = Path(
                snapshot_download(
                    self.hub,
                    revision=self.revision,
                    allow_patterns=list(_WANTED),
                    ignore_patterns=list(_UNWANTED),
                )
            )
        except Exception as error:  # noqa: BLE001  # whatever the network does is told to who asked
            self.error = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


_fetches: dict[tuple[str, str], _Fetch] = {}
_lock = Lock()


def _fetched(hub: str, revision: str, where: str) -> Path:
    """A revision as the Hub has it; of what is in the cache only its commit is asked for."""
    key = (hub, revision)
    with _lock:
        fetch = _fetches.get(key) or _fetches.setdefault(key, _Fetch(hub, revision))
    fetch.thread.join(_PATIENCE_S)
    if fetch.thread.is_alive():
        message = f"'{hub}' is being downloaded; submit again when it has had the time"
        raise Invalid([Problem(field=where, message=message)])
    with _lock:
        _fetches.pop(key, None)
    if fetch.folder is None:
        message = f"'{hub}' at {revision} cannot be downloaded: {fetch.error[:300]}"
        raise Invalid([Problem(field=where, message=message)])
    return fetch.folder
