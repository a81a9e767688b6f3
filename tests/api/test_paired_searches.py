"""The same search flat and raced: what is counted, and what the table says."""

from __future__ import annotations

from pathlib import Path

from api.paired_searches import Cost, Pair, one_search, paired_table
from tests.real import document, make_home, settings_of
from workers.worker import Worker


def test_every_example_that_a_candidate_was_scored_on_is_counted(tmp_path: Path) -> None:
    """Of 2 tasks 12 examples are to search on and 5 to select; four are base, parents, average."""
    home, worker = make_home(tmp_path), Worker()
    before = sorted(home.iterdir())
    cost = one_search(settings_of(home), worker, document(racing=0, optimizer={"name": "cma_es"}))
    assert (cost.searched, cost.left_early) == (8 * 2 * 12, 0)
    assert 4 * 2 * 5 <= cost.selected <= (4 + 3) * 2 * 5
    assert cost.examples == cost.searched + cost.selected
    assert 0 < cost.report < 1
    assert cost == one_search(
        settings_of(home), worker, document(racing=0, optimizer={"name": "cma_es"})
    )
    assert sorted(home.iterdir()) == before, "nothing is left behind"


def test_the_table_says_how_many_times_fewer_and_at_what_loss() -> None:
    pairs = [
        Pair(0, Cost(9000, 1000, 0, 0.9), Cost(3000, 1000, 50, 0.91)),
        Pair(1, Cost(9000, 1000, 0, 0.9), Cost(5000, 1000, 40, 0.88)),
    ]
    *_, first, second, together = paired_table(pairs).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (first, together)]
    assert cells[0] == ["0", "10,000", "4,000", "2.5", "0.900", "0.910", "+0.010"]
    assert cells[1][:4] == ["all", "20,000", "10,000", "2.0"]
    assert cells[1][-1] == "-0.005 ± 0.015"
    assert "1.7" in second
