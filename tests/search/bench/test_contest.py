"""Optimizers are held against each other evaluation by evaluation."""

from __future__ import annotations

import pytest

from search.bench.contest import contest, contest_lines, contestants
from search.bench.random_points import RandomPoints
from search.optimizer import Options, optimizers
from search.problems import Invalid
from search.spec import SearchSpec


def test_all_optimizers_and_the_baselines_take_part() -> None:
    names = {entry.name for entry in contestants()}
    assert names == {entry.name for entry in optimizers} | {"random", "map_published"}


def test_more_evaluations_reach_no_less() -> None:
    runs = list(
        contest(contestants(["random"]), problems=["zdt1"], evaluated=120, in_flight=(1,), seeds=2)
    )
    assert [run.seed for run in runs] == [0, 1]
    for run in runs:
        assert list(run.shares) == [20, 50, 100, 120]
        assert list(run.shares.values()) == sorted(run.shares.values())


def test_map_as_published_fits_once_and_evaluates_the_front_that_it_predicts() -> None:
    """On a quadratic front it is better than random points, and its fit costs nothing later."""
    runs = list(
        contest(
            contestants(["random", "map_published"]),
            problems=["rotated-2"],
            evaluated=60,
            in_flight=(1, 8),
            seeds=1,
        )
    )
    assert len(runs) == 4
    assert all(0 < run.shares[60] <= 1.01 for run in runs)


def test_the_table_has_medians_and_an_optimizer_to_a_column() -> None:
    runs = list(
        contest(
            contestants(["random", "uniform"]),
            problems=["zdt1", "zdt2"],
            evaluated=20,
            in_flight=(1,),
            seeds=3,
        )
    )
    header, lines = contest_lines(runs)
    assert header == ["problem", "in flight", "evaluations", "random", "uniform"]
    assert [line[:3] for line in lines[:-1]] == [["zdt1", "1", "20"], ["zdt2", "1", "20"]]
    ours = sorted(r.shares[20] for r in runs if (r.problem, r.optimizer) == ("zdt1", "random"))
    assert lines[0][3] == f"{ours[1]:.3f}"


@pytest.mark.parametrize(("problem", "optimizer"), [("zdt9", "random"), ("zdt1", "rendom")])
def test_what_is_not_there_is_said(problem: str, optimizer: str) -> None:
    with pytest.raises(Invalid, match="did you mean"):
        list(
            contest(
                contestants([optimizer]),
                problems=[problem],
                evaluated=5,
                in_flight=(1,),
                seeds=1,
            )
        )


class Choosy(RandomPoints):
    """Searches nothing."""

    name = "choosy"

    @staticmethod
    def problems(spec: SearchSpec, dim: int, options: Options) -> dict[str, str]:
        return {"space": "not this one"}


def test_what_cannot_search_functions_is_left_out() -> None:
    runs = contest([Choosy, RandomPoints], problems=["zdt1"], evaluated=5, in_flight=(1,), seeds=1)
    assert {run.optimizer for run in runs} == {"random"}
