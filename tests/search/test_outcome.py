"""A score of examples that an optimizer must not see cannot become an outcome."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from search.outcome import Candidate, HeldOut, HeldOutLeak, Origin, Score, Scored, Split
from search.recipe import mixture

CANDIDATE = Candidate(3, mixture(("base",), (1.0,)), Origin("base"))
LEAK = """
from search.optimizer import Optimizer
from search.outcome import Candidate, HeldOut, Scored


def leak(optimizer: Optimizer, held_out: HeldOut, candidate: Candidate) -> None:
    optimizer.tell(Scored(candidate, {}))
    optimizer.tell(held_out)
    Scored(candidate, held_out)
"""


def score(split: Split | None) -> Score:
    return Score(0.5, math.nan, 2, np.array([0, 1], np.float32), split)


@pytest.mark.parametrize("split", [Split.SELECT, Split.REPORT, None])
def test_scores_of_other_splits_make_no_outcome(split: Split | None) -> None:
    Scored(CANDIDATE, {"t/acc": score(Split.SEARCH)})
    with pytest.raises(HeldOutLeak, match="t/acc of candidate 3 is no score on search examples"):
        Scored(CANDIDATE, {"t/acc": score(split)})


def test_search_scores_are_not_held_out() -> None:
    HeldOut(CANDIDATE, Split.SELECT, {"t/acc": score(Split.SELECT)})
    for split, given in ((Split.SEARCH, Split.SEARCH), (Split.SELECT, Split.REPORT)):
        with pytest.raises(ValueError, match=f"has no {split} scores here"):
            HeldOut(CANDIDATE, split, {"t/acc": score(given)})


def test_scores_of_two_splits_are_never_equal() -> None:
    assert score(Split.SELECT) == score(Split.SELECT) != score(Split.REPORT)


def test_the_type_checker_refuses_to_tell_an_optimizer_of_them(tmp_path: Path) -> None:
    file = tmp_path / "leak.py"
    file.write_text(LEAK)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", str(file)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    places = [line.split(":")[1] for line in done.stdout.splitlines() if "HeldOut" in line]
    assert places == ["8", "9"], done.stdout + done.stderr
