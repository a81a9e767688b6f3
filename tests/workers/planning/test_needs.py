from __future__ import annotations

import math
from pathlib import Path

import pytest

from search.layout import Layout
from workers.planning.estimate import estimate, rough
from workers.planning.memory import Memory
from workers.planning.needs import Needs, free_disk, needs
from workers.planning.preflight import Preflight

MIB = 2**20
# A base and three parents of 100 MiB, and the model that they are merged into.
FOUND = Preflight(Layout(tensors=()), "bfloat16", 50 * MIB, 500 * MIB, 100 * MIB, (), ())


def needed(
    memory: Memory, *, disk: int = 2**40, evaluations: int = 40, directions: int = 0
) -> Needs:
    return needs(
        FOUND,
        memory=memory,
        disk_free_bytes=disk,
        examples=100,
        evaluations=evaluations,
        directions=directions,
    )


def short(found: Needs) -> list[str]:
    return [problem.field for problem in found.shortages()]


def test_on_a_cpu_a_worker_takes_the_model_and_the_files_are_mapped() -> None:
    found = needed(Memory(2**40))
    assert found.place == "mmap"
    assert (found.host_bytes, found.mapped_bytes, found.device_bytes) == (100 * MIB, 400 * MIB, 0)
    assert short(found) == []


def test_on_an_accelerator_all_of_it_lies_there() -> None:
    found = needed(Memory(2**40, 2**40))
    assert found.place == "gpu"
    assert (found.host_bytes, found.mapped_bytes, found.device_bytes) == (0, 0, 500 * MIB)


def test_parents_that_do_not_fit_beside_the_model_are_pinned() -> None:
    found = needed(Memory(2**40, 200 * MIB))
    assert found.place == "pinned"
    assert (found.host_bytes, found.mapped_bytes) == (400 * MIB, 0)
    assert found.device_bytes == 100 * MIB


@pytest.mark.parametrize(
    ("memory", "disk", "fields"),
    [
        (Memory(50 * MIB), 2**40, ["machine.memory"]),
        (Memory(300 * MIB), 2**40, ["machine.memory"]),
        (Memory(2**40), 10 * MIB, ["machine.disk"]),
        (Memory(2**40, 50 * MIB), 2**40, ["machine.gpu"]),
    ],
)
def test_what_is_too_small_is_said(memory: Memory, disk: int, fields: list[str]) -> None:
    assert short(needed(memory, disk=disk)) == fields


def test_directions_without_room_are_told_with_what_would_be_enough() -> None:
    # 3 directions of 50 Mi parameters in float32: 600 MiB, of which an eighth of the memory fits.
    found = needed(Memory(2000 * MIB), directions=3)
    assert (found.directions_bytes, found.directions_kept_bytes) == (600 * MIB, 250 * MIB)
    (problem,) = found.shortages()
    assert problem.field == "machine.memory"
    assert "take up to 0.586 GiB, and a worker keeps 0.244 GiB" in problem.message
    assert "where 4.69 GiB are free" in problem.message
    assert short(needed(Memory(4800 * MIB), directions=3)) == []
    assert short(needed(Memory(2**40, 2000 * MIB), directions=3)) == ["machine.gpu"]


def test_the_budget_takes_as_many_times_as_long_as_a_candidate() -> None:
    found = needed(Memory(2**40), evaluations=40)
    assert found.search_s == rough(40 * found.estimate.candidate_s)
    assert found.estimate.candidate_s > 0


def test_an_estimate_is_the_bytes_over_the_bandwidth_and_the_work_over_the_rate() -> None:
    found = estimate(
        parameters=10**9,
        merge_bytes=10**10,
        examples=100,
        place="mmap",
        on_device=False,
        fits=True,
    )
    assert found.merge_s == 1.0  # 10 GB at 10 GB/s
    assert found.forward_s == 200.0  # 2 x 1e9 x 100 x 200 operations at 0.2 TFLOP/s
    assert "10 GB merged at 10 GB/s; 100 examples" in found.basis


def test_files_that_do_not_fit_in_memory_are_read_from_disk() -> None:
    def merge_s(*, fits: bool) -> float:
        return estimate(
            parameters=1, merge_bytes=10**9, examples=1, place="mmap", on_device=False, fits=fits
        ).merge_s

    assert merge_s(fits=False) > 5 * merge_s(fits=True)


@pytest.mark.parametrize(("value", "one_figure"), [(0, 0), (0.0234, 0.02), (1870, 2000), (9.6, 10)])
def test_nothing_is_said_with_more_than_one_figure(value: float, one_figure: float) -> None:
    assert math.isclose(rough(value), one_figure)


def test_a_folder_that_is_not_there_yet_has_the_disk_that_it_will_be_on(tmp_path: Path) -> None:
    assert free_disk(tmp_path / "not" / "yet") > 0
