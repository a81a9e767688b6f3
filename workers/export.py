"""From a recipe to a checkpoint folder that is known to score what it says."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from dataclasses import replace
from pathlib import Path

import torch

from evals.suite import Split, Suite
from search.outcome import Scores
from workers.card import model_card, public_names
from workers.materializer import merged_tensors
from workers.mergekit import mergekit_yaml
from workers.messages import Export, Exported, Rejected
from workers.resident import Resident
from workers.verify import Request, Unverified, disagreements, score_in_fresh_process
from workers.writing import write_checkpoint

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
    destination = Path(work.destination)
    staging = destination.with_name(f"{destination.name}.{uuid.uuid4().hex}.partial")
    try:
        files = _write(work, resident, staging, scores)
        request = Request(
            folder=staging,
            dtype=resident.zoo.dtype,
            device=resident.device,
            threads=torch.get_num_threads(),
            suite=some,
        )
        if differing := disagreements(expected, score_in_fresh_process(request)):
            return Rejected(
                "the written checkpoint does not score as the merge did: " + "; ".join(differing)
            )
        _publish(staging, destination)
    except Unverified as error:
        return Rejected(f"the written checkpoint cannot be loaded: {error}")
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Exported(files, scores)


def _report(work: Export) -> Suite:
    return replace(work.suite, split=Split.REPORT)


def _write(
    work: Export, resident: Resident, folder: Path, scores: Scores
) -> dict[str, tuple[str, int]]:
    """The whole checkpoint, with what says where it comes from."""
    models = public_names(resident.zoo, work.card.get("models"))
    mergekit = mergekit_yaml(work.recipe, resident.parents.layout, models)
    card = model_card(
        work.recipe,
        resident.zoo,
        scores=scores,
        higher_is_better=resident.evaluator(_report(work)).higher_is_better,
        models=models,
        details={name: value for name, value in work.card.items() if name != "models"},
        mergekit=mergekit,
    )
    extra = {
        "README.md": card,
        "recipe.json": json.dumps(work.recipe.model_dump(mode="json"), indent=2) + "\n",
    }
    if mergekit is not None:
        extra["mergekit.yaml"] = mergekit
    tensors = merged_tensors(resident.parents, work.recipe)
    return write_checkpoint(folder, tensors, Path(resident.zoo.base), extra=extra)


def _publish(staging: Path, destination: Path) -> None:
    """Give a verified folder its name; one that an earlier attempt left there makes room."""
    if destination.exists():
        shutil.rmtree(destination)
    staging.rename(destination)
    parent = os.open(destination.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
