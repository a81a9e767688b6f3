"""Model folders below the roots: what a spec can name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from api.schemas import ModelView
from workers.planning.preflight import preflight

_DEPTH = 4
_MOST = 500


def models(roots: Sequence[Path]) -> list[ModelView]:
    """Every folder with a ``config.json`` at most four levels below a root, from headers alone."""
    found: dict[Path, ModelView] = {}
    for root in roots:
        for folder in _folders(root, _DEPTH):
            if len(found) >= _MOST:
                break
            if folder not in found:
                found[folder] = _model(folder, root)
    return sorted(found.values(), key=lambda model: model.path)


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """Model folders; not through links, hidden folders other than our home, or into models."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    if any(entry.name == "config.json" for entry in entries):
        yield folder
        return
    for entry in entries:
        hidden = entry.name.startswith(".") or entry.name in ("node_modules", "__pycache__")
        if depth > 0 and not hidden and entry.is_dir(follow_symlinks=False):
            yield from _folders(Path(entry.path), depth - 1)


def _model(folder: Path, root: Path) -> ModelView:
    found = preflight(("path", folder), ())
    return ModelView(
        path=str(folder.relative_to(root)) if folder != root else str(folder),
        parameters=found.parameters or None,
        architecture=_architecture(folder),
        dtype=found.dtype or None,
        problem=found.problems[0].message if found.problems else None,
    )


def _architecture(folder: Path) -> str | None:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    names = config.get("architectures") if isinstance(config, dict) else None
    return str(names[0]) if isinstance(names, list) and names else None
