"""How fast candidates are merged and scored here, and how far that is from the machine's limits."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from evals.suite import Suite
from search.recipe import Recipe
from search.spec import BASE
from workers.merge_method import methods
from workers.messages import Evaluate, Evaluated, Job, Zoo
from workers.resident import Resident
from workers.worker import Worker


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was measured, the value with its unit, the conditions."""

    name: str
    value: float
    unit: str
    note: str = ""


def candidate_rows(
    zoo: Zoo, suite: Suite, recipes: Sequence[Recipe], *, device: str = "cpu"
) -> list[Row]:
    """Seconds per candidate on a warm worker, split into merging, forward passes and the rest.

    Medians over the recipes; the first candidate also opens, builds and tokenizes, and is shown
    apart.

    Raises:
        ValueError: a recipe cannot be evaluated.
    """
    worker = Worker(device=device)
    first, *timings = [_timed(worker, zoo, suite, recipe) for recipe in (recipes[0], *recipes)]
    note = f"{len(zoo.parents)} parents, {zoo.dtype}, median of {len(timings)}"
    return [
        Row("first candidate of a worker", sum(first), "s", "opens, builds and tokenizes"),
        Row("candidate: merge", statistics.median(t[0] for t in timings), "s", note),
        Row("candidate: forward passes", statistics.median(t[1] for t in timings), "s", note),
        Row("candidate: everything else", statistics.median(t[2] for t in timings), "s", note),
        Row("candidate: all", statistics.median(map(sum, timings)), "s", note),
    ]


def merge_rows(
    zoo: Zoo, recipes: Iterable[Recipe], *, device: str = "cpu", repeats: int = 5
) -> list[Row]:
    """How many bytes a second a merge goes through, beside a plain copy of as many bytes.

    A merge reads every parent (and the base, where it is one or the method needs it) and writes
    the model once; the copy reads and writes the same number of bytes in all. Both are timed in
    turns, and medians are compared, so that a change of the machine's pace meets both.
    """
    resident = Resident(zoo, device=device)
    size = sum(_bytes(p) for p in resident.model.parameters())
    rows = []
    for recipe in recipes:
        moved = size * (1 + _models_read(recipe))
        source, target = (torch.ones(moved // 2, dtype=torch.uint8, device=device) for _ in "ab")
        merges, copies = [], []
        for turn in range(repeats + 1):
            merge_s = _seconds(lambda: resident.materializer.materialize(recipe), device)  # noqa: B023  # called at once
            copy_s = _seconds(lambda: target.copy_(source), device)  # noqa: B023  # called at once
            if turn:  # the first touches every page for the first time
                merges.append(merge_s)
                copies.append(copy_s)
        merge_s, copy_s = statistics.median(merges), statistics.median(copies)
        note = f"{len(recipe.parents)} parents, {moved / 2**20:.0f} MiB read and written"
        rows += [
            Row(f"merge {recipe.method}", moved / merge_s / 1e9, "GB/s", note),
            Row(f"plain copy beside {recipe.method}", moved / copy_s / 1e9, "GB/s", note),
            Row(f"merge {recipe.method}, times a plain copy", merge_s / copy_s, "x", note),
        ]
    return rows


def machine(device: str = "cpu") -> str:
    """The machine in a line, for beneath a table."""
    parts = [_processor(), f"{os.cpu_count()} cores", f"torch {torch.__version__}"]
    if device.startswith("cuda"):
        parts.insert(0, torch.cuda.get_device_name(device))
    parts.append(f"{torch.get_num_threads()} thread(s)")
    return ", ".join(parts)


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table with aligned columns."""
    cells = [(row.name, f"{row.value:.4g} {row.unit}", row.note) for row in rows]
    cells = [("measured", "value", "conditions"), *cells]
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    lines = [
        "| "
        + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        + " |"
        for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _timed(worker: Worker, zoo: Zoo, suite: Suite, recipe: Recipe) -> tuple[float, float, float]:
    result = worker.run(Job("bench", zoo, Evaluate(recipe, suite)))
    if not isinstance(result, Evaluated):
        raise ValueError(f"cannot be evaluated: {result}")
    timings = result.timings
    return timings.merge_s, timings.forward_s, timings.other_s


def _models_read(recipe: Recipe) -> int:
    base = {BASE} if methods[recipe.method].declaration.uses_base else set()
    return len(base.union(recipe.parents))


def _seconds(work: Callable[[], object], device: str) -> float:
    _synchronize(device)
    start = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _processor() -> str:
    """The model name of the processor, where Linux tells it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
