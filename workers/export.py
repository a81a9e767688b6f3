"""From a recipe to a checkpoint folder that is known to score what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from evals import harness
from evals.suite import Split, Suite
from search.outcome import Scores
from search.problems import Invalid
from workers.checkpoints.card import public_names
from workers.checkpoints.companions import companions
from workers.checkpoints.lowrank import MergedAdapter, merge_adapters
from workers.checkpoints.parents import Parents
from workers.checkpoints.writing import write_adapter, write_checkpoint
from workers.materializer import Materializer, merged_tensors
from workers.messages import Export, Exported, Rejected
from workers.paths.configuring import saved
from workers.resident import Resident
from workers.verify import (
    AS_IT_IS,
    Request,
    Unverified,
    adapted,
    disagreements,
    score_in_fresh_process,
)
from workers.weights import weigh

# Examples of every task that the fresh process scores again.
_CHECKED = 50

Check = Callable[[Path], None]


def export(work: Export, resident: Resident) -> Exported | Rejected:
    """Merge, score on the report split, write, load in a fresh process, score again, publish.

    Nothing appears at the destination unless the written folder scores as the resident model does.

    Raises:
        NotMergeable: the recipe has no finite result.
        Unscorable: the merge has no finite scores.
    """
    try:
        return _adapter(work, resident) if work.form.kind == "adapter" else _model(work, resident)
    except Unverified as error:
        return Rejected(f"the written checkpoint is of no use: {error}")


def _model(work: Export, resident: Resident) -> Exported:
    _prepare(work, resident)
    resident.materializer.materialize(work.recipe)
    scores, check = _scored(work, resident)
    told = saved(resident.parents, work.recipe.path)
    files = write_checkpoint(
        Path(work.destination),
        merged_tensors(resident.parents, work.recipe),
        Path(resident.zoo.base),
        config=told.config,
        size_bytes=told.size_bytes,
        extra=_companions(work, resident, scores),
        check=check,
    )
    return Exported(files, scores)


def _adapter(work: Export, resident: Resident) -> Exported | Rejected:
    """What is scored is the adapter, and not the merge: one that was cut is another model."""
    called = public_names(resident.zoo, work.card.get("models"))["base"]
    try:
        merged = merge_adapters(
            resident.parents, work.recipe, base_name=called, rank=work.form.rank
        )
    except Invalid as error:
        return Rejected(f"this merge is no adapter: {error}")
    base = Path(resident.zoo.base)
    _prepare(work, resident)
    with TemporaryDirectory() as scratch:
        write_adapter(Path(scratch) / "merged", merged.tensors, merged.config, base)
        zoo = adapted(base, Path(scratch) / "merged", resident.zoo.dtype)
        with closing(Parents(zoo, resident.device)) as parents:
            Materializer(parents, resident.model).materialize(AS_IT_IS)
    scores, check = _scored(work, resident)
    files = write_adapter(
        Path(work.destination),
        merged.tensors,
        merged.config,
        base,
        extra=_companions(work, resident, scores, merged),
        check=check,
    )
    return Exported(files, scores, merged.error)


def _prepare(work: Export, resident: Resident) -> None:
    """Learn the models that the merge is compared with, before it is where they have been."""
    resident.evaluator(_report(work))


def _scored(work: Export, resident: Resident) -> tuple[Scores, Check]:
    """Scores of the resident model as it is now, and what requires the same of a folder.

    A stranger has nothing but the folder: no other model that it could be compared with.
    """
    suite = _report(work)
    some = replace(
        suite,
        limit=min(suite.limit or _CHECKED, _CHECKED),
        objectives=harness.standing_alone(suite),
    )
    scores = {**resident.evaluator(suite).score(), **weigh(resident.materializer, suite)}
    scores = {objective.key: scores[objective.key] for objective in suite.objectives}
    expected = resident.evaluator(some).score()

    def check(folder: Path) -> None:
        request = Request(
            folder=folder,
            base=Path(resident.zoo.base) if work.form.kind == "adapter" else None,
            dtype=resident.zoo.dtype,
            device=resident.device,
            threads=torch.get_num_threads(),
            suite=some,
        )
        if differing := disagreements(expected, score_in_fresh_process(request)):
            raise Unverified("it does not score as the merge did: " + "; ".join(differing))

    return scores, check


def _report(work: Export) -> Suite:
    return replace(work.suite, split=Split.REPORT)


def _companions(
    work: Export, resident: Resident, scores: Scores, adapter: MergedAdapter | None = None
) -> Mapping[str, str]:
    """What says where the weights come from, and how well they do."""
    said = {name: value for name, value in work.card.items() if name not in ("models", "sha256")}
    sha256 = work.card.get("sha256")
    return companions(
        work.recipe,
        resident.parents,
        models=public_names(resident.zoo, work.card.get("models")),
        scores=scores,
        baselines=work.baselines,
        higher_is_better=harness.directions(work.suite.objectives, harness.Library.of(work.suite)),
        sha256=sha256 if isinstance(sha256, dict) else {},
        details=said | (adapter.details if adapter else {}),
        is_adapter=adapter is not None,
    )
