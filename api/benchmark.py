"""The tables of ``nichemerge bench``: workers, the log, optimizers, merging and scoring alone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from api.bench import costs
from api.settings import Settings
from evals.playground import build
from evals.suite import Split, Suite
from search.recipe import Recipe, mixture
from search.simulation import Setting, Summary, simulate, summarize
from workers.bench.candidates import candidate_rows
from workers.bench.memory import MEASURED, Peak, peak_table, peaks
from workers.bench.merging import LINEAR, Speed, default_methods, speed_table, speeds
from workers.bench.peer import EVOLVE, Beside, Peer, beside, beside_table, mergekit_command
from workers.bench.scoring import Scoring, score_paces
from workers.bench.tables import Row, columns, machine
from workers.bench.zoo import SIZES, write_zoo
from workers.merging.merge_method import methods
from workers.messages import Zoo

_CANDIDATES = 8
_USUAL = 200


def measure(settings: Settings, *, counts: Sequence[int]) -> list[Row]:
    """Seconds per candidate on a worker, and what the log and optimizers cost.

    Args:
        settings: the playground is built in its home unless it is there.
        counts: lengths of the logs.
    """
    playground = build(settings.playground)
    parents = tuple((name, str(folder)) for name, folder in playground.parents.items())
    zoo = Zoo(str(playground.base), parents, "float32")
    suite = Suite(tuple(playground.objectives), Split.SEARCH, (str(playground.tasks),))
    rows = candidate_rows(zoo, suite, _mixtures(tuple(playground.parents)))
    with tempfile.TemporaryDirectory(dir=settings.home) as folder:
        rows += [
            Row(cost.what, cost.seconds * 1000, "ms", f"{cost.outcomes:,} outcomes")
            for cost in costs(Path(folder), counts=counts)
        ]
    return rows


def measure_racing(searches: int) -> list[tuple[Setting, Summary]]:
    """Simulated searches, racing against flat scoring; see `search.simulation`."""
    settings = [Setting(correlation) for correlation in (0.0, 0.8)]
    # Where candidates differ otherwise, on as many examples as a usual task has to search on.
    settings += [
        Setting(correlation, spread, search=_USUAL)
        for spread in (0.005, 0.02, 0.08)
        for correlation in (0.0, 0.8)
    ]
    return [
        (
            setting,
            summarize(
                setting,
                [simulate(setting, np.random.default_rng([0, n])) for n in range(searches)],
            ),
        )
        for setting in settings
    ]


def racing_table(found: Sequence[tuple[Setting, Summary]]) -> str:
    """A line for every setting; regrets in points, standard errors behind ±."""
    header = (
        "spread, points",
        "correlation",
        "to search on",
        "regret flat",
        "regret racing",
        "ratio",
        "examples",
        "left early",
        "of them as good",
        "of the good left",
        "bias of report",
        "coverage",
    )
    lines = [
        (
            f"{100 * setting.spread:g}",
            f"{setting.correlation:g}",
            f"{setting.search}",
            f"{100 * s.flat:.2f}",
            f"{100 * s.raced:.2f}",
            f"{s.ratio:.2f} ± {s.ratio_error:.2f}",
            f"{s.examples:,.0f} (most {s.most:,})",
            f"{s.left:.2%}",
            f"{s.wrongly:.1%} ± {s.wrongly_error:.1%}",
            f"{s.lost:.1%}",
            f"{100 * s.bias:.2f} ± {100 * s.bias_error:.2f}",
            f"{s.coverage:.1%} ± {s.coverage_error:.1%}",
        )
        for setting, s in found
    ]
    return columns(header, lines)


@dataclass(frozen=True, slots=True)
class Merging:
    """What merging costs at one size, in one dtype.

    Args:
        models: that were merged, in words.
        machine: that merged them, in words.
        speeds: of the methods.
        peaks: of memory; none where the system does not tell.
        beside: mergekit on the same merges; none where it was not asked for.
    """

    models: str
    machine: str
    speeds: Sequence[Speed]
    peaks: Sequence[Peak]
    beside: Sequence[Beside] = ()

    def text(self) -> str:
        """As Markdown."""
        parts = [f"{self.models}; {self.machine}", speed_table(self.speeds)]
        if self.peaks:
            parts.append(peak_table(self.peaks))
        if self.beside:
            parts.append(beside_table(self.beside))
        return "\n\n".join(parts)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def measure_merging(
    settings: Settings,
    *,
    parameters: str,
    dtype: str,
    threads: int | None = None,
    names: Sequence[str] = (),
    peer: bool = False,
) -> Merging:
    """Merge random models that are made on the spot, and removed afterwards.

    Args:
        settings: models are written to its home, mergekit is installed there.
        parameters: how many the models have, as in ``SIZES``.
        dtype: float32 or bfloat16.
        threads: that merge; as many as torch would use when None.
        names: of methods; all but those of cost class ``prepared`` when there are none.
        peer: whether mergekit merges as well.

    Raises:
        PeerFailed: mergekit could not be installed, or did not merge.
        UnknownName: no such method.
    """
    chosen = [methods[name].name for name in names or default_methods()]
    if threads is not None:
        torch.set_num_threads(threads)
    settings.home.mkdir(parents=True, exist_ok=True)
    command = mergekit_command(settings.home / "peers") if peer else None
    with tempfile.TemporaryDirectory(dir=settings.home) as folder:
        zoo = write_zoo(Path(folder), SIZES[parameters], dtype=dtype)
        os.sync()  # what is still on its way to the disk would slow down whatever is first
        found = Merging(
            models=f"{len(zoo.parents)} parents of {parameters} parameters in {dtype}",
            machine=machine(),
            speeds=speeds(zoo, chosen),
            peaks=peaks(zoo, [name for name in MEASURED if name == LINEAR or name in chosen]),
        )
        if command is not None:
            with Peer(command, base=zoo.base, threads=torch.get_num_threads()) as process:
                found = replace(found, beside=beside(zoo, process))
    return found


def measure_scoring(
    settings: Settings, *, dtype: str, threads: int | None = None, peer: bool = False
) -> Scoring:
    """Score random models that are made on the spot, beside lm-eval, and remove them afterwards.

    Args:
        settings: models and tasks are written to its home, mergekit is installed there.
        dtype: float32 or bfloat16.
        threads: that score; as many as torch would use when None.
        peer: whether mergekit's evolutionary search takes part.

    Raises:
        PeerFailed: mergekit could not be installed, or did not score.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    settings.home.mkdir(parents=True, exist_ok=True)
    command = mergekit_command(settings.home / "peers", EVOLVE) if peer else ()
    return score_paces(settings.home, dtype=dtype, peer=command)


def _mixtures(names: tuple[str, ...]) -> list[Recipe]:
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.2, 0.8, size=(_CANDIDATES, len(names)))
    return [mixture(names, tuple(row.tolist())) for row in weights]
