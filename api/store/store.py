"""The store: what can be written to the log and read from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.store.records import Entry, Event, EventKind, Head, Search, Submission
from search.geometry import Geometry
from search.outcome import Candidate, Outcome, Score
from workers.messages import Surveyed, Timings


class StoreDown(RuntimeError):
    """The database could not be reached for longer than the store was willing to wait."""


class NewerDatabase(RuntimeError):
    """The database was written by a newer version of the program."""


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

    def __init__(self, url: str, *, patience_s: float = 30.0) -> None: ...

    def close(self) -> None:
        """Let go of all connections."""

    def create_search(self, submission: Submission, *, idempotency_key: str | None = None) -> str:
        """Accept a submission and return its id; the same key and spec give the same search.

        Raises:
            IdempotencyConflict: the key was used for another spec.
        """

    def search(self, search_id: str) -> Search:
        """One search, or UnknownSearch."""

    def searches(self, *, before: str | None = None, limit: int = 100) -> list[Search]:
        """Newest first; ``before`` is the last id of the page before."""

    def heads(self) -> list[Head]:
        """The newest event of every search: what to poll to notice anything at all."""

    def enqueue(self, search_id: str, candidate: Candidate) -> bool:
        """Commit a candidate. False, and nothing written, when its ordinal is taken."""

    def proposed(self, search_id: str) -> int:
        """How many candidates are committed: one more than the highest ordinal."""

    def candidates(
        self, search_id: str, *, after: int = -1, limit: int = 100, pending: bool = False
    ) -> list[Entry]:
        """Candidates with ordinals above ``after``, in order; only those without outcome if asked."""

    def candidate(self, search_id: str, ordinal: int) -> Entry | None:
        """One candidate."""

    def record(
        self, search_id: str, outcome: Outcome, *, timings: Timings | None, worker: str
    ) -> int | None:
        """Write an outcome and its per-example scores; the first report of a candidate wins.

        Returns:
            its seq, or None when the candidate already has an outcome.
        Raises:
            LookupError: the candidate was never enqueued.
        """

    def record_survey(self, search_id: str, surveyed: Surveyed) -> int | None:
        """Write what the survey found, as event ``surveyed``; None when there was one before."""

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

    def events(
        self, search_id: str, *, after: int = 0, limit: int = 1000, outcomes: bool = True
    ) -> list[Event]:
        """The log from ``after`` on, in order; without outcomes if asked."""

    def outcomes(self, search_id: str, start: int, stop: int) -> list[Outcome]:
        """Recorded outcomes with ordinals from start to below stop, in order, with all examples."""

    def examples(self, search_id: str, ordinal: int) -> dict[str, Score]:
        """Scores of one candidate with all examples; empty when it has none."""

    def geometry(self, search_id: str) -> Geometry | None:
        """What the survey measured."""

    def hashes(self, search_id: str) -> dict[str, str]:
        """sha256 of every weight file, by ``model/file``; empty before the survey."""

    def lease(self, name: str, holder: str, *, ttl_s: float) -> bool:
        """Take or renew a lease; False while someone else holds it. Measured by one clock."""

    def release(self, name: str, holder: str) -> None:
        """Give a lease back, if it is still held."""
