"""Score a checkpoint folder as anybody would load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from evals.evaluator import Evaluator
from evals.suite import Split, Suite
from search.outcome import Scores
from search.problems import Invalid, Problem
from search.spec import Objective


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


def score_folder(
    folder: Path,
    tasks: Sequence[str] | Sequence[Objective],
    *,
    task_folders: Sequence[Path] = (),
    split: Split = Split.REPORT,
    dtype: str = "auto",
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
        dtype: to compute in, as torch spells it; auto is what the folder is stored in.
        limit: only the first examples of each task.
        device: to compute on.

    Raises:
        Invalid: when the folder or a task cannot be used.
        evals.requests.Unscorable: when a score is not finite.
    """
    objectives = tuple(task for task in tasks if isinstance(task, Objective))
    names = [task for task in tasks if isinstance(task, str)]
    suite = Suite(objectives, split, tuple(str(f) for f in task_folders), limit)
    model, tokenizer = _loaded(folder, dtype)
    torch.nn.Module.to(model, device)
    evaluator = Evaluator(model, tokenizer, suite, device, every=names)
    scores = evaluator.score_every_metric() if names else evaluator.score()
    return FolderScores(scores, {key: evaluator.higher_is_better[key] for key in scores})


def _loaded(folder: Path, dtype: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
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
