"""The log as the API reads it: every search folded once, then only read on."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from api.notices import Notices
from api.progress import Progress
from api.selection import Selection
from api.standings import Standings
from api.store import Entry, Event, Search, Store

_PAGE = 1000
_SEARCHES = 256
_ENTRIES = 4096


class Reading:
    """One search, as its log tells it up to ``progress.seq``."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.progress = Progress(search.spec)
        self.standings = Standings(search.spec, search.submission.directions)
        self.notices = Notices()
        self.selection = Selection(search.spec, search.submission.directions)

    def feed(self, events: Iterable[Event]) -> None:
        """Read on."""
        page = tuple(events)
        self.progress.feed(page)
        self.standings.feed(page)
        self.notices.feed(page)
        self.selection.feed(page)

    def best(self, weights: Mapping[str, float] | None = None) -> int | None:
        """The ordinal that a preference picks: on the select split once finalists were scored.

        Until then, and while an extended search runs, on the search split.
        """
        chosen = None
        if self.progress.state not in ("running", "selecting"):
            selection = self.selection
            chosen = selection.winner if weights is None else selection.choose(weights)
        return self.standings.best(weights) if chosen is None else chosen

    def catch_up(self, store: Store, *, until: int | None = None) -> None:
        """Read to the end of the log, or to a seq."""
        for page in pages(store, self.search.id, self.progress.seq, until):
            self.feed(page)


def pages(
    store: Store, search_id: str, after: int, until: int | None = None
) -> Iterator[list[Event]]:
    """A log in portions, from ``after`` to its end or to ``until``."""
    while until is None or after < until:
        limit = _PAGE if until is None else min(_PAGE, until - after)
        page = store.events(search_id, after=after, limit=limit)
        if not page:
            return
        yield page
        after = page[-1].seq


class Readings:
    """Folded searches, kept so that a request costs what is new. Safe to share between threads.

    Outcomes never change, so entries that have one are kept as well.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._readings: OrderedDict[str, tuple[threading.Lock, Reading]] = OrderedDict()
        self._entries: OrderedDict[tuple[str, int], Entry] = OrderedDict()

    @contextmanager
    def open(self, search_id: str) -> Iterator[Reading]:
        """The newest reading of a search, for this thread alone; or UnknownSearch."""
        lock, reading = self._find(search_id)
        with lock:
            reading.catch_up(self._store)
            yield reading

    def entry(self, search_id: str, ordinal: int) -> Entry | None:
        """One candidate."""
        key = (search_id, ordinal)
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        entry = self._store.candidate(search_id, ordinal)
        if entry is not None and entry.outcome is not None:
            with self._lock:
                self._entries[key] = entry
                while len(self._entries) > _ENTRIES:
                    self._entries.popitem(last=False)
        return entry

    def entries(self, search_id: str, ordinals: Iterable[int]) -> list[Entry]:
        """Several candidates, in the order of their ordinals as given."""
        found = (self.entry(search_id, ordinal) for ordinal in ordinals)
        return [entry for entry in found if entry is not None]

    def _find(self, search_id: str) -> tuple[threading.Lock, Reading]:
        with self._lock:
            if search_id in self._readings:
                self._readings.move_to_end(search_id)
                return self._readings[search_id]
        reading = Reading(self._store.search(search_id))
        with self._lock:
            found = self._readings.setdefault(search_id, (threading.Lock(), reading))
            while len(self._readings) > _SEARCHES:
                self._readings.popitem(last=False)
            return found
