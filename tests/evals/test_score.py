"""A folder is scored by anybody, anywhere, with the same result."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.evaluator import Evaluator
from evals.score import ScoreFailed, score_folder, score_in_fresh_process
from evals.suite import Split, Suite
from search.problems import Invalid
from search.spec import Objective

OBJECTIVES = (
    Objective(task="t_text", metric="bits_per_byte"),
    Objective(task="t_write", metric="exact_match"),
    Objective(task="plain_english", metric="bits_per_byte"),
)


def test_a_folder_has_every_metric_of_its_tasks(lab: Any, model_folder: Path) -> None:
    found = score_folder(model_folder, ["t_filters", "t_text"], task_folders=[lab.tasks], limit=3)
    assert list(found.scores) == [
        "t_filters/exact_match,strict-match",
        "t_filters/exact_match,flexible-extract",
        "t_text/bits_per_byte,none",
        "t_text/word_perplexity,none",
    ]
    assert list(found.higher_is_better.values()) == [True, True, False, False]
    assert all(score.count == 3 for score in found.scores.values())


def test_a_fresh_process_scores_a_folder_as_the_resident_model_was_scored(
    lab: Any, model: Any, tokenizer: Any, model_folder: Path
) -> None:
    suite = Suite(OBJECTIVES, Split.REPORT, (str(lab.tasks),), 5)
    fresh = score_in_fresh_process(model_folder, suite, dtype="float32")
    assert fresh == Evaluator(model, tokenizer, suite).score()


def test_what_goes_wrong_in_the_fresh_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScoreFailed, match=r"config\.json"):
        score_in_fresh_process(tmp_path, Suite(OBJECTIVES, Split.REPORT))


def test_weights_that_are_no_safetensors_are_not_read(
    lab: Any, model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(model_folder, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(Invalid, match="safetensors"):
        score_folder(folder, ["t_text"], task_folders=[lab.tasks])
