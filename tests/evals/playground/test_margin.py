from __future__ import annotations

import math
from typing import Any

import lm_eval
import numpy as np
import pytest
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from evals.playground import OBJECTIVES, Playground
from evals.playground.__main__ import table
from evals.playground.margin import Bench, row
from evals.suite import Split
from search.outcome import Score


def score(value: float) -> Score:
    return Score(value, math.nan, 1, np.array([value], np.float32))


def test_bits_per_byte_become_the_probability_of_a_byte() -> None:
    found = row({"nm_arith/acc": score(0.25), "nm_text/bits_per_byte": score(-1.0)})
    assert found == {"arith": 0.25, "text": 0.5, "mean": 0.375}


def test_the_table_has_a_line_for_every_model() -> None:
    values = {"arith": 0.1, "string": 0.2, "facts": 0.3, "text": 0.4, "mean": 0.25}
    lines = table({"base": values, "average": values}).splitlines()
    assert lines[2:] == [
        f"| {name} | 0.100 | 0.200 | 0.300 | 0.400 | 0.250 |" for name in ("base", "average")
    ]


def test_a_search_returns_a_weight_per_block_and_parent(playground: Playground) -> None:
    found = Bench(playground).search(evaluations=3)
    assert found.shape == (3, 3)
    assert ((found >= 0) & (found <= 1.5)).all()


@pytest.fixture(scope="module")
def stock(playground: Playground) -> dict[str, Any]:
    """The arith specialist as stock lm-eval scores it, offline, from the task YAML alone."""
    results = lm_eval.simple_evaluate(
        model=HFLM(
            pretrained=str(playground.parents["arith"]),
            device="cpu",
            dtype="float32",
            batch_size=128,
        ),
        tasks=[objective.task for objective in OBJECTIVES],
        task_manager=TaskManager(include_path=str(playground.tasks), include_defaults=False),
        bootstrap_iters=0,
    )
    return dict(results["results"])


def test_stock_lm_eval_scores_the_report_split_alike(
    playground: Playground, stock: dict[str, Any]
) -> None:
    ours = Bench(playground).baselines(Split.REPORT)["arith"]
    theirs = {
        "arith": stock["nm_arith"]["acc,none"],
        "string": stock["nm_string"]["exact_match,none"],
        "facts": stock["nm_facts"]["acc,none"],
        "text": 2 ** -stock["nm_text"]["bits_per_byte,none"],
    }
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=1e-5)


@pytest.mark.playground
@pytest.mark.xdist_group("playground")  # trained once
def test_specialists_are_best_at_their_own_task_and_their_average_is_not_enough(
    trained: Playground,
) -> None:
    rows = Bench(trained).baselines(Split.REPORT)
    average = rows.pop("average")
    for name in trained.parents:
        rivals = [values[name] for other, values in rows.items() if other != name]
        assert rows[name][name] > 0.9
        assert rows[name][name] > max(rivals) + 0.4
    best = max(values["mean"] for values in rows.values())
    assert average["mean"] < best - 0.1
    assert min(values["text"] for values in rows.values()) > 0.8
