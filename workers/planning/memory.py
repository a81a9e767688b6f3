"""What memory the machine that asks has to give."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_QUERY = ("--query-gpu=memory.free", "--format=csv,noheader,nounits")
_PATIENCE_S = 10


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that are free: of the host, and of its roomiest accelerator (0 without one)."""

    host_bytes: int
    device_bytes: int = 0


# Of the free memory, for what merge methods remember. Several workers share a machine.
MEMO_SHARE = 8


def memo_budget(memory: Memory) -> int:
    """Bytes that a worker keeps of what merge methods remember, where it computes."""
    return (memory.device_bytes or memory.host_bytes) // MEMO_SHARE


def free_memory() -> Memory:
    """Of this machine, or of the container that this process is held in."""
    available = psutil.virtual_memory().available
    left = _left_to_the_container(_CGROUP)
    return Memory(available if left is None else min(available, left), _of_the_accelerator())


def _left_to_the_container(cgroup: Path) -> int | None:
    """Bytes below the limit of a control group (v2); None without a limit.

    Pages of files count as used there, but give way when something needs the room.
    """
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        lines = (cgroup / "memory.stat").read_text().splitlines()
    except OSError:
        return None
    if limit == "max":
        return None
    pages = dict(line.split() for line in lines)
    return max(0, int(limit) - used + int(pages.get("file", 0)))


def _of_the_accelerator() -> int:
    """As the driver's tool says: asking torch would take a part of that memory for itself."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        answer = subprocess.run(
            [tool, *_QUERY], capture_output=True, text=True, check=True, timeout=_PATIENCE_S
        ).stdout
        return max((int(line) for line in answer.splitlines()), default=0) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):  # no driver, or none that answers
        return 0
