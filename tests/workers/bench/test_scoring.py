"""Scoring measured beside lm-eval, on models too small to take long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.bench.questions import KINDS
from workers.bench.scoring import score_paces
from workers.bench.zoo import SIZES, Size


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(SIZES, "0.1M", Size(2, 64, 96, 1, vocabulary=512))
    return "0.1M"


def test_both_score_the_same_candidates_and_are_compared(tiny: str, tmp_path: Path) -> None:
    found = score_paces(
        tmp_path,
        parameters=tiny,
        dtype="float32",
        kinds=("letters", "writing"),
        examples=6,
        rounds=1,
        batch_sizes=(4, 6),
    )
    assert [pace.task for pace in found.paces] == [KINDS["letters"], KINDS["writing"]]
    for pace in found.paces:
        assert pace.score == pytest.approx(pace.stock_score)
        assert pace.batch_size in (4, 6)
        assert pace.ours_s > 0
        assert pace.stock_per_hour == pytest.approx(3600 / pace.stock_s)
        assert 0 < pace.other_percent < 100
    assert found.peak_mb > 100
    assert found.stock_peak_mb > 100
    assert list(tmp_path.iterdir()) == []
    assert found.text().startswith("3 parents of 0.1M parameters in float32, 6 examples; ")
    assert found.text().count("| choices of one token ") == 1
    assert json.loads(json.dumps(found.document()))["paces"][0]["task"] == KINDS["letters"]
