"""Where a model of a spec lies on this machine, and whether it may be read from there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from api import hub
from api.settings import Settings
from search.problems import Invalid, Problem
from search.spec import ModelRef
from workers.checkpoints.vocabulary import TEMPLATES


def locate(ref: ModelRef, where: str, settings: Settings) -> tuple[str, Path]:
    """The field that names a model's place, and its folder.

    Raises:
        Invalid: it is not in a model root, or not in the local Hub cache and not to be downloaded.
    """
    if ref.path is not None:
        where = f"{where}.path"
        return where, _in_roots(ref.path, where, settings.roots)
    where = f"{where}.hub"
    return where, hub.locate(ref.hub or "", ref.revision or "", where, allow=settings.hub_allow)


def _in_roots(path: str, where: str, roots: Sequence[Path]) -> Path:
    """A folder below one of the roots; links may not lead out of them.

    What lies outside is not looked at, and the message does not tell whether it exists.
    """
    try:
        candidates = [(root / path).resolve() for root in roots]
    except (OSError, ValueError, RuntimeError):  # a NUL, a name too long, a loop of links
        raise Invalid([Problem(field=where, message="is no path")]) from None
    inside = [c for c in candidates if any(c.is_relative_to(root) for root in roots)]
    listed = ", ".join(str(root) for root in roots)
    folder = next((c for c in inside if _is_folder(c)), None)
    if folder is None and len(inside) < len(candidates):
        message = (
            f"'{path}' leads outside of the model roots ({listed}); move the model there, or start "
            "the server with its folder in NICHEMERGE_MODEL_ROOTS"
        )
        raise Invalid([Problem(field=where, message=message)])
    if folder is None:
        message = f"there is no folder '{path}' in the model roots ({listed})"
        raise Invalid([Problem(field=where, message=message)])
    _check_links(folder, where, roots)
    return folder


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _check_links(folder: Path, where: str, roots: Sequence[Path]) -> None:
    """A file of the model may be a link, but not one out of the roots."""
    try:
        places = (folder, folder / TEMPLATES) if (folder / TEMPLATES).is_dir() else (folder,)
        links = [e.path for place in places for e in os.scandir(place) if e.is_symlink()]
    except OSError:
        message = f"'{folder.name}' cannot be read by the server"
        raise Invalid([Problem(field=where, message=message)]) from None
    for link in links:
        target = Path(link).resolve()
        if not any(target.is_relative_to(root) for root in roots):
            message = (
                f"its file '{Path(link).name}' is a link that leads out of the model roots; "
                "put the file itself there"
            )
            raise Invalid([Problem(field=where, message=message)])
