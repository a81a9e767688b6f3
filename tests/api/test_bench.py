"""The benchmark measures what it says, at any size."""

from pathlib import Path

from api.bench import costs


def test_every_cost_is_measured_at_every_size(tmp_path: Path) -> None:
    found = {(c.what, c.outcomes): c.seconds for c in costs(tmp_path, counts=(100, 200))}
    for count in (100, 200):
        for what in ("commit", "record", "read", "uniform: ask", "nsga2: absorb", "m2n2: ask"):
            assert 0 < found[what, count] < 5
