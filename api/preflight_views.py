"""From what was found out about models to what the API and the doctor say."""

from __future__ import annotations

from typing import Any

from api.schemas import (
    CopiedView,
    DiagnosisView,
    FiguresView,
    FindingView,
    ModelFactsView,
    NeedsView,
    finite,
)
from workers.checkpoints.model_facts import Copied, ModelFacts
from workers.doctor.diagnosis import Diagnosis
from workers.doctor.figures import Figures
from workers.planning.needs import Needs
from workers.planning.preflight import Preflight


def preflight_fields(found: Preflight, needs: Needs | None) -> dict[str, Any]:
    """The fields of a `Validation` that come from headers and from the machine."""
    return {
        "parameters": found.parameters,
        "memory_bytes": found.memory_bytes,
        "checkpoint_bytes": found.checkpoint_bytes,
        "models": [_facts(facts) for facts in found.models],
        "copied": [_copied(copied) for copied in found.copied],
        "needs": _needs(needs) if needs else None,
    }


def diagnosis_view(diagnosis: Diagnosis) -> DiagnosisView:
    """What the weights of a parent say."""
    return DiagnosisView(
        name=diagnosis.name,
        whole=_figures(diagnosis.whole),
        groups={group: _figures(figures) for group, figures in diagnosis.groups.items()},
        findings=[FindingView(kind=f.kind, tensors=list(f.tensors)) for f in diagnosis.findings],
        duplicates=list(diagnosis.duplicates),
        frozen=list(diagnosis.frozen),
    )


def _facts(facts: ModelFacts) -> ModelFactsView:
    return ModelFactsView(
        name=facts.name,
        architecture=facts.architecture,
        dtype=facts.dtype,
        parameters=facts.parameters,
        size_bytes=facts.size_bytes,
        tied=facts.tied,
        licence=facts.licence,
        chat_template=facts.chat_template,
    )


def _copied(copied: Copied) -> CopiedView:
    return CopiedView(reason=copied.reason, tensors=list(copied.tensors))


def _needs(needs: Needs) -> NeedsView:
    return NeedsView(
        place=needs.place,
        host_bytes=needs.host_bytes,
        mapped_bytes=needs.mapped_bytes,
        host_free_bytes=needs.free.host_bytes,
        device_bytes=needs.device_bytes,
        device_free_bytes=needs.free.device_bytes,
        disk_bytes=needs.disk_bytes,
        disk_free_bytes=needs.disk_free_bytes,
        merge_s=needs.estimate.merge_s,
        forward_s=needs.estimate.forward_s,
        candidate_s=needs.estimate.candidate_s,
        search_s=needs.search_s,
        basis=needs.estimate.basis,
    )


def _figures(figures: Figures) -> FiguresView:
    return FiguresView(
        delta_ratio=finite(figures.delta_ratio),
        cosine=finite(figures.cosine),
        norm_ratio=finite(figures.norm_ratio),
    )
