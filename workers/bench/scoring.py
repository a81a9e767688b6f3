"""What a candidate takes us, and what its scoring alone takes stock lm-eval, in turns."""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evals.suite import Split, Suite
from search.recipe import Recipe, mixture
from search.spec import BASE
from workers.bench.memory import peak_bytes, tells_peaks
from workers.bench.peer import Peer, configuration
from workers.bench.questions import EXAMPLES, KINDS, objective, write_tasks, write_tokenizer
from workers.bench.stock import Stock
from workers.bench.tables import columns, machine
from workers.bench.zoo import SIZES, write_zoo
from workers.messages import Evaluate, Evaluated, Job, Zoo
from workers.worker import Worker

# lm-eval is given the one of these that is fastest for it.
BATCH_SIZES = (16, 32, 64, 128)
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Turn:
    """One candidate.

    Args:
        seconds: by the clock.
        cpu_s: of processor time, child processes counted.
        score: on the task.
        examples: how many the score is of.
        other: what part of the seconds is not the model's; 0 where it is not known.
    """

    seconds: float
    cpu_s: float
    score: float
    examples: int
    other: float = 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Candidates on one task, by us and by lm-eval.

    Args:
        task: in words.
        ours_s: merging and scoring, median of the candidates.
        stock_s: ``simple_evaluate`` on the merged model, median; merging is not counted.
        batch_size: that is fastest for lm-eval.
        per_hour, stock_per_hour: candidates.
        times_faster: median ratio of what took one after the other, by the clock.
        times_faster_cpu: the same by processor time, which other programs disturb less.
        other_percent: of our seconds that are not spent in the model.
        score, stock_score: of the last candidate.
    """

    task: str
    ours_s: float
    stock_s: float
    batch_size: int
    per_hour: float
    stock_per_hour: float
    times_faster: float
    times_faster_cpu: float
    other_percent: float
    score: float
    stock_score: float


@dataclass(frozen=True, slots=True)
class PeerPace:
    """Candidates on one task by what mergekit's evolutionary search does with each, and by us.

    Args:
        task: in words.
        way: in words: where it merges, and its batch size.
        ours_s, theirs_s: merging and scoring, medians.
        per_hour: its candidates.
        times_faster, times_faster_cpu: as of a `Pace`.
        score, their_score: of the last candidate.
    """

    task: str
    way: str
    ours_s: float
    theirs_s: float
    per_hour: float
    times_faster: float
    times_faster_cpu: float
    score: float
    their_score: float


@dataclass(frozen=True, slots=True)
class Scoring:
    """What scoring costs.

    Args:
        models: that were merged and scored, in words.
        machine: that scored them, in words.
        paces: on the tasks.
        peak_mb, stock_peak_mb: resident memory of the two processes at most, with all that they
            import; lm-eval's holds the parents as well, for the merging. 0 where the system does
            not tell.
        peers: mergekit's evolutionary search on the same; none where it was not asked for.
    """

    models: str
    machine: str
    paces: Sequence[Pace]
    peak_mb: float
    stock_peak_mb: float
    peers: Sequence[PeerPace] = ()

    def text(self) -> str:
        """As Markdown."""
        header = (
            *("task", "s", "lm-eval, s", "its batch", "per hour", "lm-eval, per hour"),
            *("times faster", "by CPU time", "not forward, %", "score", "lm-eval's"),
        )
        memory = f"peak memory {self.peak_mb:.0f} MB, lm-eval {self.stock_peak_mb:.0f} MB"
        lines = [
            (p.task, p.ours_s, p.stock_s, str(p.batch_size), *astuple(p)[4:]) for p in self.paces
        ]
        parts = [f"{self.models}; {self.machine}; {memory}", columns(header, lines)]
        if self.peers:
            titles = (
                *("task", "mergekit-evolve", "s", "its s", "its per hour", "times faster"),
                *("by CPU time", "score", "its score"),
            )
            parts.append(columns(titles, map(astuple, self.peers)))
        return "\n\n".join(parts)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def score_paces(
    folder: Path,
    *,
    parameters: str = "9M",
    dtype: str = "bfloat16",
    kinds: Sequence[str] = tuple(KINDS),
    examples: int = EXAMPLES,
    rounds: int = _ROUNDS,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    peer: Sequence[str] = (),
) -> Scoring:
    """Score the same candidates by us and by lm-eval, each in a process of its own, in turns.

    Args:
        folder: models and tasks are written below it, and removed afterwards.
        parameters: how many the models have, as in ``SIZES``.
        dtype: they are stored and scored in.
        kinds: of tasks.
        examples: of each task.
        rounds: of candidates that are timed.
        batch_sizes: that lm-eval may choose from.
        peer: command that starts mergekit where its evolutionary search takes part too (see
            `workers.bench.peer`).

    Raises:
        ValueError: a candidate cannot be scored, or the two do not score the same examples.
        PeerFailed: mergekit ended instead.
    """
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        zoo = write_zoo(place, SIZES[parameters], dtype=dtype)
        for model in (BASE, *(name for name, _ in zoo.parents)):  # mergekit copies a parent's
            write_tokenizer(place / model, vocabulary=SIZES[parameters].vocabulary)
        tasks = place / "tasks"
        tasks.mkdir()
        write_tasks(tasks, examples=examples)
        with (
            _process(_begin, zoo, tasks, threads) as ours,
            _process(_begin_stock, zoo, tasks, threads) as stock,
        ):
            paces = [_pace(kind, zoo, ours, stock, rounds, batch_sizes) for kind in kinds]
            peers: list[PeerPace] = []
            if peer:
                options = {"tasks": str(tasks), "dtype": dtype}
                with Peer(peer, base=zoo.base, threads=threads, **options) as evolve:
                    for pace, kind in zip(paces, kinds, strict=True):
                        ways = (("memory", None), ("disk", None), ("disk", pace.batch_size))
                        peers += _peer_paces(kind, zoo, ours, evolve, ways, rounds)
            peaks = [side.submit(_peak_mb).result() for side in (ours, stock)]
    return Scoring(
        models=f"3 parents of {parameters} parameters in {dtype}, {examples} examples",
        machine=machine(threads=threads),
        paces=paces,
        peak_mb=peaks[0],
        stock_peak_mb=peaks[1],
        peers=peers,
    )


def _pace(
    kind: str,
    zoo: Zoo,
    ours: ProcessPoolExecutor,
    stock: ProcessPoolExecutor,
    rounds: int,
    batch_sizes: Sequence[int],
) -> Pace:
    recipes = _recipes(zoo)
    first = next(recipes)
    ours.submit(_turn, kind, first).result()  # opens, builds and tokenizes
    tried = {size: stock.submit(_stock_turn, kind, first, size).result() for size in batch_sizes}
    size = min(tried, key=lambda each: tried[each].seconds)
    pairs = []
    for _ in range(rounds):
        recipe = next(recipes)
        taken = [ours.submit(_turn, kind, recipe).result() for _ in range(3)]
        theirs = stock.submit(_stock_turn, kind, recipe, size).result()
        if taken[0].examples != theirs.examples:
            raise ValueError(f"{kind}: {taken[0].examples} examples, lm-eval {theirs.examples}")
        pairs += [(one, theirs) for one in taken]
    ours_s = statistics.median(one.seconds for one, _ in pairs)
    stock_s = statistics.median(other.seconds for _, other in pairs)
    mine, theirs = pairs[-1]
    return Pace(
        task=KINDS[kind],
        ours_s=ours_s,
        stock_s=stock_s,
        batch_size=size,
        per_hour=3600 / ours_s,
        stock_per_hour=3600 / stock_s,
        times_faster=statistics.median(b.seconds / a.seconds for a, b in pairs),
        times_faster_cpu=statistics.median(b.cpu_s / a.cpu_s for a, b in pairs),
        other_percent=100 * statistics.median(a.other for a, _ in pairs),
        score=mine.score,
        stock_score=theirs.score,
    )


def _recipes(zoo: Zoo) -> Iterator[Recipe]:
    rng = np.random.default_rng(0)
    names = tuple(name for name, _ in zoo.parents)
    while True:
        yield mixture(names, tuple(rng.uniform(0.2, 0.8, size=len(names)).tolist()))


def _peer_paces(
    kind: str,
    zoo: Zoo,
    ours: ProcessPoolExecutor,
    evolve: Peer,
    ways: Iterable[tuple[str, int | None]],
    rounds: int,
) -> Iterator[PeerPace]:
    """Each way in turns with us, after a first candidate that is not counted."""
    asked = objective(kind)
    for place, batch_size in ways:
        pairs = []
        for turn, recipe in zip(range(rounds + 1), _recipes(zoo), strict=False):
            mine = ours.submit(_turn, kind, recipe).result()
            question = {"place": place, "batch_size": batch_size}
            question |= {"task": asked.task, "metric": asked.metric}
            answer = evolve.ask({**question, "configuration": configuration(recipe, zoo)})
            if answer["examples"] != mine.examples:
                said = f"{mine.examples} examples, mergekit's search {answer['examples']:g}"
                raise ValueError(f"{kind}: {said}")
            pairs += [(mine, answer)] if turn else []
        ours_s = statistics.median(one.seconds for one, _ in pairs)
        theirs_s = statistics.median(other["seconds"] for _, other in pairs)
        mine, answer = pairs[-1]
        batches = "as it ships, one by one" if batch_size is None else f"batches of {batch_size}"
        yield PeerPace(
            task=KINDS[kind],
            way=f"{'in memory' if place == 'memory' else 'on disk'}, {batches}",
            ours_s=ours_s,
            theirs_s=theirs_s,
            per_hour=3600 / theirs_s,
            times_faster=statistics.median(b["seconds"] / a.seconds for a, b in pairs),
            times_faster_cpu=statistics.median(b["cpu_s"] / a.cpu_s for a, b in pairs),
            score=mine.score,
            their_score=answer["score"],
        )


def _process(begin: Callable[..., None], *arguments: object) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, context, initializer=begin, initargs=arguments)


# What follows runs in the two processes, each with its side.
_sides: dict[str, Any] = {}


class _Ours:
    def __init__(self, zoo: Zoo, tasks: Path, threads: int) -> None:
        self._worker = Worker(threads=threads)
        self._zoo, self._tasks = zoo, tasks

    def turn(self, kind: str, recipe: Recipe) -> Turn:
        suite = Suite((objective(kind),), Split.REPORT, (str(self._tasks),))
        start, cpu = time.perf_counter(), _cpu_s()
        result = self._worker.run(Job("bench", self._zoo, Evaluate(recipe, suite)))
        seconds, cpu_s = time.perf_counter() - start, _cpu_s() - cpu
        if not isinstance(result, Evaluated):
            raise ValueError(f"cannot be scored: {result}")
        (score,) = result.scores.values()
        other = 1 - result.timings.forward_s / seconds
        return Turn(seconds, cpu_s, score.value, score.count, other)


def _begin(zoo: Zoo, tasks: Path, threads: int) -> None:
    _sides["ours"] = _Ours(zoo, tasks, threads)


def _begin_stock(zoo: Zoo, tasks: Path, threads: int) -> None:
    # lm-eval shows its progress, and asks git in which repository it is.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    torch.set_num_threads(threads)
    _sides["stock"] = Stock(zoo, tasks)


def _turn(kind: str, recipe: Recipe) -> Turn:
    turn: Turn = _sides["ours"].turn(kind, recipe)
    return turn


def _stock_turn(kind: str, recipe: Recipe, batch_size: int) -> Turn:
    stock: Stock = _sides["stock"]
    stock.merge(recipe)
    start, cpu = time.perf_counter(), _cpu_s()
    score, examples = stock.score(objective(kind), batch_size)
    return Turn(time.perf_counter() - start, _cpu_s() - cpu, score, examples)


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _peak_mb() -> float:
    return peak_bytes() / 1e6 if tells_peaks() else 0.0
