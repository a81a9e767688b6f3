"""What candidates scored on every single example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray

from api.ledger import duel, parquet
from api.problem_details import Refusal, documented
from api.routes.candidates import entry_or_404
from api.routes.parameters import Ordinal, SearchId
from api.schemas import DuelView, ExampleView, SideBySideView, finite
from api.service import Here
from api.store import Search
from evals.harness import Document
from evals.suite import Split
from search.problems import Invalid, Problem
from search.spec import Objective

router = APIRouter(prefix="/searches/{search_id}", tags=["examples"])

_MEDIA_TYPE = "application/vnd.apache.parquet"
_LARGEST = 2**31 - 1

OfSplit = Annotated[Split, Query(description="which examples")]


@router.get(
    "/examples.parquet",
    operation_id="getExamples",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "A row for every example of every candidate.",
            "content": {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        },
        **documented(404),
    },
)
def examples(
    search_id: SearchId,
    here: Here,
    candidates: Annotated[
        str | None, Query(description="ordinals by comma; all when silent", max_length=10_000)
    ] = None,
    split: Annotated[Split | None, Query(description="only these examples")] = None,
) -> StreamingResponse:
    """Every example's score of every candidate, in the metric's own sign.

    Streamed: a search may have more rows than fit into memory.
    """
    search = here.store.search(search_id)
    ordinals = None if candidates is None else _ordinals(candidates)
    return StreamingResponse(
        parquet(here.store, search, ordinals=ordinals, split=split),
        media_type=_MEDIA_TYPE,
        headers={
            "cache-control": "no-store",
            "content-disposition": f'attachment; filename="{search_id}.parquet"',
        },
    )


def _ordinals(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) <= _LARGEST for part in parts):
        message = f"expected ordinals by comma, such as 0,17; not '{text[:60]}'"
        raise Invalid([Problem(field="candidates", message=message)])
    return [int(part) for part in parts]


@router.get(
    "/candidates/{ordinal}/comparison",
    operation_id="compareCandidates",
    responses=documented(404),
)
def comparison(
    search_id: SearchId,
    ordinal: Ordinal,
    here: Here,
    baseline: Annotated[int, Query(description="ordinal of the other", ge=0, le=_LARGEST)],
    split: OfSplit = Split.SEARCH,
    limit: Annotated[int, Query(description="examples in each list", ge=1, le=200)] = 20,
) -> SideBySideView:
    """The examples that a candidate wins and loses against another, the clearest first."""
    search = here.store.search(search_id)
    scores = []
    for one in (ordinal, baseline):
        entry_or_404(here, search_id, one)
        found = here.store.examples(search_id, one, split)
        if not found:
            raise Refusal(404, f"Candidate {one} has no {split} scores (yet).")
        scores.append(found)
    documents = {one.task: one.documents for one in here.store.documents(search_id, split)}
    return SideBySideView(
        ordinal=ordinal,
        baseline=baseline,
        split=split.value,
        objectives=[
            _duel(objective, search, scores, documents.get(objective.task, ()), limit)
            for objective in search.spec.objectives
        ],
    )


def _duel(
    objective: Objective,
    search: Search,
    scores: Sequence[Mapping[str, NDArray[np.float32]]],
    documents: Sequence[Document],
    limit: int,
) -> DuelView:
    mine, theirs = (one[objective.key] for one in scores)
    found = duel(mine, theirs)
    sign = 1 if search.submission.directions[objective.key] else -1

    def views(places: list[int]) -> list[ExampleView]:
        return [
            ExampleView(
                **_told(documents, place),
                score=finite(sign * float(found.mine[place])),
                baseline_score=finite(sign * float(found.theirs[place])),
            )
            for place in places[:limit]
        ]

    return DuelView(
        key=objective.key,
        wins=len(found.won),
        losses=len(found.lost),
        ties=found.tied,
        won=views(found.won),
        lost=views(found.lost),
    )


def _told(documents: Sequence[Document], place: int) -> dict[str, object]:
    if place >= len(documents):
        return {"example": place}
    document = documents[place]
    return {
        "example": document.index,
        "document": document.digest,
        "question": document.question,
        "answer": document.answer,
    }
