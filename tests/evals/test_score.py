"""A folder is scored as it lies."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.evaluator import Evaluator
from evals.score import report_folder, score_folder
from evals.suite import Split, Suite
from search.problems import Invalid
from search.spec import Objective

OBJECTIVES = (
    Objective(task="t_text", metric="bits_per_byte"),
    Objective(task="t_write", metric="exact_match"),
    Objective(task="plain_english", metric="bits_per_byte"),
)


def test_a_folder_has_every_metric_of_its_tasks(lab: Any, model_folder: Path) -> None:
    suite = Suite((), Split.REPORT, (str(lab.tasks),), limit=3)
    found = report_folder(model_folder, ["t_filters", "t_text"], suite).results
    assert set(found["results"]["t_filters"]) >= {
        "exact_match,strict-match",
        "exact_match_stderr,flexible-extract",
    }
    assert set(found["results"]["t_text"]) >= {"bits_per_byte,none", "word_perplexity,none"}
    assert found["n-samples"]["t_text"] == {"original": 33, "effective": 3}


def test_objectives_are_scored_as_the_resident_model_is(
    lab: Any, model: Any, tokenizer: Any, model_folder: Path
) -> None:
    suite = Suite(OBJECTIVES, Split.REPORT, (str(lab.tasks),), 5)
    found = score_folder(model_folder, suite, "float32")
    assert found == Evaluator(model, tokenizer, suite).score()


def test_weights_that_are_no_safetensors_are_not_read(
    lab: Any, model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(model_folder, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(Invalid, match="safetensors"):
        report_folder(folder, ["t_text"], Suite((), None, (str(lab.tasks),)))
