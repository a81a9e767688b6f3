"""Score a checkpoint folder as anybody would load it, in this process or in a fresh one.

``python -m evals.score`` reads a request from standard input and writes the scores to standard
output, both as JSON: how a stored checkpoint is scored once more without anything that a worker
still holds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from evals.evaluator import Evaluator
from evals.suite import Split, Suite
from search.outcome import Score, Scores
from search.problems import Invalid, Problem
from search.spec import DType, Objective


@dataclass(frozen=True, slots=True)
class FolderScores:
    """Scores of a folder.

    Args:
        scores: keyed "task/metric" for objectives, "task/metric,filter" for whole tasks; higher is
            better.
        higher_is_better: of the metric itself, by the same keys; where False, the score is negated.
    """

    scores: Scores
    higher_is_better: Mapping[str, bool]


class ScoreFailed(RuntimeError):
    """The fresh process ended without scores."""


class _Request(BaseModel):
    """What the fresh process is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    objectives: tuple[Objective, ...]
    task_folders: tuple[Path, ...]
    split: Split
    dtype: DType
    limit: int | None
    device: str


def score_folder(
    folder: Path,
    tasks: Sequence[str] | Sequence[Objective],
    *,
    task_folders: Sequence[Path] = (),
    split: Split = Split.REPORT,
    dtype: DType = "auto",
    limit: int | None = None,
    device: str = "cpu",
) -> FolderScores:
    """Load a Hugging Face folder and score it.

    Only safetensors are read and no code of the folder is run.

    Args:
        folder: with config, tokenizer and weights.
        tasks: names, for every metric of each; or objectives, for just these.
        task_folders: where task files are looked for first.
        split: which examples.
        dtype: to compute in; auto is what the folder is stored in.
        limit: only the first examples of each task.
        device: to compute on.

    Raises:
        Invalid: when the folder or a task cannot be used.
        evals.evaluator.Unscorable: when a score is not finite.
    """
    objectives = tuple(task for task in tasks if isinstance(task, Objective))
    names = [task for task in tasks if isinstance(task, str)]
    suite = Suite(objectives, split, tuple(str(f) for f in task_folders), limit)
    model, tokenizer = _loaded(folder, dtype)
    torch.nn.Module.to(model, device)
    evaluator = Evaluator(model, tokenizer, suite, device, every=names)
    scores = evaluator.score_every_metric() if names else evaluator.score()
    return FolderScores(scores, {key: evaluator.higher_is_better[key] for key in scores})


def score_in_fresh_process(
    folder: Path,
    suite: Suite,
    *,
    dtype: DType = "auto",
    device: str = "cpu",
    timeout_s: float = 3600,
) -> Scores:
    """Scores of a folder by objective, from a process that knows nothing else.

    Raises:
        ScoreFailed: with what the process had to say.
    """
    request = _Request(
        folder=folder,
        objectives=suite.objectives,
        task_folders=tuple(Path(f) for f in suite.folders),
        split=suite.split,
        dtype=dtype,
        limit=suite.limit,
        device=device,
    )
    done = subprocess.run(
        [sys.executable, "-m", "evals.score"],
        input=request.model_dump_json(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    if done.returncode != 0:
        raise ScoreFailed((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    return {
        key: Score(
            value["value"],
            value["stderr"],
            value["count"],
            np.array(value["examples"], dtype=np.float32),
        )
        for key, value in json.loads(done.stdout).items()
    }


def main() -> None:
    """Answer one request."""
    request = _Request.model_validate_json(sys.stdin.read())
    answer = score_folder(
        request.folder,
        request.objectives,
        task_folders=request.task_folders,
        split=request.split,
        dtype=request.dtype,
        limit=request.limit,
        device=request.device,
    )
    document = {
        key: {
            "value": score.value,
            "stderr": score.stderr,
            "count": score.count,
            "examples": score.examples.tolist(),
        }
        for key, score in answer.scores.items()
    }
    sys.stdout.write(json.dumps(document))


def _loaded(folder: Path, dtype: DType) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError) as error:
        message = next(iter(str(error).splitlines()), type(error).__name__)
        raise Invalid([Problem(field=str(folder), message=message)]) from error
    return model, tokenizer


if __name__ == "__main__":
    main()
