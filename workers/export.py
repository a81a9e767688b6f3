"""From a recipe to a checkpoint folder that is known to score what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from evals.suite import Split, Suite
from search.outcome import Scores
from workers.checkpoints.card import public_names
from workers.checkpoints.companions import companions
from workers.checkpoints.writing import Files, write_checkpoint
from workers.materializer import merged_tensors
from workers.messages import Export, Exported, Rejected
from workers.resident import Resident
from workers.verify import Request, Unverified, disagreements, score_in_fresh_process

# Examples of every task that the fresh process scores again.
_CHECKED = 50


def export(work: Export, resident: Resident) -> Exported | Rejected:
    """Merge, score on the report split, write, load in a fresh process, score again, publish.

    Nothing appears at the destination unless the written folder scores as the resident model does.

    Raises:
        NotMergeable: the recipe has no finite result.
        Unscorable: the merge has no finite scores.
    """
    suite = _report(work)
    some = replace(suite, limit=min(suite.limit or _CHECKED, _CHECKED))
    resident.materializer.materialize(work.recipe)
    scores = resident.evaluator(suite).score()
    expected = resident.evaluator(some).score()

    def check(folder: Path) -> None:
        request = Request(
            folder=folder,
            dtype=resident.zoo.dtype,
            device=resident.device,
            threads=torch.get_num_threads(),
            suite=some,
        )
        if differing := disagreements(expected, score_in_fresh_process(request)):
            raise Unverified("it does not score as the merge did: " + "; ".join(differing))

    try:
        return Exported(_write(work, resident, scores, check), scores)
    except Unverified as error:
        return Rejected(f"the written checkpoint is of no use: {error}")


def _report(work: Export) -> Suite:
    return replace(work.suite, split=Split.REPORT)


def _write(
    work: Export, resident: Resident, scores: Scores, check: Callable[[Path], None]
) -> Files:
    """The whole checkpoint, with what says where it comes from."""
    said = {name: value for name, value in work.card.items() if name not in ("models", "sha256")}
    sha256 = work.card.get("sha256")
    extra = companions(
        work.recipe,
        resident.parents,
        models=public_names(resident.zoo, work.card.get("models")),
        scores=scores,
        higher_is_better=resident.evaluator(_report(work)).higher_is_better,
        sha256=sha256 if isinstance(sha256, dict) else {},
        details=said,
    )
    tensors = merged_tensors(resident.parents, work.recipe)
    return write_checkpoint(
        Path(work.destination), tensors, Path(resident.zoo.base), extra=extra, check=check
    )
