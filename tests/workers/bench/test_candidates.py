from __future__ import annotations

from pathlib import Path

import pytest

from search.recipe import mixture
from tests.workers.tiny_zoo import make_suite, make_zoo
from workers.bench.candidates import candidate_rows

AVERAGE = mixture(("p0", "p1"), (0.5, 0.5))


def test_the_parts_of_a_candidate_are_measured(tmp_path: Path) -> None:
    zoo, suite = make_zoo(tmp_path / "zoo"), make_suite(tmp_path / "suite")
    rows = {row.name: row for row in candidate_rows(zoo, suite, [AVERAGE] * 3)}
    parts = ("merge", "forward passes", "everything else")
    assert all(0 < rows[f"candidate: {part}"].value < 60 for part in parts)
    assert rows["candidate: all"].value < rows["first candidate of a worker"].value


def test_a_recipe_that_cannot_be_evaluated_is_said(tmp_path: Path) -> None:
    zoo, suite = make_zoo(tmp_path / "zoo"), make_suite(tmp_path / "suite")
    with pytest.raises(ValueError, match="no model is called p9"):
        candidate_rows(zoo, suite, [mixture(("p9",), (1.0,))])
