"""What memory the machine that asks has to give."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that are free: of the host, and of its largest accelerator (0 without one)."""

    host_bytes: int
    device_bytes: int = 0


def free_memory() -> Memory:
    """Of this machine, or of the container that this process is held in."""
    return Memory(min(_available(), _of_the_container()), _of_the_accelerator())


def _available() -> int:
    """Memory that can be had without swapping; the page cache gives way, so it counts as free."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:  # not Linux
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    sizes = dict(line.split(":", 1) for line in lines)
    return int(sizes["MemAvailable"].split()[0]) * 1024


def _of_the_container() -> int:
    """What is left of a limit of cgroup v2; of no limit, more than any machine has."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        cached = (_CGROUP / "memory.stat").read_text()
    except OSError:
        return 1 << 62
    if limit == "max":
        return 1 << 62
    file = next((line for line in cached.splitlines() if line.startswith("file ")), "file 0")
    return max(0, int(limit) - used + int(file.split()[1]))


def _of_the_accelerator() -> int:
    if not torch.cuda.is_available():
        return 0
    return max(torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count()))
