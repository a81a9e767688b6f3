"""A folder is scored as it lies."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.evaluator import Evaluator
from evals.score import score_folder
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


def test_objectives_are_scored_as_the_resident_model_is(
    lab: Any, model: Any, tokenizer: Any, model_folder: Path
) -> None:
    found = score_folder(
        model_folder, OBJECTIVES, task_folders=[lab.tasks], dtype="float32", limit=5
    )
    suite = Suite(OBJECTIVES, Split.REPORT, (str(lab.tasks),), 5)
    assert found.scores == Evaluator(model, tokenizer, suite).score()
    assert list(found.higher_is_better.values()) == [False, True, False]


def test_weights_that_are_no_safetensors_are_not_read(
    lab: Any, model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(model_folder, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(Invalid, match="safetensors"):
        score_folder(folder, ["t_text"], task_folders=[lab.tasks])
