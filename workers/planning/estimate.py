"""About how long a candidate takes, from sizes and round figures for what machines do."""

from __future__ import annotations

import math
from dataclasses import dataclass

from workers.planning.placement import Place

# Bytes a second at which parents are read and a candidate is written: two cores with their files
# in the page cache, memory of an accelerator, its bus, and a disk.
_CPU, _DEVICE, _BUS, _DISK = 10e9, 1e12, 20e9, 1e9
# Operations a second in a forward pass: two cores in bfloat16, one accelerator.
_CPU_OPERATIONS, _DEVICE_OPERATIONS = 2e11, 1e14
_OPERATIONS_PER_WEIGHT = 2
# Of an example, its answers included. Nobody has tokenized anything yet.
_TOKENS = 200


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds on one worker, to one figure: right to a factor of a few, and no better.

    Args:
        merge_s: writing a candidate's weights.
        forward_s: scoring it on the search split.
        basis: what the two were computed from, for people.
    """

    merge_s: float
    forward_s: float
    basis: str

    @property
    def candidate_s(self) -> float:
        """Both together."""
        return rough(self.merge_s + self.forward_s)


def estimate(
    *, parameters: int, merge_bytes: int, examples: int, place: Place, on_device: bool, fits: bool
) -> Estimate:
    """What one candidate costs.

    Args:
        parameters: of the model.
        merge_bytes: that are read and written to merge it once.
        examples: that it is scored on.
        place: where the parents live.
        on_device: whether there is an accelerator.
        fits: whether files that are mapped fit in memory.
    """
    rate = _rate(place, on_device=on_device, fits=fits)
    operations = _DEVICE_OPERATIONS if on_device else _CPU_OPERATIONS
    work = _OPERATIONS_PER_WEIGHT * parameters * examples * _TOKENS
    return Estimate(
        merge_s=rough(merge_bytes / rate),
        forward_s=rough(work / operations),
        basis=(
            f"{rough(merge_bytes / 1e9):g} GB merged at {rate / 1e9:g} GB/s; {examples} examples "
            f"of {_TOKENS} tokens at {operations / 1e12:g} TFLOP/s; one worker"
        ),
    )


def rough(value: float) -> float:
    """To one figure."""
    if not value:
        return 0.0
    return round(value, -math.floor(math.log10(abs(value))))


def _rate(place: Place, *, on_device: bool, fits: bool) -> float:
    match place:
        case "gpu":
            return _DEVICE
        case "pinned":
            return _BUS
        case "mmap":
            return _DISK if not fits else _BUS if on_device else _CPU
