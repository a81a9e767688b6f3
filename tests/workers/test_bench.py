from __future__ import annotations

from pathlib import Path

import pytest

from search.recipe import mixture
from tests.workers.tiny_zoo import make_suite, make_zoo
from workers.bench import Row, candidate_rows, machine, merge_rows, table

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


def test_merging_is_compared_with_a_copy_of_the_same_bytes(tmp_path: Path) -> None:
    rows = merge_rows(make_zoo(tmp_path), [AVERAGE], repeats=2)
    merge, copy, ratio = rows
    assert ratio.value == pytest.approx(copy.value / merge.value)
    assert "2 parents" in merge.note


def test_the_table_is_aligned_markdown() -> None:
    lines = table([Row("short", 1.0, "s"), Row("a longer name", 0.123456, "GB/s", "a note")])
    widths = {len(line) for line in lines.splitlines()}
    assert len(widths) == 1
    assert "| a longer name | 0.1235 GB/s | a note     |" in lines


def test_the_machine_is_named() -> None:
    assert "cores" in machine()
    assert "torch" in machine()
