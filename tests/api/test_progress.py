"""Progress is a fold of the log, whatever the log holds."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.progress import Progress
from api.schemas import State
from api.store import Event
from search.problems import Problem
from tests.analytic import submission
from workers.messages import MODEL

START = datetime(2026, 11, 21, tzinfo=UTC)


def log(*entries: str | tuple[str, Any]) -> list[Event]:
    """Kinds, or (kind, ordinal), or (kind, body), a second apart."""
    events = []
    for place, entry in enumerate(entries):
        kind, rest = entry if isinstance(entry, tuple) else (entry, None)
        ordinal = rest if isinstance(rest, int) else None
        body: Mapping[str, Any] = rest if isinstance(rest, Mapping) else {}
        at = START + timedelta(seconds=place)
        events.append(Event(place + 1, kind, ordinal, at, body))  # type: ignore[arg-type]  # any word
    return events


def after(*entries: str | tuple[str, Any]) -> Progress:
    progress = Progress(submission(evaluations=10).spec)
    progress.feed(log(*entries))
    return progress


@pytest.mark.parametrize(
    ("entries", "state"),
    [
        ([], "surveying"),
        (["surveyed"], "running"),
        (["surveyed", "pause"], "paused"),
        (["pause", "surveyed"], "paused"),
        (["pause"], "paused"),
        (["pause", "resume"], "surveying"),
        (["surveyed", "pause", "pause", "resume"], "running"),
        (["surveyed", "finished"], "finished"),
        (["surveyed", "finished", "cancel"], "finished"),
        (["surveyed", "finished", ("extend", {"evaluations": 1})], "running"),
        (["surveyed", "pause", "finished", ("extend", {"evaluations": 1})], "paused"),
        (["surveyed", "cancel"], "cancelled"),
        (["cancel", "surveyed"], "cancelled"),
        (["surveyed", "cancel", "resume", ("extend", {"evaluations": 1})], "cancelled"),
        ([("failed", {"problems": []}), "resume"], "failed"),
    ],
)
def test_state_follows_from_the_log(entries: list[Any], state: State) -> None:
    assert after(*entries).state == state


def test_extensions_add_to_the_budget_until_the_search_is_over() -> None:
    extend = ("extend", {"evaluations": 5})
    assert after(extend, "surveyed", extend).evaluations == 20
    assert after(extend, "cancel", extend).evaluations == 15


def test_a_search_that_stopped_has_what_it_had_then() -> None:
    stopped = after("surveyed", ("stopped", {"evaluations": 6, "reason": "nothing new"}))
    assert (stopped.evaluations, stopped.stopped, stopped.stopped_at) == (6, "nothing new", 6)
    assert stopped.state == "running"
    assert not stopped.exhausted
    again = after(
        "surveyed",
        ("extend", {"evaluations": 3}),
        ("stopped", {"evaluations": 6, "reason": "nothing new"}),
        "finished",
        ("extend", {"evaluations": 5}),
    )
    assert (again.evaluations, again.stopped, again.stopped_at) == (11, None, 6)
    assert again.state == "running"


def test_complete_counts_outcomes_without_a_hole() -> None:
    progress = after(("scored", 0), ("scored", 2), ("infeasible", 3))
    assert (progress.complete, progress.scored, progress.infeasible) == (1, 2, 1)
    assert [progress.recorded(n) for n in range(5)] == [True, False, True, True, False]
    progress.feed([Event(4, "scored", 1, START, {})])
    assert progress.complete == 4
    assert not progress.exhausted


def test_a_search_is_exhausted_when_every_ordinal_has_its_outcome() -> None:
    assert after(*(("scored", n) for n in range(10))).exhausted
    assert not after(*(("scored", n) for n in range(1, 11))).exhausted


def test_an_extension_reopens_an_exhausted_search() -> None:
    outcomes = [("scored", n) for n in range(10)]
    assert not after(*outcomes, ("extend", {"evaluations": 1})).exhausted


def test_time_left_is_what_the_last_outcomes_took() -> None:
    assert after("surveyed").seconds_left is None
    assert after("surveyed", ("scored", 0)).seconds_left is None
    assert after("surveyed", ("scored", 0), ("scored", 1), ("scored", 2)).seconds_left == 7.0
    assert after("surveyed", ("scored", 0), ("scored", 1), "pause").seconds_left is None
    assert after("surveyed", ("scored", 0), ("scored", 1), "finished").seconds_left == 0.0


def test_a_checkpoint_is_what_was_last_said_of_it() -> None:
    asked = ("checkpoint_requested", 3)
    assert after(asked).checkpoints[3, MODEL].state == "requested"
    assert after(asked, ("checkpoint_failed", 3)).checkpoints[3, MODEL].state == "failed"
    assert after(asked, ("checkpoint_failed", 3), asked).checkpoints[3, MODEL].state == "requested"
    stored = after("cancel", asked, ("checkpoint_stored", 3))
    assert stored.checkpoints[3, MODEL].state == "stored"
    assert stored.checkpoints_of(4) == {}
    assert stored.state == "cancelled"


def test_a_failure_says_why() -> None:
    problems = {"problems": [{"field": "base", "message": "holds NaN"}]}
    assert after(("failed", problems)).problems == (Problem(field="base", message="holds NaN"),)
