"""What other programs' files say, as specs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import constants

from api.documents import parse_yaml
from search.problems import Invalid, Problem
from search.spec import ModelRef, parse_spec
from workers.mergekit import Converted, convert

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class SpecFile:
    """A spec that validates, and what it leaves out of the file it was made from."""

    document: dict[str, Any]
    notes: tuple[Problem, ...]
    source: str

    @property
    def text(self) -> str:
        """As YAML; every note is a line of comment."""
        lines = [f"# Converted from {self.source}"]
        lines += [f"# {note.field}: {note.message}" for note in self.notes]
        return "\n".join(lines) + "\n" + yaml.safe_dump(self.document, sort_keys=False)


def convert_file(text: bytes, file: Path, models: Mapping[str, str]) -> SpecFile:
    """The spec in a mergekit-evolve configuration.

    Args:
        text: of the file.
        file: where it is; relative folders of models start beside it.
        models: places of further models, by how the configuration calls them.

    Raises:
        Invalid: it is another kind of file, or nothing that a spec can say.
    """
    document = parse_yaml(text)
    if not isinstance(document, dict) or "genome" not in document:
        field, message = "genome", "is missing: this is no configuration of mergekit-evolve"
        if isinstance(document, dict) and "merge_method" in document:
            field = "merge_method"
            message = (
                "asks for one merge, and names no tasks to search with; make it with 'nichemerge "
                f"merge {file.name} --out DIR'"
            )
        raise Invalid([Problem(field=field, message=message)])
    made: Converted = convert(
        document, _name(file.stem), lambda model, field: _place(model, field, file.parent, models)
    )
    parse_spec(made.document)
    return SpecFile(made.document, made.notes, file.name)


def _name(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:96] or "search"


def _place(model: str, field: str, beside: Path, models: Mapping[str, str]) -> dict[str, str]:
    """The fields of a `ModelRef`: a folder, or a commit of a model of the Hub.

    Raises:
        Invalid: there is no such folder, and which commit is meant cannot be told.
    """
    if model in models:
        return {"path": str(Path(models[model]).resolve())}
    if (beside / model).is_dir():
        return {"path": str((beside / model).resolve())}
    hub, _, revision = model.partition("@")
    if _HUB_ID.fullmatch(hub) and ".." not in hub.split("/"):
        commit = revision if _COMMIT.fullmatch(revision) else _cached_commit(hub, revision)
        if commit is not None:
            return ModelRef(hub=hub, revision=commit).model_dump(exclude_none=True)
    message = (
        f"there is no folder '{model}' beside the file; give --model {model}=folder, or pin a "
        "model of the Hub: owner/name@commit"
    )
    raise Invalid([Problem(field=field, message=message)])


def _cached_commit(hub: str, revision: str) -> str | None:
    """What a branch or tag meant when the model was put into the local Hub cache."""
    references = Path(constants.HF_HUB_CACHE) / f"models--{hub.replace('/', '--')}" / "refs"
    if ".." in revision.split("/"):
        return None
    try:
        commit = (references / (revision or "main")).read_text().strip()
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None
