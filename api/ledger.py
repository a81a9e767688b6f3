"""Every example's score of every candidate, as Parquet and side by side."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from api.store import Search, Store
from evals.suite import Split

# Rows of one row group: some megabytes at a time, on the way and in whoever reads.
_GROUP = 1 << 17
# Candidates that are read from the log at a time.
_CANDIDATES = 64

_WORD = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("candidate", pa.int32(), nullable=False),
        pa.field("split", _WORD, nullable=False),
        pa.field("task", _WORD, nullable=False),
        pa.field("metric", _WORD, nullable=False),
        pa.field("example", pa.int32(), nullable=False),  # index in the task's own data
        pa.field("document", pa.string()),  # 16 hex digits of its sha256
        pa.field("score", pa.float32(), nullable=False),  # in the metric's own sign
    ]
)


def parquet(
    store: Store,
    search: Search,
    *,
    ordinals: Sequence[int] | None = None,
    split: Split | None = None,
) -> Iterator[bytes]:
    """A Parquet file in pieces, so that no more of it than a row group is ever in memory.

    Rows are ordered by candidate, split, objective, and place in the order of the draw. Example and
    document are of the survey; without one, example is that place and document null.

    Args:
        store: the log.
        search: whose scores.
        ordinals: only of these candidates; of all that are there now when None.
        split: only on these examples.
    """
    wanted = range(store.proposed(search.id)) if ordinals is None else sorted(set(ordinals))
    columns = _Columns(store, search)
    sink = _Pieces()
    with pq.ParquetWriter(sink, SCHEMA, compression="zstd") as writer:
        waiting: list[pa.RecordBatch] = []
        rows = 0
        for start in range(0, len(wanted), _CANDIDATES):
            some = wanted[start : start + _CANDIDATES]
            for row in store.ledger(search.id, some, split):
                waiting.append(columns.batch(row.ordinal, row.split, row.objective, row.scores))
                rows += len(row.scores)
                if rows >= _GROUP:
                    writer.write_table(pa.Table.from_batches(waiting, SCHEMA), rows)
                    waiting, rows = [], 0
                    yield sink.taken()
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, SCHEMA), rows)
    yield sink.taken()


class _Columns:
    """Turns scores into rows; what all candidates share is made once."""

    def __init__(self, store: Store, search: Search) -> None:
        self._directions = search.submission.directions
        self._objectives = {objective.key: objective for objective in search.spec.objectives}
        self._documents = {
            (one.task, one.split): (
                pa.array([document.index for document in one.documents], pa.int32()),
                pa.array([document.digest for document in one.documents], pa.string()),
            )
            for one in store.documents(search.id)
        }

    def batch(
        self, ordinal: int, split: Split, key: str, scores: NDArray[np.float32]
    ) -> pa.RecordBatch:
        """(n,) scores of one candidate, where higher is better, as n rows."""
        count = len(scores)
        objective = self._objectives[key]
        known = self._documents.get((objective.task, split))
        if known is None:
            known = pa.array(np.arange(count, dtype=np.int32)), pa.nulls(count, pa.string())
        own = scores if self._directions[key] else -scores
        return pa.record_batch(
            [
                pa.array(np.full(count, ordinal, dtype=np.int32)),
                _repeated(split.value, count),
                _repeated(objective.task, count),
                _repeated(objective.metric, count),
                known[0].slice(0, count),  # a race sees the first examples only
                known[1].slice(0, count),
                pa.array(own),
            ],
            schema=SCHEMA,
        )


def _repeated(word: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(np.zeros(count, dtype=np.int32), [word])


class _Pieces(io.RawIOBase):
    """A file to write to, whose content is taken away as it comes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(memoryview(data))  # type: ignore[arg-type]  # any buffer
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position

    def taken(self) -> bytes:
        """All that was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Duel:
    """One objective of two candidates, example by example; higher is better.

    Args:
        won: places of the examples on which the first is better, the clearest first.
        lost: likewise the second.
        tied: how many are equal.
        mine, theirs: (n,) scores of the examples that both were scored on.
    """

    won: list[int]
    lost: list[int]
    tied: int
    mine: NDArray[np.float32]
    theirs: NDArray[np.float32]


def duel(mine: NDArray[np.float32], theirs: NDArray[np.float32]) -> Duel:
    """Compare on the examples that both saw: where one was raced out, on the first ones."""
    count = min(len(mine), len(theirs))
    mine, theirs = mine[:count], theirs[:count]
    gaps = mine.astype(np.float64) - theirs
    order = np.argsort(-np.abs(gaps), kind="stable")
    return Duel(
        won=[int(place) for place in order if gaps[place] > 0],
        lost=[int(place) for place in order if gaps[place] < 0],
        tied=int(np.count_nonzero(gaps == 0)),
        mine=mine,
        theirs=theirs,
    )
