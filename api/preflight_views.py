"""From what was found out about models to what the API and the doctor say."""

from __future__ import annotations

from typing import Any

from api.schemas import NeedsView
from workers.planning.needs import Needs
from workers.planning.preflight import Preflight


def preflight_fields(found: Preflight, needs: Needs | None) -> dict[str, Any]:
    """The fields of a `Validation` that come from headers and from the machine."""
    return {
        "parameters": found.parameters,
        "memory_bytes": found.memory_bytes,
        "checkpoint_bytes": found.checkpoint_bytes,
        "models": list(found.models),
        "copied": list(found.copied),
        "needs": _needs(needs) if needs else None,
    }


def _needs(needs: Needs) -> NeedsView:
    return NeedsView(
        place=needs.place,
        host_bytes=needs.host_bytes,
        mapped_bytes=needs.mapped_bytes,
        host_free_bytes=needs.free.host_bytes,
        device_bytes=needs.device_bytes,
        device_free_bytes=needs.free.device_bytes,
        directions_bytes=needs.directions_bytes,
        directions_kept_bytes=needs.directions_kept_bytes,
        disk_bytes=needs.disk_bytes,
        disk_free_bytes=needs.disk_free_bytes,
        merge_s=needs.estimate.merge_s,
        forward_s=needs.estimate.forward_s,
        candidate_s=needs.estimate.candidate_s,
        search_s=needs.search_s,
        basis=needs.estimate.basis,
    )
