"""One search of a playground twice, with racing and without: what it costs, what it comes to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from api.attended import Attended, write
from api.demo import playground_spec
from api.selection import Selection
from api.settings import Settings
from api.store import Store
from api.validation import validate
from evals.playground import build
from evals.playground.margin import row
from evals.suite import Split
from search.spec import RACING
from workers.bench.tables import columns
from workers.merging.merge_method import methods
from workers.messages import Report
from workers.worker import Worker


@dataclass(frozen=True, slots=True)
class Cost:
    """What a search took, in examples of all tasks, and what its winner scores.

    Args:
        searched: examples that candidates were scored on to search.
        selected: likewise to choose among finalists, baselines included.
        left_early: candidates that were not scored to the end.
        report: mean of the tasks on the report split, as fractions (see `evals.playground.margin`).
    """

    searched: int
    selected: int
    left_early: int
    report: float

    @property
    def examples(self) -> int:
        """Of which nothing is shown, but all is paid."""
        return self.searched + self.selected


@dataclass(frozen=True, slots=True)
class Pair:
    """The same spec and seed, scored flat and raced."""

    seed: int
    flat: Cost
    raced: Cost


def paired_searches(
    settings: Settings, *, optimizer: str, evaluations: int, seeds: Sequence[int]
) -> Iterator[Pair]:
    """The search of the demo with every seed, one worker in this process.

    Args:
        settings: the playground is built in its home unless it is there.
        optimizer: by name, with its defaults.
        evaluations: of each search.
        seeds: of the searches; the models stay the same.
    """
    playground = build(settings.playground)
    own = settings.model_copy(
        update={"model_roots": (playground.folder,), "task_folders": (playground.tasks,)}
    )
    worker = Worker()
    for seed in seeds:
        document = playground_spec(playground, evaluations, seed)
        document["optimizer"] = {"name": optimizer}
        flat, raced = (
            one_search(own, worker, document | {"racing": error}) for error in (0.0, RACING)
        )
        yield Pair(seed, flat, raced)


def paired_table(pairs: Sequence[Pair]) -> str:
    """A line for every seed, and what they say together."""
    header = ("seed", "examples flat", "raced", "times fewer", "report flat", "raced", "difference")
    lines: list[tuple[str, ...]] = [
        (
            str(pair.seed),
            f"{pair.flat.examples:,}",
            f"{pair.raced.examples:,}",
            f"{pair.flat.examples / pair.raced.examples:.1f}",
            f"{pair.flat.report:.3f}",
            f"{pair.raced.report:.3f}",
            f"{pair.raced.report - pair.flat.report:+.3f}",
        )
        for pair in pairs
    ]
    gains = np.array([pair.raced.report - pair.flat.report for pair in pairs])
    error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.nan
    flat, raced = (sum(getattr(p, arm).examples for p in pairs) for arm in ("flat", "raced"))
    reports = [np.mean([getattr(p, arm).report for p in pairs]) for arm in ("flat", "raced")]
    lines.append(
        (
            "all",
            f"{flat:,}",
            f"{raced:,}",
            f"{flat / raced:.1f}",
            *(f"{report:.3f}" for report in reports),
            f"{gains.mean():+.3f} ± {error:.3f}",
        )
    )
    return columns(header, lines)


def one_search(settings: Settings, worker: Worker, document: dict[str, Any]) -> Cost:
    """The service's own path of a search, on one worker that answers at once.

    Args:
        settings: the log is kept in its home until the end.
        worker: that does every job.
        document: the spec, whose tasks are the playground's or like them.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    submission = validate(document, settings).submission
    with (
        tempfile.TemporaryDirectory(dir=settings.home) as folder,
        closing(Store(f"sqlite:///{Path(folder) / 'log.db'}")) as store,
    ):
        search = store.search(store.create_search(submission))
        attended = Attended(
            store,
            search,
            declaration=lambda name: methods[name].declaration,
            destination=lambda *_: folder,
        )
        while (assignment := attended.next_job(lambda _: False)) is not None:
            result = worker.run(assignment.job)
            write(store, assignment, Report(assignment.job.id, result, "bench"))
            attended.catch_up()
        return _cost(store, search.id)


def _cost(store: Store, search_id: str) -> Cost:
    search = store.search(search_id)
    selection = Selection(search.spec, search.submission.directions)
    events = store.events(search_id, limit=1_000_000)
    selection.feed(events)
    if selection.winner is None:
        raise RuntimeError(f"the search came to nothing: {events[-1].body}")
    searched = [event for event in events if event.kind == "scored"]
    return Cost(
        searched=sum(score.count for event in searched for score in event.scores.values()),
        # Each round goes on where the one before it ended.
        selected=sum(s.count for scores in selection.selected.values() for s in scores.values()),
        left_early=sum(bool(event.body.get("left_early")) for event in searched),
        report=row(store.confirmed(search_id, selection.winner, Split.REPORT))["mean"],
    )
