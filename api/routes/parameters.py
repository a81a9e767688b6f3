"""Parameters that several operations share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

# An ordinal is stored in 32 bits.
_LARGEST = 2**31 - 1

SearchId = Annotated[str, Path(description="id of the search", max_length=64)]
Ordinal = Annotated[int, Path(description="ordinal of the candidate", ge=0, le=_LARGEST)]
Limit = Annotated[int, Query(description="entries on one page", ge=1, le=500)]
After = Annotated[int, Query(description="ordinal of the last entry seen", ge=-1, le=_LARGEST)]
AfterSeq = Annotated[
    int | None,
    Query(description="seq of the last entry seen; 0 begins at the start", ge=0, le=2**53),
]
