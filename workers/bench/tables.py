"""What was measured, as Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what was measured, the value with its unit, the conditions."""

    name: str
    value: float
    unit: str
    note: str = ""


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table with aligned columns."""
    lines = [(row.name, f"{row.value:.4g} {row.unit}", row.note) for row in rows]
    return columns(("measured", "value", "conditions"), lines)


def columns(header: Sequence[str], lines: Iterable[Sequence[str | float]]) -> str:
    """A Markdown table with aligned columns; numbers have four digits."""
    cells = [
        [cell if isinstance(cell, str) else f"{cell:.4g}" for cell in line]
        for line in (header, *lines)
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    padded.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(padded)


def machine(device: str = "cpu", *, threads: int | None = None) -> str:
    """The machine in a line, for beneath a table."""
    parts = [_processor(), f"{os.cpu_count()} cores", f"torch {torch.__version__}"]
    if device.startswith("cuda"):
        parts.insert(0, torch.cuda.get_device_name(device))
    parts.append(f"{threads or torch.get_num_threads()} thread(s)")
    return ", ".join(parts)


def _processor() -> str:
    """The model name of the processor, where Linux tells it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
