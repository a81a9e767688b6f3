from __future__ import annotations

import pytest

from workers.planning.memory import Memory
from workers.planning.placement import Place, placement

GIB = 2**30


@pytest.mark.parametrize(
    ("parents", "model", "host", "device", "place"),
    [
        (4, 1, 64, 0, "mmap"),  # the page cache is the best place on a CPU
        (400, 100, 64, 0, "mmap"),
        (56, 14, 128, 80, "gpu"),
        (56, 16, 128, 80, "gpu"),  # 72 of 80: just within nine tenths
        (57, 16, 128, 80, "pinned"),
        (57, 16, 57, 80, "mmap"),  # nor in the host's memory with room to spare
    ],
)
def test_models_live_as_near_as_they_fit(
    parents: int, model: int, host: int, device: int, place: Place
) -> None:
    memory = Memory(host * GIB, device * GIB)
    assert placement(parents * GIB, model * GIB, memory) == place
