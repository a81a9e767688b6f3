"""What stands in a terminal says how to read it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rich.console import Console

from api.schemas import (
    CandidateView,
    ObjectiveView,
    OriginView,
    Progress,
    ScoreView,
    SearchView,
)
from api.terminal import candidate_table, objective_title, progress_text


@pytest.mark.parametrize(
    ("higher", "bounds", "title"),
    [
        (True, {}, "t/m"),
        (False, {}, "t/m (lower is better)"),
        (True, {"at_least": 0.6125}, "t/m (at least 0.6125)"),
        (
            False,
            {"at_least": 1.0, "at_most": 2.5},
            "t/m (lower is better, at least 1, at most 2.5)",
        ),
    ],
)
def test_direction_and_bounds_of_an_objective_are_said(
    higher: bool, bounds: dict[str, float], title: str
) -> None:
    assert objective_title(objective(higher, **bounds)) == title


def test_a_score_that_violates_its_bound_is_marked() -> None:
    candidates = [candidate(7, 0.5, violates=["t/m"]), candidate(8, 0.75, violates=[])]
    console = Console(width=100)
    with console.capture() as captured:
        console.print(candidate_table([objective(True, at_least=0.6)], candidates))
    text = captured.get()
    assert "0.5000 ±0.0100 !" in text
    assert "0.7500 ±0.0100 !" not in text


def test_why_a_search_stopped_early_is_said() -> None:
    search = SearchView(
        id="0123",
        name="s",
        state="finished",
        created_at=datetime(2026, 11, 21, tzinfo=UTC),
        method="ties",
        optimizer="auto",
        objectives=[objective(True)],
        progress=Progress(proposed=9, scored=9, infeasible=0, evaluations=9, seconds_left=0.0),
        best=None,
        front_size=0,
        hypervolume=None,
        seq=12,
        stopped="the hypervolume grew by 0 % in the last 4 evaluations, less than 1 %",
    )
    assert progress_text(search) == (
        "finished | 9/9 | stopped early: the hypervolume grew by 0 % in the last 4 evaluations, "
        "less than 1 %"
    )
    assert "stopped" not in progress_text(search.model_copy(update={"stopped": None}))


def objective(higher: bool, **bounds: float) -> ObjectiveView:
    return ObjectiveView(
        key="t/m", task="t", metric="m", weight=1.0, higher_is_better=higher, **bounds
    )


def candidate(ordinal: int, value: float, *, violates: list[str]) -> CandidateView:
    score = ScoreView(value=value, stderr=0.01, count=100, higher_is_better=True)
    return CandidateView(
        ordinal=ordinal,
        state="scored",
        seq=ordinal,
        origin=OriginView(move="sample", parents=[], detail={}),
        label=f"#{ordinal}",
        digest="0" * 64,
        scores={"t/m": score},
        violates=violates,
        proposed_at=datetime(2026, 11, 21, tzinfo=UTC),
    )
