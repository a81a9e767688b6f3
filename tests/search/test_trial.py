"""Optimizers can be tried on any function of coefficients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search.problems import Invalid
from search.trial import evaluations, load_problem


class Hills:
    """Each objective is a hill over one corner of the unit square, or of a larger cube."""

    def __init__(self, n: int = 2) -> None:
        self.n = n
        self.calls = 0

    def __call__(self, coefficients: np.ndarray) -> list[float]:
        self.calls += 1
        assert coefficients.shape == (self.n,)
        assert ((coefficients >= 0) & (coefficients <= 1)).all()
        return [float(np.exp(-((coefficients - corner) ** 2).mean())) for corner in (0.2, 0.7)]


@pytest.mark.parametrize("optimizer", ["auto", "map", "m2n2", "nsga2", "cma_es", "uniform"])
@pytest.mark.parametrize("in_flight", [1, 4])
def test_every_evaluation_is_charged(optimizer: str, in_flight: int) -> None:
    problem = Hills()
    found = list(evaluations(problem, optimizer, count=14, in_flight=in_flight, seed=0))
    assert len(found) == 14
    assert problem.calls == 14 + 1  # once to learn how many objectives there are
    assert [e.coefficients for e in found[:4]] == [(0, 0), (1, 0), (0, 1), (0.5, 0.5)]
    for e in found:
        assert e.objectives == tuple(Hills()(np.array(e.coefficients)))


def test_the_same_seed_gives_the_same_points() -> None:
    runs = [
        [e.coefficients for e in evaluations(Hills(), "auto", count=16, in_flight=2, seed=seed)]
        for seed in (3, 3, 4)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_more_dimensions_than_parents_are_blocks() -> None:
    found = list(evaluations(Hills(100), "cma_es", count=5, in_flight=1, seed=0))
    assert all(len(e.coefficients) == 100 for e in found)


def test_a_problem_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "problem.py"
    file.write_text("class Sum:\n    n = 3\n    def __call__(self, c):\n        return sum(c)\n")
    problem = load_problem(f"{file}:Sum")
    assert problem.n == 3
    found = list(evaluations(problem, "uniform", count=3, in_flight=1, seed=0))
    assert [e.objectives for e in found] == [(0.0,), (1.0,), (1.0,)]


@pytest.mark.parametrize(
    ("text", "reference", "message"),
    [
        (None, "nowhere.py:f", "nowhere.py is no file"),
        ("def f(): return 3", "p.py:f", "makes no function with an attribute n"),
        ("def f(): return 3", "p.py:g", "has no attribute 'g'"),
        ("def f(:", "p.py:f", "SyntaxError"),
    ],
)
def test_what_is_no_problem_is_said(
    tmp_path: Path, text: str | None, reference: str, message: str
) -> None:
    if text is not None:
        (tmp_path / "p.py").write_text(text)
    with pytest.raises(Invalid, match=message):
        load_problem(f"{tmp_path}/{reference}")


def test_an_optimizer_that_there_is_not_is_refused() -> None:
    with pytest.raises(Invalid, match="unknown optimizer 'cma'"):
        next(evaluations(Hills(), "cma", count=1, in_flight=1, seed=0))


def test_what_cannot_search_a_function_is_refused() -> None:
    """M2N2 recombines parents, and here is one alone."""
    with pytest.raises(Invalid, match="name at least two"):
        next(evaluations(Hills(1), "m2n2", count=1, in_flight=1, seed=0))
