"""After its last evaluation a search looks again, at examples that it never saw."""

from __future__ import annotations

import math
from collections import Counter
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest

from api.reading import Reading
from api.selection import OVERALL
from api.store import Store
from search.outcome import Scored, Split
from search.paired import difference
from search.pareto import preference, span
from tests.analytic import KEYS, LAYOUT, AnalyticFleet, is_degenerate, scores, submission
from tests.attending import Over, attending, controller_of, progress_of, turns, wait_for
from workers.fleet import Fleet
from workers.messages import Confirm, Evaluate, Job, Rejected, Report

BASELINES = {"base": 0, "add": 1, "reverse": 2, "average": 3}


def searched(store: Store, fleet: Fleet | None = None, **changes: Any) -> str:
    search_id = store.create_search(submission({"name": "cma_es"}, **changes))
    attend(store, search_id, fleet)
    return search_id


def attend(store: Store, search_id: str, fleet: Fleet | None = None) -> None:
    controller_of(store, fleet or AnalyticFleet()).run(Over(store, search_id))


def read(store: Store, search_id: str) -> Reading:
    reading = Reading(store.search(search_id))
    reading.catch_up(store)
    return reading


def confirmed(fleet: AnalyticFleet, split: Split) -> list[int]:
    return sorted(
        int(job.id.rpartition("/")[2])
        for job in fleet.submitted
        if isinstance(job.work, Confirm) and job.work.suite.split is split
    )


def test_finalists_and_baselines_are_selected_winner_and_baselines_reported(store: Store) -> None:
    fleet = AnalyticFleet()
    search_id = searched(store, fleet)
    reading = read(store, search_id)
    selection = reading.selection
    assert 0 < len(selection.finalists) <= 16
    assert set(reading.standings.front) & set(selection.finalists)
    contenders = sorted({*selection.finalists, *BASELINES.values()})
    assert sorted(set(confirmed(fleet, Split.SELECT))) == contenders == sorted(selection.selected)
    shown = sorted({selection.winner, *BASELINES.values()})
    assert confirmed(fleet, Split.REPORT) == shown == sorted(selection.reported)
    phases = [kind for kind, _ in groupby(turns(store, search_id))]
    assert phases == ["surveyed", "selecting", "reporting", "finished"]


def rounds_of(store: Store, search_id: str) -> list[dict[str, Any]]:
    return [dict(e.body) for e in store.events(search_id) if e.kind == "selecting"]


def test_each_round_scores_who_is_left_on_twice_as_many_examples(store: Store) -> None:
    fleet = AnalyticFleet()
    search_id = searched(store, fleet)
    rounds = rounds_of(store, search_id)
    assert len(rounds) > 1
    assert rounds[-1]["rungs"][-1] == LAYOUT.size
    for before, now in pairwise(rounds):
        assert now["rungs"][:-1] == before["rungs"]
        assert now["rungs"][-1] in (2 * before["rungs"][-1], LAYOUT.size)
        assert set(now["finalists"]) <= set(before["finalists"])
    jobs = [job.work for job in fleet.submitted if isinstance(job.work, Confirm)]
    asked = Counter(tuple(w.rungs) for w in jobs if w.suite.split is Split.SELECT and w.rungs)
    expected = [(tuple(r["rungs"]), set(r["finalists"]) - set(BASELINES.values())) for r in rounds]
    assert asked == {rungs: len(who) for rungs, who in expected if who}
    selection = read(store, search_id).selection
    for ordinal, seen in selection.selected.items():
        last = max(
            (r["rungs"][-1] for r in rounds if ordinal in r["finalists"]), default=LAYOUT.size
        )
        count = LAYOUT.size if ordinal in BASELINES.values() else last
        assert {score.count for score in seen.values()} == {count}
        whole = store.confirmed(search_id, ordinal, Split.SELECT)
        assert {score.count for score in whole.values()} == {count}
        assert {len(x) for x in store.examples(search_id, ordinal, Split.SELECT).values()} == {
            count
        }


def test_where_the_survey_did_not_say_how_many_examples_there_are_all_are_scored_at_once(
    store: Store,
) -> None:
    search_id = store.create_search(submission({"name": "cma_es"}))
    store.record_survey(search_id, surveyed(()))
    fleet = AnalyticFleet()
    attend(store, search_id, fleet)
    (only,) = rounds_of(store, search_id)
    assert only["rungs"] == []
    contenders = sorted({*only["finalists"], *BASELINES.values()})
    assert confirmed(fleet, Split.SELECT) == contenders
    assert read(store, search_id).selection.winner in contenders


def test_the_winner_is_the_best_on_select_and_not_on_search(store: Store) -> None:
    search_id = searched(store)
    reading = read(store, search_id)
    last = {*rounds_of(store, search_id)[-1]["finalists"], *BASELINES.values()}
    selected = {
        n: [entry[key].value for key in KEYS]
        for n, entry in reading.selection.selected.items()
        if n in last
    }
    unit = span([selected[n] for n in BASELINES.values()])
    values = {n: float(preference(point, [1, 1], unit)) for n, point in selected.items()}
    assert reading.selection.winner == max(values, key=lambda n: values[n]) == reading.best()
    first = reading.best({KEYS[0]: 1.0})
    assert first == max(selected, key=lambda n: selected[n][0])


def test_finalists_and_winner_hold_the_constraints_where_anyone_does(store: Store) -> None:
    """Of the first objective the winner without constraints would score less than that."""
    free = read(store, searched(store)).selection
    assert free.winner is not None
    bar = free.selected[free.winner][KEYS[0]].value + 0.01
    objectives = [
        {"task": "add", "metric": "score", "at_least": bar},
        {"task": "reverse", "metric": "acc"},
    ]
    reading = read(store, searched(store, objectives=objectives))
    selection, standings = reading.selection, reading.standings
    entries = {n: store.candidate(reading.search.id, n) for n in selection.finalists}
    for entry in entries.values():
        assert entry is not None
        assert entry.outcome is not None
        assert entry.outcome.scores[KEYS[0]].value >= bar
    assert standings.front
    assert selection.winner != free.winner
    assert selection.winner is not None
    assert selection.selected[selection.winner][KEYS[0]].value >= bar


def test_scores_are_those_of_their_split(store: Store) -> None:
    search_id = searched(store)
    winner = read(store, search_id).selection.winner
    entry = store.candidate(search_id, winner or 0)
    assert entry is not None
    for split in (Split.SELECT, Split.REPORT):
        expected = scores(entry.candidate.recipe, split)
        assert store.confirmed(search_id, entry.candidate.ordinal, split) == expected
    assert store.confirmed(search_id, winner or 0, Split.REPORT) != scores(entry.candidate.recipe)


def test_gains_over_every_baseline_are_paired_over_the_examples_of_report(store: Store) -> None:
    search_id = searched(store)
    selection = read(store, search_id).selection
    assert list(selection.gains) == [n for n, at in BASELINES.items() if at != selection.winner]
    ours = store.confirmed(search_id, selection.winner or 0, Split.REPORT)
    for name, gains in selection.gains.items():
        theirs = store.confirmed(search_id, BASELINES[name], Split.REPORT)
        assert set(gains) == {OVERALL, *KEYS}
        for key in KEYS:
            again = difference(ours[key], theirs[key], np.random.default_rng(5))
            assert gains[key].value == pytest.approx(again.value)
            assert gains[key].low == pytest.approx(again.low, abs=0.05)
            assert gains[key].low <= gains[key].value <= gains[key].high
    parents = {name: selection.selected[BASELINES[name]] for name in ("add", "reverse")}
    assert selection.best_parent in parents


def test_no_score_of_another_split_is_among_the_outcomes(store: Store) -> None:
    search_id = searched(store)
    for outcome in store.outcomes(search_id, 0, 10**6):
        if isinstance(outcome, Scored) and not outcome.left_early:
            assert outcome.scores == scores(outcome.candidate.recipe, Split.SEARCH)
        elif isinstance(outcome, Scored):
            for score in outcome.scores.values():
                assert score.split is Split.SEARCH


def test_an_extended_search_looks_again_and_measures_nobody_twice(store: Store) -> None:
    search_id = searched(store, evaluations=30)
    before = read(store, search_id).selection
    store.append(search_id, "extend", {"evaluations": 30})
    fleet = AnalyticFleet()
    attend(store, search_id, fleet)
    after = read(store, search_id).selection
    assert not set(confirmed(fleet, Split.SELECT)) & set(before.selected)
    assert not set(confirmed(fleet, Split.REPORT)) & set(before.reported)
    assert set(after.selected) == {*before.selected, *after.finalists}
    whole = read(store, searched(store, evaluations=60)).selection
    assert after.finalists == whole.finalists
    assert read(store, search_id).progress.state == "finished"


class Stopping(AnalyticFleet):
    """Calls when a job of a kind has been submitted so often."""

    def __init__(self, split: Split, count: int, call: Any) -> None:
        super().__init__(slots=1)
        self._split, self._count, self._call = split, count, call

    def submit(self, job: Job) -> None:
        super().submit(job)
        if isinstance(job.work, Confirm) and job.work.suite.split is self._split:
            self._count -= 1
            if self._count == 0:
                self._call()


def test_a_search_that_is_cancelled_while_it_chooses_has_the_best_so_far(store: Store) -> None:
    search_id = store.create_search(submission({"name": "cma_es"}))
    fleet = Stopping(Split.SELECT, 4, lambda: store.append(search_id, "cancel"))
    with attending(store, fleet):
        wait_for(lambda: progress_of(store, search_id).state == "cancelled", "the end")
        wait_for(lambda: len(read(store, search_id).selection.selected) >= 3, "what was begun")
    selection = read(store, search_id).selection
    assert selection.reported == {}
    assert selection.winner in selection.selected
    assert selection.winner == selection.choose()


def test_a_search_that_is_cancelled_before_has_the_best_of_the_search(store: Store) -> None:
    search_id = store.create_search(submission(evaluations=100_000))
    with attending(store):
        wait_for(lambda: store.proposed(search_id) > 20, "some progress")
        store.append(search_id, "cancel")
        wait_for(lambda: progress_of(store, search_id).state == "cancelled", "the end")
    reading = read(store, search_id)
    assert reading.selection.winner is None
    assert reading.best() == reading.standings.best() is not None


def test_a_search_can_pause_while_it_chooses(store: Store) -> None:
    search_id = store.create_search(submission({"name": "cma_es"}))
    fleet = Stopping(Split.SELECT, 2, lambda: store.append(search_id, "pause"))
    with attending(store, fleet):
        wait_for(lambda: progress_of(store, search_id).state == "paused", "the pause")
        store.append(search_id, "resume")
        wait_for(lambda: progress_of(store, search_id).state == "finished", "the end")
    jobs = [job.id for job in fleet.submitted]
    assert len(jobs) == len(set(jobs))


class Picky(AnalyticFleet):
    """Cannot score one candidate on one split."""

    def __init__(self, refuses: str) -> None:
        super().__init__()
        self._refuses = refuses

    def next_report(self, timeout_s: float) -> Report | None:
        report = super().next_report(timeout_s)
        if report is not None and self._refuses in report.job:
            return Report(report.job, Rejected("t is not finite (nan)"), "w")
        return report


def test_who_cannot_be_scored_again_cannot_win_and_the_search_still_ends(store: Store) -> None:
    search_id = searched(store)
    winner = read(store, search_id).selection.winner
    last = rounds_of(store, search_id)[-1]["rungs"][-2]
    search_id = searched(store, Picky(f"/select/{last}/{winner}"))
    selection = read(store, search_id).selection
    assert selection.winner not in (None, winner)
    told = [e.body for e in store.events(search_id) if (e.kind, e.ordinal) == ("selected", winner)]
    assert told[-1]["reason"] == "t is not finite (nan)"
    assert len(told) > 1, "control: it was scored before, on fewer examples"
    assert winner not in rounds_of(store, search_id)[-1]["finalists"]


def test_a_baseline_that_cannot_be_reported_is_compared_with_nothing(store: Store) -> None:
    selection = read(store, searched(store, Picky("/report/0"))).selection
    assert "base" not in selection.gains
    assert "average" in selection.gains


def test_a_search_without_a_single_score_ends_without_a_winner(store: Store) -> None:
    search_id = searched(store, Picky("/evaluate/"), evaluations=10)
    reading = read(store, search_id)
    assert turns(store, search_id) == ["surveyed", "selecting", "reporting", "finished"]
    assert reading.selection.winner is reading.best() is None


def test_candidates_that_left_early_are_no_finalists(store: Store) -> None:
    """A race scores who is behind on some examples only, where anything may look good."""

    class Racing(AnalyticFleet):
        def next_report(self, timeout_s: float) -> Report | None:
            report = super().next_report(timeout_s)
            if report is None or not report.job.endswith("/evaluate/9"):
                return report
            result = report.result
            lucky = {
                key: type(score)(1.0, math.nan, 5, np.ones(5, np.float32))
                for key, score in getattr(result, "scores", {}).items()
            }
            return Report(report.job, type(result)(lucky, result.timings), "w")  # type: ignore[union-attr, call-arg]  # an evaluation

    search_id = searched(store, Racing())
    reading = read(store, search_id)
    assert 9 in reading.standings.front
    assert 9 not in reading.selection.finalists


def test_workers_are_told_which_examples_the_search_began_with(store: Store) -> None:
    from evals.suite import Draw

    draws = tuple(Draw(task, s, 72, f"{task}{s}") for s in Split for task in ("add", "reverse"))
    search_id = store.create_search(submission(evaluations=10, seed=7))
    store.record_survey(search_id, surveyed(draws))
    fleet = AnalyticFleet()
    attend(store, search_id, fleet)
    assert read(store, search_id).progress.draws == draws
    for job in fleet.submitted:
        assert isinstance(job.work, Evaluate | Confirm)
        split, told = job.work.suite.split, job.work.suite.digests
        assert job.work.suite.seed == 7
        assert told == (("add", f"add{split}"), ("reverse", f"reverse{split}"))


def surveyed(draws: Any) -> Any:
    from workers.messages import Surveyed

    return Surveyed({}, None, draws=draws)


def test_control_some_candidates_of_the_fake_search_are_infeasible(store: Store) -> None:
    outcomes = store.outcomes(searched(store), 0, 10**6)
    assert any(is_degenerate(outcome.candidate.recipe) for outcome in outcomes)
