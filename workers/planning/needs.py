"""What a search takes of a machine, beside what the machine has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from search.problems import Problem
from workers.planning.estimate import Estimate, estimate, rough
from workers.planning.memory import MEMO_SHARE, Memory, memo_budget
from workers.planning.placement import Place, placement
from workers.planning.preflight import Preflight

# Directions are kept in float32.
_DIRECTION_BYTES = 4


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes that are needed and free, and seconds.

    Args:
        place: where base and parents would live.
        host_bytes: of memory that a worker takes for good; files that are mapped are not counted,
            for they give way.
        mapped_bytes: of files that are read for every candidate, from memory while they fit.
        device_bytes: of an accelerator.
        directions_bytes: of what a method finds out once for all candidates, at most.
        directions_kept_bytes: that a worker has room for; the rest is found again for every
            candidate.
        disk_bytes: of one checkpoint.
        free: memory of this machine.
        disk_free_bytes: where checkpoints are written.
        estimate: of one candidate.
        search_s: estimate for the whole budget, on one worker.
    """

    place: Place
    host_bytes: int
    mapped_bytes: int
    device_bytes: int
    directions_bytes: int
    directions_kept_bytes: int
    disk_bytes: int
    free: Memory
    disk_free_bytes: int
    estimate: Estimate
    search_s: float

    def shortages(self) -> Iterator[Problem]:
        """What this machine has too little of; another may run the search."""
        host = self.free.host_bytes
        if self.host_bytes > host:
            yield _short("memory", "a worker needs", self.host_bytes, host)
        elif self.host_bytes + self.mapped_bytes > host:
            need = self.host_bytes + self.mapped_bytes
            yield _short("memory", "to keep all models in memory takes", need, host)
        if self.device_bytes > self.free.device_bytes:
            yield _short("gpu", "a worker needs", self.device_bytes, self.free.device_bytes)
        if self.directions_bytes > self.directions_kept_bytes:
            yield self._without_room()
        if self.disk_bytes > self.disk_free_bytes:
            yield _short("disk", "a checkpoint takes", self.disk_bytes, self.disk_free_bytes)

    def _without_room(self) -> Problem:
        where = "gpu" if self.free.device_bytes else "memory"
        message = (
            f"the method's directions take up to {_gib(self.directions_bytes)}, and a worker keeps "
            f"{_gib(self.directions_kept_bytes)} of them (an eighth of what is free); the others "
            "are found again for every candidate, which can take minutes. All have room where "
            f"{_gib(MEMO_SHARE * self.directions_bytes)} are free"
        )
        return Problem(field=f"machine.{where}", message=message)


def needs(
    found: Preflight,
    *,
    memory: Memory,
    disk_free_bytes: int,
    examples: int,
    evaluations: int,
    directions: int = 0,
) -> Needs:
    """Put what was found in headers beside what a machine has.

    Args:
        found: by the preflight.
        memory: that is free.
        disk_free_bytes: where checkpoints are written.
        examples: that each candidate is scored on.
        evaluations: the budget.
        directions: of the size of the model that the method keeps (`MethodDeclaration.kept`).
    """
    model = found.checkpoint_bytes - found.added_bytes
    parents = found.memory_bytes - model
    on_device = memory.device_bytes > 0
    place = placement(parents, model, memory)
    host = (0 if on_device else model) + (parents if place == "pinned" else 0)
    mapped = parents if place == "mmap" else 0
    device = (model if on_device else 0) + (parents if place == "gpu" else 0)
    cost = estimate(
        parameters=found.parameters,
        merge_bytes=found.memory_bytes,
        examples=examples,
        place=place,
        on_device=on_device,
        fits=host + mapped <= memory.host_bytes,
    )
    return Needs(
        place=place,
        host_bytes=host,
        mapped_bytes=mapped,
        device_bytes=device,
        directions_bytes=directions * found.parameters * _DIRECTION_BYTES,
        directions_kept_bytes=memo_budget(memory),
        disk_bytes=found.checkpoint_bytes,
        free=memory,
        disk_free_bytes=disk_free_bytes,
        estimate=cost,
        search_s=rough(evaluations * cost.candidate_s),
    )


def free_disk(folder: Path) -> int:
    """Bytes free where a folder is, or would be."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def _short(what: str, need: str, needed: int, free: int) -> Problem:
    message = f"{need} {_gib(needed)}, and {_gib(free)} are free here"
    return Problem(field=f"machine.{what}", message=message)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.3g} GiB"
