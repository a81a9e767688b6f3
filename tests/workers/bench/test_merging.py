"""The rows are complete and agree with each other; how fast anything is, is not tested."""

from __future__ import annotations

import numpy as np
import pytest

from search.method import LINES
from workers.bench.merging import Workbench, default_methods, speed_table, speeds
from workers.merging.merge_method import methods
from workers.messages import Zoo
from workers.methods.dare_ties import TRIM


def test_every_method_that_needs_no_long_preparation_has_a_row(zoo: Zoo) -> None:
    rows = speeds(zoo, rounds=2)
    assert [row.method for row in rows] == [
        "linear",
        *(n for n in default_methods() if n != "linear"),
    ]
    for row in rows:
        assert row.candidate_ms > 0
        assert row.times_copy > 0
        assert row.first_s > 0
    assert "| ties " in speed_table(rows)


def test_linear_is_once_itself_and_bytes_are_those_of_all_models(zoo: Zoo) -> None:
    linear, arithmetic = speeds(zoo, ["task_arithmetic"], rounds=1)
    size = Workbench(zoo).model_bytes
    assert linear.times_linear == 1.0
    assert linear.gb_per_s * linear.candidate_ms * 1e6 == pytest.approx(4 * size)  # 3 parents, out
    assert arithmetic.gb_per_s * arithmetic.candidate_ms * 1e6 == pytest.approx(5 * size)  # base
    ratio = arithmetic.candidate_ms / linear.candidate_ms
    assert arithmetic.times_linear == pytest.approx(ratio)


def test_methods_take_as_many_parents_as_they_can(zoo: Zoo) -> None:
    rows = {row.method: row.parents for row in speeds(zoo, ["ties", "slerp", "nearswap"], rounds=1)}
    assert rows == {"linear": 3, "ties": 3, "slerp": 2, "nearswap": 1}


def test_what_two_methods_remember_is_found_out_once_and_charged_to_both(zoo: Zoo) -> None:
    bench, rng = Workbench(zoo), np.random.default_rng(0)
    ties, breadcrumbs = bench.contender("ties"), bench.contender("breadcrumbs")
    for contender in (ties, breadcrumbs):
        bench.merge_seconds(contender, contender.draw(rng))
    assert ties.account.size == breadcrumbs.account.size > 0
    assert ties.account.found_s == 0.0 < breadcrumbs.account.found_s


def test_every_candidate_has_parameters_of_its_own(zoo: Zoo) -> None:
    bench, rng = Workbench(zoo), np.random.default_rng(0)
    for name in default_methods():
        contender = bench.contender(name)
        one, two = contender.draw(rng), contender.draw(rng)
        assert one.seed != two.seed
        declared = methods[name].declaration.parameters
        searched = {p.name for p in declared if p.kind == "float" and p not in (*LINES, TRIM)}
        assert set(one.parameters) == searched
        assert all(one.parameters[p] != two.parameters[p] for p in searched)
