from __future__ import annotations

import sys

import pytest

from workers.bench.memory import peak_table, peaks
from workers.messages import Zoo


def test_the_peak_holds_all_models_and_is_told_of_each_method(zoo: Zoo) -> None:
    found = peaks(zoo, ["linear", "ties"], candidates=2)
    if not sys.platform.startswith("linux"):
        assert found == []
        return
    assert [peak.method for peak in found] == ["linear", "ties"]
    for peak in found:
        assert peak.peak_mb >= peak.models_mb > 0
        assert peak.times_models == pytest.approx(peak.peak_mb / peak.models_mb)
    assert "| ties " in peak_table(found)
