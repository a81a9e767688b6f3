"""How much memory a worker needs beyond its models."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from workers.bench.merging import Workbench
from workers.bench.tables import columns
from workers.messages import Zoo
from workers.resident import empty_model

# One of each kind: nothing to remember, thresholds that come from sorting, and random masks.
MEASURED = ("linear", "ties", "dare_ties")
_STATUS = Path("/proc/self/status")
_PEAK = "VmHWM:"


@dataclass(frozen=True, slots=True)
class Peak:
    """Peak memory of a process that makes candidates of one method.

    Args:
        method: by name.
        models_mb: base, parents and the merged model.
        peak_mb: resident pages at most, mapped files included, over those after the imports.
        times_models: the latter over the former.
    """

    method: str
    models_mb: float
    peak_mb: float
    times_models: float


def peak_table(peaks: Iterable[Peak]) -> str:
    """As Markdown."""
    return columns(("method", "models, MB", "peak, MB", "x models"), map(astuple, peaks))


def peaks(zoo: Zoo, names: Sequence[str] = MEASURED, *, candidates: int = 3) -> list[Peak]:
    """Peak memory on the CPU, each method in a fresh process; none where the system is not Linux.

    Args:
        zoo: no tokenizer is needed.
        names: of methods.
        candidates: how many each makes.
    """
    if not tells_peaks():
        return []
    threads = torch.get_num_threads()
    found = []
    for name in names:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
            found.append(pool.submit(_peak, zoo, name, candidates, threads).result())
    return found


def _peak(zoo: Zoo, name: str, candidates: int, threads: int) -> Peak:
    torch.set_num_threads(threads)
    _import_all(zoo)
    before = psutil.Process().memory_info().rss
    bench = Workbench(zoo)
    contender = bench.contender(name)
    rng = np.random.default_rng(0)
    for _ in range(candidates):
        bench.materializer.materialize(contender.draw(rng))
    models = bench.model_bytes * (len(zoo.parents) + 2)
    peak = peak_bytes() - before
    return Peak(name, models / 1e6, peak / 1e6, peak / models)


def _import_all(zoo: Zoo) -> None:
    """What would be imported by the first candidate: the compiler, and the model's own code."""
    import numba as numba

    with torch.device("meta"):
        empty_model(Path(zoo.base), zoo.dtype, "meta")


def tells_peaks() -> bool:
    """Whether the system says how much memory a process had at most."""
    return _STATUS.is_file()


def peak_bytes() -> int:
    """Of this process: ``ru_maxrss`` would begin with that of the process that started it."""
    lines = _STATUS.read_text().splitlines()
    kibibytes = next(line for line in lines if line.startswith(_PEAK)).split()[1]
    return int(kibibytes) * 1024
