"""Score a checkpoint folder as anybody would load it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from evals import harness
from evals.engine import Engine
from evals.evaluator import Evaluator
from evals.suite import Suite
from search.outcome import Scores
from search.problems import Invalid, Problem


def score_folder(folder: Path, suite: Suite, dtype: str = "auto", device: str = "cpu") -> Scores:
    """Load a Hugging Face folder and score it on the objectives of a suite.

    Only safetensors are read and no code of the folder is run.

    Args:
        folder: with config, tokenizer and weights.
        suite: what to score it on.
        dtype: to compute in, as torch spells it; auto is what the folder is stored in.
        device: to compute on.

    Raises:
        Invalid: when the folder or a task cannot be used.
        evals.requests.Unscorable: when a score is not finite.
    """
    model, tokenizer = _loaded(folder, dtype, device)
    return Evaluator(model, tokenizer, suite, device).score()


def report_folder(
    folder: Path,
    names: Sequence[str],
    suite: Suite,
    dtype: str = "auto",
    device: str = "cpu",
    *,
    resamples: int = harness.RESAMPLES,
) -> harness.Report:
    """As `score_folder`, but every metric of whole tasks, in lm-eval's own words and numbers.

    Per-example metrics equal those of lm-eval's ``hf`` model on the same folder with
    ``batch_size=1``, log-likelihoods to 1e-4 in float32.

    Args:
        folder: with config, tokenizer and weights.
        names: of tasks, groups or tags.
        suite: how they are found and asked; a split of None scores what lm-eval would score.
        dtype: to compute in, as torch spells it; auto is what the folder is stored in.
        device: to compute on.
        resamples: for standard errors that have no formula; as many as lm-eval takes.

    Raises:
        Invalid: when the folder or a task cannot be used.
        evals.requests.Unscorable: when an answer is not finite.
    """
    model, tokenizer = _loaded(folder, dtype, device)
    loaded = harness.load(suite, tokenizer, names=names)
    engine = Engine(model, tokenizer, device)
    answers = engine.run(engine.prepare(loaded.requests))
    return harness.report(loaded, answers, resamples=resamples)


def _loaded(
    folder: Path, dtype: str, device: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
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
    torch.nn.Module.to(model, device)
    return model, tokenizer
