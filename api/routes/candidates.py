"""Candidates: the rows of the log."""

from __future__ import annotations

from fastapi import APIRouter

from api.problem_details import Refusal, documented
from api.routes.parameters import After, Limit, Ordinal, SearchId
from api.schemas import CandidateDetail, CandidatePage
from api.service import Here, Service
from api.store import Entry
from api.views import candidate_detail, candidate_view

router = APIRouter(prefix="/searches/{search_id}/candidates", tags=["candidates"])


@router.get("", operation_id="listCandidates", responses=documented(404))
def list_candidates(
    search_id: SearchId, here: Here, after: After = -1, limit: Limit = 100
) -> CandidatePage:
    """Candidates by ordinal, with origin, scores and timings."""
    with here.readings.open(search_id) as reading:
        front = frozenset(reading.standings.front)
        found = here.store.candidates(search_id, after=after, limit=limit + 1)
        items = [
            candidate_view(entry, reading, on_front=entry.candidate.ordinal in front)
            for entry in found[:limit]
        ]
    return CandidatePage(items=items, next=items[-1].ordinal if len(found) > limit else None)


@router.get("/{ordinal}", operation_id="getCandidate", responses=documented(404))
def show_candidate(search_id: SearchId, ordinal: Ordinal, here: Here) -> CandidateDetail:
    """One candidate, with its recipe and mergekit's YAML for it where there is one."""
    with here.readings.open(search_id) as reading:
        on_front = ordinal in reading.standings.front
        checkpoints = reading.progress.checkpoints_of(ordinal)
        entry = entry_or_404(here, search_id, ordinal)
        return candidate_detail(entry, reading, on_front=on_front, checkpoints=checkpoints)


def entry_or_404(here: Service, search_id: str, ordinal: int) -> Entry:
    """A candidate that must be there."""
    entry = here.readings.entry(search_id, ordinal)
    if entry is None:
        raise Refusal(404, f"The search has no candidate {ordinal} (yet).")
    return entry
