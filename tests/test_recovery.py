"""A controller killed at any moment costs nothing but time."""

import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search.optimizers
from api.store import Store
from search.outcome import Candidate, Outcome, Scores, Split
from tests.analytic import submission

EVALUATIONS = 64
KILLS = 20
# Small enough that every optimizer is past its first generation, or fit, long before the end.
OPTIONS: dict[str, dict[str, Any]] = {
    "cma_es": {"population": 6},
    "m2n2": {"population": 8},
    "map": {"initial": 20, "population": 16, "generations": 4},
    "nsga2": {"population": 8},
}
# Of a file that holds several, one.
ONE_OF = {"optuna_samplers": "optuna_tpe"}
OPTIMIZERS = [
    ONE_OF.get(module.name, module.name)
    for module in pkgutil.iter_modules(search.optimizers.__path__)
]


class Zygote:
    """Starts and kills controllers; see `tests.zygote`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def start(self, url: str, search_id: str, seed: int, longest_s: float = 0.02) -> int:
        arguments = {"url": url, "search_id": search_id, "seed": seed}
        self._write(json.dumps({**arguments, "lease_s": 0.06, "longest_s": longest_s}))
        return int(self._read().removeprefix("started "))

    def ended(self) -> int:
        """Wait for the end of the started controller; its exit code, minus the signal if killed."""
        return int(self._read().removeprefix("ended "))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    yield started
    started.close()


@dataclass(frozen=True)
class Result:
    """All that must not depend on crashes."""

    outcomes: list[Outcome]
    candidates: list[Candidate]
    kinds: Counter[str]
    gapless: bool
    confirmed: dict[tuple[str, int, int | None], Scores]
    turns: list[tuple[str, Any]]


def result(store: Store, search_id: str) -> Result:
    log = store.events(search_id, limit=10**6)
    return Result(
        outcomes=store.outcomes(search_id, 0, 10**6),
        candidates=[entry.candidate for entry in store.candidates(search_id, limit=10**6)],
        kinds=Counter(event.kind for event in log),
        gapless=[event.seq for event in log] == list(range(1, len(log) + 1)),
        confirmed={
            (split, event.ordinal, first): store.confirmed(search_id, event.ordinal, split, first)
            for split, kind in ((Split.SELECT, "selected"), (Split.REPORT, "reported"))
            for event in log
            if event.kind == kind and event.ordinal is not None
            for first in (event.body.get("first"),)
        },
        turns=[(event.kind, event.body) for event in log if event.ordinal is None],
    )


def undisturbed(
    zygote: Zygote, store: Store, url: str, optimizer: dict[str, Any], **changes: Any
) -> Result:
    search_id = store.create_search(submission(optimizer, evaluations=EVALUATIONS, **changes))
    zygote.start(url, search_id, seed=0)
    assert zygote.ended() == 0
    return result(store, search_id)


def killed(
    zygote: Zygote,
    store: Store,
    url: str,
    optimizer: dict[str, Any],
    *,
    kills: int,
    rounds: int,
    seed: int,
) -> Result:
    """Kill the controller again and again, each time a random while after a random event.

    The events are drawn from the whole evaluation but its very end, so that every kill strikes; the
    moment after that is as random as the operating system. More kills come in each round of the
    selection and two in the report, where jobs are slow so that these strike as well.
    """
    rng = np.random.default_rng(seed)
    search_id = store.create_search(submission(optimizer, evaluations=EVALUATIONS))
    moments = [("", int(n)) for n in sorted(rng.integers(0, EVALUATIONS - 20, kills))]
    moments += [("selecting", 1), ("selected", 3)]
    moments += [("selecting", n) for n in range(2, rounds + 1)]
    moments += [("reporting", 1), ("reported", 1)]
    for life, (kind, count) in enumerate(moments):
        pid = zygote.start(url, search_id, seed=life, longest_s=0.2 if kind else 0.02)
        deadline = time.monotonic() + 90
        while _events(store, search_id, kind) < count:
            assert time.monotonic() < deadline, f"{count} events {kind} never came"
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.03))
        os.kill(pid, signal.SIGKILL)
        assert zygote.ended() == -signal.SIGKILL
    zygote.start(url, search_id, seed=len(moments))
    assert zygote.ended() == 0
    return result(store, search_id)


def strike(
    zygote: Zygote, store: Store, url: str, search_id: str, *, moments: list[int], pause_s: float
) -> None:
    """Kill a controller at each of some events, then let one finish."""
    for life, newest in enumerate(moments):
        pid = zygote.start(url, search_id, seed=life, longest_s=0.1)
        deadline = time.monotonic() + 90
        while _events(store, search_id, "") < newest:
            assert time.monotonic() < deadline, f"event {newest} never came"
            time.sleep(0.002)
        time.sleep(pause_s)
        os.kill(pid, signal.SIGKILL)
        assert zygote.ended() == -signal.SIGKILL
    zygote.start(url, search_id, seed=len(moments))
    assert zygote.ended() == 0


def _events(store: Store, search_id: str, kind: str) -> int:
    """How many there are of a kind, or in all."""
    if not kind:
        return next(head.seq for head in store.heads() if head.search_id == search_id)
    return sum(event.kind == kind for event in store.events(search_id, outcomes=False))


def assert_same_search(disturbed: Result, calm: Result) -> None:
    assert disturbed == calm
    scored_or_not = disturbed.kinds["scored"] + disturbed.kinds["infeasible"]
    assert scored_or_not == len(disturbed.outcomes) == len(disturbed.candidates) == EVALUATIONS
    assert disturbed.kinds["surveyed"] == disturbed.kinds["finished"] == 1
    assert disturbed.kinds["selected"] + disturbed.kinds["reported"] == len(disturbed.confirmed)
    assert disturbed.gapless


def compare(zygote: Zygote, url: str, name: str) -> None:
    optimizer = {"name": name, **OPTIONS.get(name, {})}
    store = Store(url)
    calm = undisturbed(zygote, store, url, optimizer)
    disturbed = killed(
        zygote, store, url, optimizer, kills=KILLS, rounds=calm.kinds["selecting"], seed=len(name)
    )
    store.close()
    assert_same_search(disturbed, calm)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_kills_change_nothing(zygote: Zygote, sqlite_url: str, name: str) -> None:
    compare(zygote, sqlite_url, name)


def test_kills_do_not_change_where_a_search_stops(zygote: Zygote, sqlite_url: str) -> None:
    optimizer = {"name": "nsga2", "population": 8}
    changes: dict[str, Any] = {"stop": {"patience": 16, "gain": 0.2}}
    store = Store(sqlite_url)
    calm = undisturbed(zygote, store, sqlite_url, optimizer, **changes)
    count = len(calm.outcomes)
    search_id = store.create_search(submission(optimizer, evaluations=EVALUATIONS, **changes))
    moments = [5, 12, *range(count - 5, count + 1)]
    strike(zygote, store, sqlite_url, search_id, moments=moments, pause_s=0.01)
    disturbed = result(store, search_id)
    store.close()
    assert disturbed == calm
    assert calm.kinds["stopped"] == 1
    assert 20 < count < EVALUATIONS


def test_twenty_kills_change_nothing_on_postgresql(zygote: Zygote, postgres: Any) -> None:
    compare(zygote, postgres.new_database(), "nsga2")


def test_control_an_optimizer_that_changes_when_asked_is_found_out(
    zygote: Zygote, sqlite_url: str
) -> None:
    store = Store(sqlite_url)
    calm = undisturbed(zygote, store, sqlite_url, {"name": "moody"})
    disturbed = killed(zygote, store, sqlite_url, {"name": "moody"}, kills=3, rounds=1, seed=1)
    store.close()
    assert len(disturbed.outcomes) == len(calm.outcomes) == EVALUATIONS
    with pytest.raises(AssertionError):
        assert_same_search(disturbed, calm)
