"""Optimizers are held against each other evaluation by evaluation."""

from __future__ import annotations

import pytest

from search.bench.contest import contest, contest_lines, contestants
from search.bench.random_points import RandomPoints
from search.optimizer import Options, optimizers
from search.problems import Invalid
from search.spec import SearchSpec


def test_random_points_come_first_and_the_default_last() -> None:
    names = [entry.name for entry in contestants()]
    assert names[0] == "random"
    assert names[-1] == "auto"
    assert {"uniform", "nsga2", "cma_es", "map_published", "map", "m2n2"} < set(names)


def test_every_optimizer_can_take_part() -> None:
    names = [entry.name for entry in optimizers]
    assert [entry.name for entry in contestants(names)] == names


def test_more_evaluations_reach_no_less() -> None:
    runs = list(
        contest(contestants(["random"]), problems=["zdt1"], evaluated=120, in_flight=(1,), seeds=2)
    )
    assert [run.seed for run in runs] == [0, 1]
    for run in runs:
        assert list(run.shares) == [20, 50, 100, 120]
        assert list(run.shares.values()) == sorted(run.shares.values())


@pytest.mark.parametrize("in_flight", [1, 8])
def test_map_as_published_fits_once_and_evaluates_the_front_that_it_predicts(
    in_flight: int,
) -> None:
    """Where the front is that of a quadratic it is better than random points."""
    published, random = (
        next(
            iter(
                contest(
                    contestants([name]),
                    problems=["zdt1"],
                    evaluated=120,
                    in_flight=(in_flight,),
                    seeds=1,
                )
            )
        )
        for name in ("map_published", "random")
    )
    assert published.shares[120] > random.shares[120] + 0.1


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
