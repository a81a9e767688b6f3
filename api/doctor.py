"""Look at the models of a spec without a server: what stops a merge, and what it would take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from api.documents import parse_json, parse_yaml
from api.locating import locate
from api.preflight_views import preflight_fields
from api.schemas import DoctorReport
from api.settings import Settings
from api.validation import Examined, examine
from search.problems import Invalid, Problem
from search.registry import suggestion
from search.spec import ModelRef
from workers.checkpoints.parents import Parents
from workers.checkpoints.writing import Files
from workers.doctor.diagnosis import Diagnosis, examine_parents
from workers.doctor.realign import NotAligned, write_aligned
from workers.doctor.verdicts import refusals, remarks
from workers.messages import Zoo


def report(text: bytes, beside: Path, settings: Settings, *, weights: bool = False) -> DoctorReport:
    """Everything that can be told of a spec and its models.

    Args:
        text: of the spec, as YAML or JSON.
        beside: where relative paths of the spec start.
        settings: where tasks are; model roots do not matter.
        weights: whether to read all weights once, too.
    """
    examined = _examined(text, beside, settings)
    found, space = examined.preflight, examined.space
    problems, warnings = list(examined.problems), list(examined.warnings)
    diagnosed = list(_diagnosed(examined)) if weights else []
    for field, diagnosis in diagnosed:
        problems += [Problem(field=field, message=message) for message in refusals(diagnosis)]
        warnings += [Problem(field=field, message=message) for message in remarks(diagnosis)]
    return DoctorReport(
        valid=not problems,
        problems=problems,
        warnings=warnings,
        genes=space.dim if space else 0,
        diagnoses=[diagnosis.summary for _, diagnosis in diagnosed],
        **(preflight_fields(found, examined.needs) if found else {}),
    )


def realigned(text: bytes, beside: Path, settings: Settings, name: str, out: Path) -> Files:
    """Write a copy of a parent in the order and the scales of the base.

    Args:
        text: of the spec.
        beside: where relative paths of the spec start.
        settings: as for `report`.
        name: of the parent.
        out: folder to write.

    Raises:
        Invalid: there is no such parent, its headers are wrong, or it cannot be aligned.
    """
    examined = _examined(text, beside, settings)
    names = {parent: folder for _, parent, folder in examined.folders.parents}
    if name not in names:
        message = f"'{name}' is no parent of this spec; {suggestion(name, names)}"
        raise Invalid([Problem(field="--realign", message=message)])
    base, found = examined.folders.base, examined.preflight
    if base is None or found is None or found.problems:
        raise Invalid(examined.problems)
    try:
        return write_aligned(base[1], names[name], out)
    except NotAligned as error:
        raise Invalid([Problem(field=name, message=str(error))]) from None


def _examined(text: bytes, beside: Path, settings: Settings) -> Examined:
    document = parse_json(text) if text.lstrip().startswith(b"{") else parse_yaml(text)
    return examine(document, settings, partial(_find, beside=beside, settings=settings))


def _find(ref: ModelRef, where: str, *, beside: Path, settings: Settings) -> tuple[str, Path]:
    """A folder anywhere on this machine: whoever calls may read what the process may read."""
    if ref.path is None:
        return locate(ref, where, settings)
    folder = beside / Path(ref.path).expanduser()
    if not folder.is_dir():
        raise Invalid([Problem(field=f"{where}.path", message=f"there is no folder '{folder}'")])
    return f"{where}.path", folder


def _diagnosed(examined: Examined) -> Iterator[tuple[str, Diagnosis]]:
    """The field of each parent, and what its weights say."""
    base, found = examined.folders.base, examined.preflight
    if base is None or found is None or found.problems:
        return
    fields = {name: field for field, name, _ in examined.folders.parents}
    folders = tuple((name, str(folder)) for _, name, folder in examined.folders.parents)
    with closing(Parents(Zoo(str(base[1]), folders, found.dtype))) as parents:
        names = [tensor.name for tensor in parents.layout.tensors]
        for diagnosis in examine_parents(parents).walk(names):
            yield fields[diagnosis.name], diagnosis
