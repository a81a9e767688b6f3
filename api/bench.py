"""What the log and the optimizers cost per candidate, in a short search and in a long one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np

from api.rebuild import build_run
from api.store import Provenance, Search, Store, Submission
from search.geometry import Geometry
from search.layout import Layout, Tensor
from search.method import MethodDeclaration, Parameter
from search.outcome import Candidate, Origin, Outcome, Score, Scored
from search.run import SearchRun, opening
from search.space import SearchSpace
from search.spec import parse_spec
from workers.messages import Timings, Zoo

Item = TypeVar("Item")

_LAYERS, _EXAMPLES, _PARALLEL, _REPEATS = 16, 200, 8, 60
_EPOCH = datetime.fromtimestamp(0, UTC)
_PARENTS = ("one", "two")
_KEYS = ("a/acc", "b/acc")
_METHOD = MethodDeclaration(
    name="bench",
    summary="Weights by layer.",
    source="none",
    parameters=(Parameter("weight", "share of a parent", per_parent=True),),
    uses_base=False,
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Mean wall-clock seconds that one candidate costs, in a log of so many outcomes.

    The mean, because some optimizers do the work of a generation at its last outcome.
    """

    what: str
    outcomes: int
    seconds: float


def costs(
    folder: Path,
    *,
    counts: Sequence[int] = (1_000, 100_000),
    optimizers: Sequence[str] = ("cma_es", "m2n2", "nsga2", "uniform"),
) -> Iterator[Cost]:
    """Commit, record and read on SQLite in ``folder``, then ask and absorb of every optimizer.

    Recording is durable: it includes waiting for the disk.
    """
    for count in counts:
        store = Store(f"sqlite:///{folder}/bench-{count}.db")
        search = store.search(store.create_search(_submission("uniform")))
        outcomes = list(itertools.islice(_outcomes(search), count + _REPEATS))
        store.restore(search.id, outcomes[:count])
        yield from _of_the_store(store, search.id, outcomes[count:], count)
        store.close()
        for name in optimizers:
            yield from _of_an_optimizer(name, outcomes, count)


def _of_the_store(
    store: Store, search_id: str, fresh: Sequence[Outcome], count: int
) -> Iterator[Cost]:
    timings = Timings(0.0, 0.0, 0.0)

    def record(outcome: Outcome) -> None:
        store.record(search_id, outcome, Provenance("bench", timings))

    def read(outcome: Outcome) -> None:
        ordinal = outcome.candidate.ordinal
        store.outcomes(search_id, ordinal, ordinal + 1)

    yield Cost("commit", count, _mean(lambda o: store.enqueue(search_id, o.candidate), fresh))
    yield Cost("record", count, _mean(record, fresh))
    yield Cost("read", count, _mean(read, fresh))


def _of_an_optimizer(name: str, outcomes: Sequence[Outcome], count: int) -> Iterator[Cost]:
    """Absorb ``count``, timing the last; then ask again and again for what comes next."""
    run = _run(name)
    for outcome in outcomes[: count - _REPEATS]:
        run.absorb(outcome)
    yield Cost(f"{name}: absorb", count, _mean(run.absorb, outcomes[count - _REPEATS : count]))
    ordinal = count + _PARALLEL - 1
    waiting = [outcome.candidate for outcome in outcomes[count:ordinal]]

    def propose(ordinal: int) -> None:
        run.propose(ordinal, waiting)

    yield Cost(f"{name}: ask", count, _mean(propose, [ordinal] * _REPEATS))


def _mean(work: Callable[[Item], object], items: Sequence[Item]) -> float:
    start = time.perf_counter()
    for item in items:
        work(item)
    return (time.perf_counter() - start) / len(items)


def _submission(optimizer: str) -> Submission:
    spec = parse_spec(
        {
            "name": "bench",
            "base": {"path": "base"},
            "parents": [{"name": name, "path": name} for name in _PARENTS],
            "method": _METHOD.name,
            "space": {
                "blocks": {"layers": 1},
                "parameters": {"weight": {"low": 0.0, "high": 1.0}},
            },
            "objectives": [{"task": key.split("/")[0], "metric": "acc"} for key in _KEYS],
            "optimizer": {"name": optimizer},
            "budget": {"evaluations": 1_000_000, "parallel": _PARALLEL},
        }
    )
    layout = Layout.of(
        Tensor(name=f"model.layers.{layer}.mlp.weight", shape=(8, 8), dtype="F32")
        for layer in range(_LAYERS)
    )
    zoo = Zoo("base", tuple((name, name) for name in _PARENTS), "float32")
    return Submission(spec, layout, zoo, dict.fromkeys(_KEYS, True))


def _run(optimizer: str) -> SearchRun:
    submission = _submission(optimizer)
    boundaries = np.array(submission.layout.grid(), dtype=np.int64)
    gram = np.tile(np.eye(len(_PARENTS) + 1), (len(boundaries) - 1, 1, 1))
    search = Search("bench", _EPOCH, submission)
    return build_run(search, _METHOD, Geometry(boundaries, gram))


def _outcomes(search: Search) -> Iterator[Outcome]:
    """The opening, then random points; scores are random bits that follow the genome."""
    space = SearchSpace(_METHOD, search.spec, search.submission.layout)
    rng = np.random.default_rng(0)
    start = opening(space)
    for ordinal in itertools.count():
        genome = rng.random(space.dim)
        candidate = Candidate(ordinal, space.decode(genome), Origin("sample"), tuple(genome))
        if ordinal < len(start):
            candidate = start[ordinal]
        scores = {}
        for key, share in zip(_KEYS, (genome.mean(), 1 - genome.mean()), strict=True):
            right = (rng.random(_EXAMPLES) < share).astype(np.float32)
            scores[key] = Score(float(right.mean()), float(right.std()), _EXAMPLES, right)
        yield Scored(candidate, scores)
