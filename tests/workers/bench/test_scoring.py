"""Scoring measured beside lm-eval, on models too small to take long."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from workers.bench.questions import KINDS
from workers.bench.scoring import Scoring, score_paces
from workers.bench.zoo import SIZES, Size

# Takes a second for a candidate in memory, two on disk, half of that where batches are asked for.
EVOLVE = """
import json, sys
first = json.loads(sys.stdin.readline())
assert (first["threads"], first["dtype"]) == (THREADS, "float32")
print("{}", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    assert asked["configuration"]["merge_method"] == "linear"
    assert (asked["task"], asked["metric"]) == ("letters", "acc")
    seconds = {"memory": 1.0, "disk": 2.0}[asked["place"]] / (2 if asked["batch_size"] else 1)
    told = {"seconds": seconds, "cpu_s": 3 * seconds, "score": 0.5, "examples": EXAMPLES}
    print(json.dumps(told), flush=True)
"""


def evolve(folder: Path, examples: int) -> list[str]:
    script = folder / "evolve.py"
    text = EVOLVE.replace("THREADS", str(torch.get_num_threads()))
    script.write_text(text.replace("EXAMPLES", str(examples)))
    return [sys.executable, str(script)]


def scored_beside(tiny: str, folder: Path, examples: int) -> Scoring:
    return score_paces(
        folder,
        parameters=tiny,
        dtype="float32",
        kinds=("letters",),
        examples=6,
        rounds=1,
        batch_sizes=(4,),
        peer=evolve(folder, examples),
    )


def test_mergekits_search_is_timed_as_it_ships_and_at_its_best(tiny: str, tmp_path: Path) -> None:
    found = scored_beside(tiny, tmp_path, 6)
    assert [peer.way for peer in found.peers] == [
        "in memory, as it ships, one by one",
        "on disk, as it ships, one by one",
        "on disk, batches of 4",
    ]
    assert [peer.theirs_s for peer in found.peers] == [1.0, 2.0, 1.0]
    for peer in found.peers:
        assert peer.times_faster == pytest.approx(peer.theirs_s / peer.ours_s)
        assert peer.times_faster_cpu > 0
        assert peer.per_hour == pytest.approx(3600 / peer.theirs_s)
        assert peer.their_score == 0.5
    assert "| on disk, batches of 4 " in found.text()


def test_it_must_score_what_we_score(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="letters: 6 examples, mergekit's search 5"):
        scored_beside(tiny, tmp_path, 5)


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
