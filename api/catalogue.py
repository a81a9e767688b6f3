"""Model folders below the roots: what a spec can name."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from api.schemas import ModelView
from search.problems import Problem
from workers.checkpoints import adapter as lora
from workers.checkpoints.folder import Folder, is_adapter, read_folder, read_parent
from workers.checkpoints.headers import FLOATS
from workers.planning.preflight import preflight

_DEPTH = 4
_MOST = 500
_CONFIGS = {"config.json", lora.CONFIG}


def models(roots: Sequence[Path]) -> list[ModelView]:
    """Every checkpoint and LoRA adapter at most four levels below a root, from headers alone."""
    found: dict[Path, Path] = {}
    for root in roots:
        for folder in _folders(root, _DEPTH):
            if len(found) >= _MOST:
                break
            found.setdefault(folder, root)
    views = {
        folder: _model(folder, root) for folder, root in found.items() if not is_adapter(folder)
    }
    views |= {
        folder: _adapter(folder, root, views)
        for folder, root in found.items()
        if is_adapter(folder)
    }
    return sorted(views.values(), key=lambda model: model.path)


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """Model folders; not through links, hidden folders other than our home, or into models."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    if any(entry.name in _CONFIGS for entry in entries):
        yield folder
        return
    for entry in entries:
        hidden = entry.name.startswith(".") or entry.name in ("node_modules", "__pycache__")
        if depth > 0 and not hidden and entry.is_dir(follow_symlinks=False):
            yield from _folders(Path(entry.path), depth - 1)


def _model(folder: Path, root: Path) -> ModelView:
    found = preflight(("path", folder), ())
    return ModelView(
        path=_path(folder, root),
        parameters=found.parameters or None,
        architecture=_architecture(folder),
        dtype=found.dtype or None,
        problem=_first(found.problems),
    )


def _adapter(folder: Path, root: Path, models: Mapping[Path, ModelView]) -> ModelView:
    """An adapter, checked against its base where exactly one model is called like that."""
    unchecked = Folder(folder, problems=(Problem(field="base", message="is not known"),))
    read = read_parent("path", folder, unchecked)
    named = lora.Adapter() if read.adapter is None else read.adapter
    called = PurePath(named.base_name).name.lower()
    bases = [place for place in models if called and place.name.lower() == called]
    if len(bases) == 1:
        read = read_parent("path", folder, read_folder("base", bases[0]))
    dtypes = Counter[str]()
    for tensor in named.stored.values():
        dtypes[tensor.dtype] += tensor.size
    dtype = dtypes.most_common(1)[0][0] if dtypes else ""
    return ModelView(
        path=_path(folder, root),
        parameters=sum(dtypes.values()) or None,
        architecture="LoRA",
        dtype=FLOATS.get(dtype),
        adapter_of=models[bases[0]].path if len(bases) == 1 else named.base_name,
        problem=_first(read.problems),
    )


def _path(folder: Path, root: Path) -> str:
    return str(folder.relative_to(root)) if folder != root else str(folder)


def _first(problems: Sequence[Problem]) -> str | None:
    return problems[0].message if problems else None


def _architecture(folder: Path) -> str | None:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    names = config.get("architectures") if isinstance(config, dict) else None
    return str(names[0]) if isinstance(names, list) and names else None
