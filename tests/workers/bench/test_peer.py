"""mergekit beside us, played by a script that answers as ours does."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from workers.bench.merging import Workbench
from workers.bench.peer import METHODS, Peer, PeerFailed, beside, beside_table, configuration
from workers.messages import Zoo

SECONDS = 7.0
SCRIPT = f"""
import json, sys
first = json.loads(sys.stdin.readline())
assert first["threads"] == 1
print("{{}}", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["merge_method"] == "slerp":
        sys.exit("slerp is beyond me")
    print(json.dumps({{"seconds": {SECONDS}}}), flush=True)
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return [sys.executable, str(script)]


def test_every_method_has_a_row_with_both_times(zoo: Zoo, command: list[str]) -> None:
    with Peer(command, base=zoo.base, threads=1) as peer:
        rows = beside(zoo, peer, rounds=1)
    assert tuple(row.method for row in rows) == METHODS
    for row in rows:
        assert row.theirs_ms == SECONDS * 1e3
        assert row.times_faster == pytest.approx(row.theirs_ms / row.ours_ms)
    assert "| dare_ties " in beside_table(rows)


def test_a_peer_that_gives_up_is_quoted(zoo: Zoo, command: list[str]) -> None:
    with Peer(command, base=zoo.base, threads=1) as peer:
        with pytest.raises(PeerFailed, match="slerp is beyond me"):
            peer.seconds({"merge_method": "slerp"})
        with pytest.raises(PeerFailed, match="slerp is beyond me"):
            peer.seconds({"merge_method": "linear"})


def test_mergekit_is_asked_for_the_same_merge(zoo: Zoo) -> None:
    contender = Workbench(zoo).contender("ties")
    recipe = contender.draw(np.random.default_rng(0))
    asked = configuration(recipe, zoo)
    assert asked["merge_method"] == "ties"
    assert asked["base_model"] == zoo.base
    assert asked["dtype"] == zoo.dtype
    assert asked["parameters"] == {"normalize": True, "lambda": recipe.parameters["lambda"]}
    given = [model["parameters"] for model in asked["models"]]
    assert tuple(each["weight"] for each in given) == recipe.at(0)["weight"]
    assert tuple(each["density"] for each in given) == recipe.at(0)["density"]
    assert [model["model"] for model in asked["models"]] == [folder for _, folder in zoo.parents]
