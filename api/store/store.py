"""The store: what can be written to the log and read from it."""

from __future__ import annotations

import math
import secrets
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, Select, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from api.store import codec
from api.store.database import Database
from api.store.records import (
    Entry,
    Event,
    EventKind,
    Head,
    Known,
    Line,
    Provenance,
    Search,
    Submission,
)
from api.store.tables import (
    IS_NOTE,
    IS_OUTCOME,
    candidates,
    documents,
    events,
    examples,
    leases,
    score_keys,
    searches,
    surveys,
)
from evals.harness import Documents
from evals.suite import Split
from search.geometry import Geometry
from search.outcome import Candidate, Confirmation, HeldOut, Outcome, Score, Scored, Scores
from workers.messages import Surveyed


@dataclass(frozen=True, slots=True)
class _Measured:
    """What one event says of a candidate on a split, beside its body."""

    search_id: str
    ordinal: int
    split: Split
    scores: Scores
    key: str | None
    first: int | None = None


class UnknownSearch(LookupError):
    """No search has this id."""


class IdempotencyConflict(ValueError):
    """The idempotency key was used before, for another spec."""


class Store:
    """The log of all searches. Safe to share between threads; every call is one transaction.

    Opening creates or migrates the tables; two processes may open at once.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg://...``
        patience_s: how long a call waits for a database that is locked or restarting.

    Raises:
        NewerDatabase: on opening, when the tables are of a later version.
        StoreDown: of every call, when patience runs out.
    """

    def __init__(self, url: str, *, patience_s: float = 30.0) -> None:
        self._database = Database(url, patience_s=patience_s)
        try:
            self._database.migrate()
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Let go of all connections."""
        self._database.close()

    # Searches

    def create_search(self, submission: Submission, *, idempotency_key: str | None = None) -> str:
        """Accept a submission and return its id; the same key and spec give the same search.

        Raises:
            IdempotencyConflict: the key was used for another spec.
        """
        row = {
            "id": _new_id(),
            "created_at": datetime.now(UTC),
            "spec_digest": submission.spec.digest,
            "idempotency_key": idempotency_key,
            **codec.submission_to_columns(submission),
        }

        def create(connection: Connection) -> str:
            earlier = connection.execute(
                select(searches.c.id, searches.c.spec_digest).where(
                    or_(
                        searches.c.id == row["id"],
                        and_(
                            searches.c.idempotency_key.is_not(None),
                            searches.c.idempotency_key == idempotency_key,
                        ),
                    )
                )
            ).first()
            if earlier is None:
                connection.execute(insert(searches).values(row))
                return str(row["id"])
            if earlier.spec_digest != row["spec_digest"]:
                raise IdempotencyConflict(
                    f"the idempotency key '{idempotency_key}' was used for another spec; "
                    "send a new key with a new spec"
                )
            return str(earlier.id)

        try:
            return self._database.write(create)
        except IntegrityError:  # the key was taken between look and insert; now it can be seen
            return self._database.write(create)

    def search(self, search_id: str) -> Search:
        """One search, or UnknownSearch."""
        query = select(searches).where(searches.c.id == search_id)
        row = self._database.read(lambda connection: connection.execute(query).first())
        if row is None:
            raise UnknownSearch(f"there is no search '{search_id}'")
        return codec.search_from_columns(row)

    def searches(self, *, before: str | None = None, limit: int = 100) -> list[Search]:
        """Newest first; ``before`` is the last id of the page before."""
        query = select(searches).order_by(searches.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(searches.c.id < before)
        return [codec.search_from_columns(row) for row in self._all(query)]

    def heads(self) -> list[Head]:
        """The newest event of every search: what to poll to notice anything at all."""
        log = events.alias("log")
        newest = (
            select(func.max(log.c.seq))
            .where(log.c.search_id == searches.c.id)
            .correlate(searches)
            .scalar_subquery()
        )
        query = select(searches.c.id, events.c.seq, events.c.kind).select_from(
            searches.outerjoin(
                events, and_(events.c.search_id == searches.c.id, events.c.seq == newest)
            )
        )
        return [Head(row.id, row.seq or 0, row.kind) for row in self._all(query)]

    # Candidates

    def enqueue(self, search_id: str, candidate: Candidate) -> bool:
        """Commit a candidate. False, and nothing written, when its ordinal is taken."""
        row = {
            "search_id": search_id,
            "created_at": datetime.now(UTC),
            **codec.candidate_to_columns(candidate),
        }

        def write(connection: Connection) -> None:
            connection.execute(insert(candidates).values(row))

        try:
            self._database.write(write)
        except IntegrityError:
            if self.candidate(search_id, candidate.ordinal) is None:
                raise UnknownSearch(f"there is no search '{search_id}'") from None
            return False
        return True

    def proposed(self, search_id: str) -> int:
        """How many candidates are committed: one more than the highest ordinal."""
        query = select(func.max(candidates.c.ordinal)).where(candidates.c.search_id == search_id)
        highest = self._database.read(lambda connection: connection.scalar(query))
        return 0 if highest is None else int(highest) + 1

    def candidates(
        self, search_id: str, *, after: int = -1, limit: int = 100, pending: bool = False
    ) -> list[Entry]:
        """Candidates with ordinals above ``after``, in order; only pending ones if asked."""
        query = _entries(search_id).where(candidates.c.ordinal > after)
        if pending:
            query = query.where(events.c.seq.is_(None))
        return [
            codec.entry_from_columns(row)
            for row in self._all(query.order_by(candidates.c.ordinal).limit(limit))
        ]

    def candidate(self, search_id: str, ordinal: int) -> Entry | None:
        """One candidate."""
        query = _entries(search_id).where(candidates.c.ordinal == ordinal)
        row = self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else codec.entry_from_columns(row)

    # The log

    def record(self, search_id: str, outcome: Outcome, provenance: Provenance) -> int | None:
        """Write an outcome and its per-example scores; the first report of a candidate wins.

        Returns:
            its seq, or None when the candidate already has an outcome.

        Raises:
            LookupError: the candidate was never enqueued.
        """
        kind, body = codec.outcome_to_columns(outcome, provenance)
        scores = outcome.scores if isinstance(outcome, Scored) else {}
        measured = _Measured(
            search_id, outcome.candidate.ordinal, Split.SEARCH, scores, provenance.key
        )
        return self._record(measured, kind, body, IS_OUTCOME)

    def record_confirmation(
        self, search_id: str, confirmation: Confirmation, provenance: Provenance
    ) -> int | None:
        """Write a candidate's scores on the select or the report split; the first report wins.

        Returns:
            its seq, or None when the candidate was confirmed on as many examples of it before.

        Raises:
            LookupError: the candidate was never enqueued.
        """
        kind, body = codec.confirmation_to_columns(confirmation, provenance)
        scores = confirmation.scores if isinstance(confirmation, HeldOut) else {}
        ordinal, split = confirmation.candidate.ordinal, confirmation.split
        first = confirmation.first
        measured = _Measured(search_id, ordinal, split, scores, provenance.key, first)
        return self._record(measured, kind, body, and_(IS_NOTE, events.c.kind == kind))

    def _record(
        self, measured: _Measured, kind: EventKind, body: Mapping[str, Any], like: Any
    ) -> int | None:
        """Write an event with its examples, unless one ``like`` it is of the same examples."""
        search_id, ordinal, split = measured.search_id, measured.ordinal, measured.split
        first = measured.first
        blobs = codec.examples_to_rows(search_id, ordinal, split, measured.scores, first)
        earlier = select(events.c.body).where(
            events.c.search_id == search_id, events.c.ordinal == ordinal, like
        )

        def write(connection: Connection) -> int | None:
            seq = _next_seq(connection, search_id)
            if first in [known.get("first") for known in connection.scalars(earlier)]:
                return None
            connection.execute(_new_event(search_id, seq, kind, body, ordinal=ordinal))
            if blobs:
                connection.execute(insert(examples), blobs)
            if measured.key is not None:
                row = {"search_id": search_id, "ordinal": ordinal, "split": split.value}
                row |= {"first": first or 0, "key": measured.key}
                connection.execute(insert(score_keys).values(**row))
            return seq

        try:
            return self._database.write(write)
        except IntegrityError:
            raise LookupError(f"candidate {ordinal} of {search_id} was never enqueued") from None

    def restore(self, search_id: str, outcomes: Sequence[Outcome]) -> None:
        """Write candidates with their outcomes, all in one transaction, into an empty log."""
        at = datetime.now(UTC)
        rows: list[dict[str, Any]] = []
        log: list[dict[str, Any]] = []
        blobs: list[dict[str, Any]] = []
        for seq, outcome in enumerate(outcomes, start=1):
            columns = codec.candidate_to_columns(outcome.candidate)
            key = {"search_id": search_id, "ordinal": columns["ordinal"]}
            kind, body = codec.outcome_to_columns(outcome, Provenance("restored"))
            rows.append({**key, **columns, "created_at": at})
            log.append({**key, "seq": seq, "kind": kind, "body": body, "created_at": at})
            if isinstance(outcome, Scored):
                ordinal = outcome.candidate.ordinal
                blobs += codec.examples_to_rows(search_id, ordinal, Split.SEARCH, outcome.scores)

        def write(connection: Connection) -> None:
            for table, values in ((candidates, rows), (events, log), (examples, blobs)):
                if values:
                    connection.execute(insert(table), values)

        self._database.write(write)

    def record_survey(self, search_id: str, surveyed: Surveyed) -> int | None:
        """Write what the survey found, as event ``surveyed``; None when there was one before."""
        row = {
            "search_id": search_id,
            "sha256": surveyed.sha256,
            "geometry": codec.pack_geometry(surveyed.geometry),
        }
        body = codec.survey_to_body(surveyed)
        asked = [
            {"search_id": search_id, **codec.documents_to_columns(one)}
            for one in surveyed.documents
        ]
        earlier = select(surveys.c.search_id).where(surveys.c.search_id == search_id)

        def write(connection: Connection) -> int | None:
            seq = _next_seq(connection, search_id)
            if connection.scalar(earlier) is not None:
                return None
            connection.execute(insert(surveys).values(row))
            if asked:
                connection.execute(insert(documents), asked)
            connection.execute(_new_event(search_id, seq, "surveyed", body))
            return seq

        return self._database.write(write)

    def append(
        self,
        search_id: str,
        kind: EventKind,
        body: Mapping[str, Any] | None = None,
        *,
        ordinal: int | None = None,
        after: int | None = None,
    ) -> int | None:
        """Append anything that is neither an outcome nor a survey.

        Args:
            search_id: whose log.
            kind: of the event.
            body: JSON; numbers must be finite.
            ordinal: of the candidate that it is about.
            after: write only if this is the newest seq, so that what was decided from the log
                still holds.

        Returns:
            its seq, or None when the log has moved beyond ``after``.
        """
        at = datetime.now(UTC)
        tried: list[int] = []

        def write(connection: Connection) -> int | None:
            seq = _next_seq(connection, search_id)
            # Committed at the first try, with the confirmation lost: time and kind give it away.
            mine = select(events.c.seq).where(
                events.c.search_id == search_id,
                events.c.seq.in_(tried),
                events.c.kind == kind,
                events.c.created_at == at,
            )
            if tried and (written := connection.scalar(mine)) is not None:
                return int(written)
            if after is not None and seq != after + 1:
                return None
            tried.append(seq)
            connection.execute(_new_event(search_id, seq, kind, body or {}, ordinal=ordinal, at=at))
            return seq

        try:
            return self._database.write(write)
        except IntegrityError:
            raise LookupError(f"there is no candidate {ordinal} in {search_id}") from None

    def events(
        self, search_id: str, *, after: int = 0, limit: int = 1000, outcomes: bool = True
    ) -> list[Event]:
        """The log from ``after`` on, in order; without outcomes if asked."""
        query = select(events).where(events.c.search_id == search_id, events.c.seq > after)
        if not outcomes:
            query = query.where(IS_NOTE)
        return [
            codec.event_from_columns(row)
            for row in self._all(query.order_by(events.c.seq).limit(limit))
        ]

    def outcomes(self, search_id: str, start: int, stop: int) -> list[Outcome]:
        """Recorded outcomes with ordinals from start to below stop, in order, with all examples."""
        entries = (
            _entries(search_id)
            .where(
                candidates.c.ordinal >= start,
                candidates.c.ordinal < stop,
                events.c.seq.is_not(None),
            )
            .order_by(candidates.c.ordinal)
        )
        blobs = select(examples.c.ordinal, examples.c.objective, examples.c.scores).where(
            examples.c.search_id == search_id,
            examples.c.split == Split.SEARCH.value,
            examples.c.ordinal >= start,
            examples.c.ordinal < stop,
        )

        def read(connection: Connection) -> tuple[list[Row[Any]], list[Row[Any]]]:
            found = list(connection.execute(entries))
            return found, list(connection.execute(blobs))

        found, packed = self._database.read(read)
        by_ordinal: dict[int, dict[str, bytes]] = defaultdict(dict)
        for row in packed:
            by_ordinal[row.ordinal][row.objective] = row.scores
        return [
            codec.outcome_from_entry(codec.entry_from_columns(row), by_ordinal[row.ordinal])
            for row in found
        ]

    def examples(
        self, search_id: str, ordinal: int, split: Split
    ) -> dict[str, NDArray[np.float32]]:
        """Per-example scores of one candidate, by objective; empty where it was not scored.

        Where it was scored more than once, on ever more examples, the most that there are.
        """
        return {line.objective: line.scores for line in self.ledger(search_id, [ordinal], split)}

    def confirmed(
        self, search_id: str, ordinal: int, split: Split, first: int | None = None
    ) -> Scores:
        """Scores on the select or the report split; empty without any.

        Args:
            search_id: whose log.
            ordinal: of the candidate.
            split: select or report.
            first: those on so many first examples; on the most that there are when None.
        """
        kind = codec.confirmation_kind(split)
        query = select(events).where(
            events.c.search_id == search_id,
            events.c.ordinal == ordinal,
            events.c.kind == kind,
            IS_NOTE,
        )
        found = [codec.event_from_columns(row) for row in self._all(query)]
        scored = {event.body.get("first", 0): event.scores for event in found if event.scores}
        if not scored or (first is not None and first not in scored):
            return {}
        which = max(scored, key=_extent) if first is None else first
        blobs = select(examples.c.objective, examples.c.scores).where(
            examples.c.search_id == search_id,
            examples.c.ordinal == ordinal,
            examples.c.split == split.value,
            examples.c.first == which,
        )
        packed = {row.objective: row.scores for row in self._all(blobs)}
        return {
            key: Score(
                score.value, score.stderr, score.count, codec.unpack_examples(packed[key]), split
            )
            for key, score in scored[which].items()
        }

    def ledger(
        self, search_id: str, ordinals: Sequence[int], split: Split | None
    ) -> Iterator[Line]:
        """Per-example scores of some candidates, by ordinal, split and objective.

        Of a candidate that was scored on ever more examples, the most that there are.
        """
        if isinstance(ordinals, range):
            chosen = examples.c.ordinal.between(ordinals.start, ordinals.stop - 1)
        else:
            chosen = examples.c.ordinal.in_(ordinals)
        query = select(examples).where(examples.c.search_id == search_id, chosen)
        if split is not None:
            query = query.where(examples.c.split == split.value)
        order = (examples.c.ordinal, examples.c.split, examples.c.objective)
        rows = self._all(query.order_by(*order))
        for (_, of_split, objective), same in groupby(
            rows, key=lambda row: (row.ordinal, row.split, row.objective)
        ):
            row = max(same, key=lambda row: _extent(row.first))
            scores = codec.unpack_examples(row.scores)
            yield Line(row.ordinal, Split(of_split), objective, scores)

    def known(self, key: str) -> Known | None:
        """Whose scores, or lack of any, have this key, in any search; the oldest of equals."""
        found = select(score_keys).where(score_keys.c.key == key)
        found = found.order_by(score_keys.c.search_id, score_keys.c.ordinal).limit(1)

        def read(connection: Connection) -> Known | None:
            row = connection.execute(found).first()
            if row is None:
                return None
            split = Split(row.split)
            of_split = (
                IS_OUTCOME
                if split is Split.SEARCH
                else and_(IS_NOTE, events.c.kind == codec.confirmation_kind(split))
            )
            same = select(events).where(
                events.c.search_id == row.search_id, events.c.ordinal == row.ordinal, of_split
            )
            (event,) = (
                one for one in connection.execute(same) if one.body.get("first", 0) == row.first
            )
            return codec.known_from_row(event)

        return self._database.read(read)

    # The survey

    def documents(self, search_id: str, split: Split | None = None) -> list[Documents]:
        """What the survey found the tasks to ask, by task; on all splits if none is named."""
        query = select(documents).where(documents.c.search_id == search_id)
        if split is not None:
            query = query.where(documents.c.split == split.value)
        rows = self._all(query.order_by(documents.c.task, documents.c.split))
        return [codec.documents_from_columns(row) for row in rows]

    def survey(self, search_id: str) -> Event | None:
        """The event of the survey; None before it."""
        query = select(events).where(
            events.c.search_id == search_id, IS_NOTE, events.c.kind == "surveyed"
        )
        rows = self._all(query.order_by(events.c.seq).limit(1))
        return codec.event_from_columns(rows[0]) if rows else None

    def geometry(self, search_id: str) -> Geometry | None:
        """What the survey measured."""
        query = select(surveys.c.geometry).where(surveys.c.search_id == search_id)
        return codec.unpack_geometry(
            self._database.read(lambda connection: connection.scalar(query))
        )

    def hashes(self, search_id: str) -> dict[str, str]:
        """sha256 of every weight file, by ``model/file``; empty before the survey."""
        query = select(surveys.c.sha256).where(surveys.c.search_id == search_id)
        return dict(self._database.read(lambda connection: connection.scalar(query)) or {})

    # Leases

    def lease(self, name: str, holder: str, *, ttl_s: float) -> bool:
        """Take or renew a lease; False while someone else holds it.

        Time is the database's, so that the clocks of controllers need not agree.
        """

        def take(connection: Connection) -> bool:
            now = _now(connection)
            free = or_(leases.c.holder == holder, leases.c.expires_at <= now)
            values = {"holder": holder, "expires_at": now + ttl_s}
            taken = connection.execute(
                update(leases).where(leases.c.name == name, free).values(values)
            )
            if taken.rowcount:
                return True
            if connection.scalar(select(leases.c.name).where(leases.c.name == name)) is not None:
                return False
            connection.execute(insert(leases).values(name=name, **values))
            return True

        try:
            return self._database.write(take)
        except IntegrityError:  # someone was faster
            return False

    def release(self, name: str, holder: str) -> None:
        """Give a lease back, if it is still held."""
        query = delete(leases).where(leases.c.name == name, leases.c.holder == holder)
        self._database.write(lambda connection: connection.execute(query).close())

    def _all(self, query: Select[Any]) -> list[Row[Any]]:
        return self._database.read(lambda connection: list(connection.execute(query)))


def _extent(first: int) -> float:
    """How much was scored where it was to be so many first examples; 0 stands for all."""
    return first or math.inf


def _new_id() -> str:
    """A UUID version 7 in hex: sorts by time to the millisecond (RFC 9562, section 5.7)."""
    value = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value).hex


def _now(connection: Connection) -> float:
    """Seconds by the clock of the database; only differences mean anything."""
    if connection.dialect.name == "postgresql":
        return float(connection.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0)
    return 86400.0 * float(connection.scalar(select(func.julianday("now"))) or 0)


def _next_seq(connection: Connection, search_id: str) -> int:
    """The next place in a search's log, ours alone until the transaction ends.

    The lock on the search's row makes writers of one log take turns, so that entries become
    visible in the order of their seq and a reader misses none. SQLite has one writer at a time.
    """
    row = select(searches.c.id).where(searches.c.id == search_id).with_for_update(key_share=True)
    if connection.scalar(row) is None:
        raise UnknownSearch(f"there is no search '{search_id}'")
    newest = select(func.max(events.c.seq)).where(events.c.search_id == search_id)
    return int(connection.scalar(newest) or 0) + 1


def _new_event(
    search_id: str,
    seq: int,
    kind: EventKind,
    body: Mapping[str, Any],
    *,
    ordinal: int | None = None,
    at: datetime | None = None,
) -> Any:
    return insert(events).values(
        search_id=search_id,
        seq=seq,
        kind=kind,
        ordinal=ordinal,
        body=dict(body),
        created_at=at or datetime.now(UTC),
    )


def _entries(search_id: str) -> Select[Any]:
    """Candidates beside their outcome events, where they have one."""
    outcome = and_(
        events.c.search_id == candidates.c.search_id,
        events.c.ordinal == candidates.c.ordinal,
        IS_OUTCOME,
    )
    return (
        select(
            candidates,
            events.c.seq,
            events.c.kind,
            events.c.body,
            events.c.created_at.label("recorded_at"),
        )
        .select_from(candidates.outerjoin(events, outcome))
        .where(candidates.c.search_id == search_id)
    )
