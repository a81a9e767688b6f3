"""The doctor's report as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from api.schemas import DoctorReport, NeedsView
from api.terminal import duration, size_text
from workers.checkpoints.folder import some
from workers.doctor.summary import DiagnosisSummary, Distance

_MODELS = (
    "model",
    "architecture",
    "dtype",
    "parameters",
    "size",
    "head",
    "licence",
    "chat template",
)
_PLACES = {
    "gpu": "on the accelerator",
    "pinned": "in pinned memory of the host",
    "mmap": "mapped from their files",
}
_FIGURES = ("parent", "of", "delta / base", "cosine", "norm / base", "frozen", "found")


def doctor_tables(report: DoctorReport) -> RenderableType:
    """Models, what is copied, what a search takes, and the figures of the weights."""
    return Group(*_parts(report))


def _parts(report: DoctorReport) -> Iterator[RenderableType]:
    if report.models:
        yield _table(_MODELS, _models(report))
    if report.copied:
        rows = [(some(copied.tensors), copied.reason) for copied in report.copied]
        yield _table(("copied from the base", "because it is"), rows)
    if report.needs is not None:
        yield _table(("a search takes", "needed", "free here"), _needs(report.needs))
        yield Text(f"Estimated from {report.needs.basis}; right to a factor of a few.\n")
    if report.diagnoses:
        figures = [row for diagnosis in report.diagnoses for row in _diagnosis(diagnosis)]
        yield _table(_FIGURES, figures)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*header)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # names come from users: never as markup
    return table


def _models(report: DoctorReport) -> list[tuple[str, ...]]:
    return [
        (
            model.name,
            model.architecture,
            model.dtype,
            f"{model.parameters:,}",
            size_text(model.size_bytes),
            "tied to the embedding" if model.tied else "its own",
            model.licence or "not stated",
            model.chat_template,
        )
        for model in report.models
    ]


def _needs(needs: NeedsView) -> list[tuple[str, ...]]:
    rows = [
        ("memory of a worker", needs.host_bytes, needs.host_free_bytes),
        ("files kept in memory", needs.mapped_bytes, needs.host_free_bytes),
        ("memory of the accelerator", needs.device_bytes, needs.device_free_bytes),
        ("directions of the method", needs.directions_bytes, needs.directions_kept_bytes),
        ("disk for a checkpoint", needs.disk_bytes, needs.disk_free_bytes),
    ]
    return [
        *((what, size_text(need), size_text(free)) for what, need, free in rows if need),
        ("base and parents live", _PLACES[needs.place], ""),
        ("a candidate", f"about {needs.candidate_s:g} s", ""),
        ("the whole budget", f"about {duration(needs.search_s)}", ""),
    ]


def _diagnosis(diagnosis: DiagnosisSummary) -> Iterator[tuple[str, ...]]:
    kinds = dict.fromkeys(finding.kind.replace("_", " ") for finding in diagnosis.findings)
    found = ", ".join(kinds) or "fine-tuned"
    yield (diagnosis.name, "all", *_figures(diagnosis.whole), found)
    for group, figures in diagnosis.groups.items():
        yield ("", group, *_figures(figures), "")


def _figures(figures: Distance) -> Iterator[str]:
    for value in (figures.delta_ratio, figures.cosine, figures.norm_ratio):
        yield "-" if value is None else f"{value:.4f}"
    yield f"{figures.frozen:.0%}" if figures.frozen else ""
