"""Where the models that are merged live while a search runs."""

from __future__ import annotations

from typing import Literal

from workers.planning.memory import Memory

Place = Literal["gpu", "pinned", "mmap"]

# Left to activations, batches and the allocator.
_SHARE = 0.9


def placement(parents_bytes: int, model_bytes: int, memory: Memory) -> Place:
    """Where base and parents fit, nearest to the model that they are merged into.

    On the CPU the page cache holds what fits and shares it between workers, so files are mapped
    whatever their size. On an accelerator: beside the model if both fit, else in pinned memory of
    the host, from which copies run at the speed of the bus; else mapped, and streamed tensor by
    tensor.

    Args:
        parents_bytes: of base and parents.
        model_bytes: of the model that candidates are written into.
        memory: that is free; without an accelerator ``device_bytes`` is 0.
    """
    if not memory.device_bytes:
        return "mmap"
    if parents_bytes + model_bytes <= _SHARE * memory.device_bytes:
        return "gpu"
    return "pinned" if parents_bytes <= _SHARE * memory.host_bytes else "mmap"
