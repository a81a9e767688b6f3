"""Server-sent events: each entry of a log is encoded once, and sent to all who watch."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from api.reading import Reading, pages
from api.store import Entry, Event, Store, StoreDown
from api.views import event_view

POLL_S = 0.25
KEEP_ALIVE_S = 15.0
MAX_VIEWERS = 2000

_BUFFERED = 2000
_IDLE_S = 300.0

_log = logging.getLogger(__name__)


class TooManyViewers(RuntimeError):
    """There are as many streams as this process serves."""


@dataclass(frozen=True, slots=True)
class Message:
    """An entry of a log as it goes over the wire."""

    seq: int
    data: bytes


def encode(reading: Reading, store: Store, page: Sequence[Event]) -> Iterator[Message]:
    """Feed a page of events to a reading, and tell of each in turn."""
    search_id = reading.search.id
    entries = _entries(store, search_id, page)
    proposed = store.proposed(search_id)
    for event in page:
        reading.feed((event,))
        entry = None if event.ordinal is None else entries.get(event.ordinal)
        body = event_view(event, entry, reading, proposed).model_dump_json()
        yield Message(event.seq, f"id: {event.seq}\nevent: {event.kind}\ndata: {body}\n\n".encode())


def _entries(store: Store, search_id: str, page: Sequence[Event]) -> dict[int, Entry]:
    """Candidates that a page is about; they lie close together, so that one query finds them."""
    ordinals = [event.ordinal for event in page if event.ordinal is not None]
    if not ordinals:
        return {}
    first, last = min(ordinals), max(ordinals)
    if last - first > 4 * len(page) + 1024:
        found = [store.candidate(search_id, ordinal) for ordinal in sorted(set(ordinals))]
        return {entry.candidate.ordinal: entry for entry in found if entry is not None}
    rows = store.candidates(search_id, after=first - 1, limit=last - first + 1)
    return {entry.candidate.ordinal: entry for entry in rows}


class Feed:
    """The newest messages of one search, shared by all of its viewers.

    Runs on the event loop; only ``read`` runs in a thread, and one at a time.
    """

    def __init__(self, store: Store, search_id: str, after: int) -> None:
        self._store = store
        self._reading = Reading(store.search(search_id))
        newest = next((head.seq for head in store.heads() if head.search_id == search_id), 0)
        self._reading.catch_up(store, until=max(after, newest - _BUFFERED))
        self.start = self._reading.progress.seq
        self.messages: deque[Message] = deque()
        self.viewers = 0
        self.last_seen = time.monotonic()
        self._changed: asyncio.Future[None] | None = None

    @property
    def search_id(self) -> str:
        """Whose log it is."""
        return self._reading.search.id

    @property
    def seq(self) -> int:
        """Of the newest message."""
        return self._reading.progress.seq

    def read(self) -> list[Message]:
        """What is new in the log. Blocks; for a thread."""
        found: list[Message] = []
        for page in pages(self._store, self.search_id, self.seq):
            found += encode(self._reading, self._store, page)
        return found

    def publish(self, messages: Sequence[Message]) -> None:
        """Give new messages to all viewers."""
        self.messages.extend(messages)
        while len(self.messages) > _BUFFERED:
            self.start = self.messages.popleft().seq
        self.wake()

    def wake(self) -> None:
        """Let every viewer look again."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
        self._changed = None

    async def change(self, timeout_s: float) -> bool:
        """Wait for the next wake-up, shared by all; False when none came in time."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait((self._changed,), timeout=timeout_s)
        return bool(done)

    def after(self, seq: int) -> bytes:
        """All buffered messages beyond a seq, as one piece."""
        newer = itertools.takewhile(lambda message: message.seq > seq, reversed(self.messages))
        return b"".join(message.data for message in reversed(list(newer)))


class Feeds:
    """One feed per watched search, and the poller that finds what is new.

    Polling the database works the same whether the controller is a thread of this process or lives
    elsewhere.

    Args:
        store: the log.
        poll_s: seconds between two looks at the heads of all logs.
    """

    def __init__(self, store: Store, *, poll_s: float = POLL_S) -> None:
        self._store = store
        self._poll_s = poll_s
        self._feeds: dict[str, Feed] = {}
        self._opening = asyncio.Lock()
        self.viewers = 0
        self.closed = False

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self.closed = True
        for feed in self._feeds.values():
            feed.wake()

    async def poll(self) -> None:
        """Run until cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            self._forget_idle()
            if not self._feeds:
                continue
            try:
                await self._advance()
            except StoreDown:
                _log.warning("The log cannot be read", extra={"event": "feed_waits"})

    def reserve(self) -> None:
        """Raise TooManyViewers where one more stream is one too many."""
        if self.viewers >= MAX_VIEWERS:
            raise TooManyViewers

    async def stream(self, search_id: str, after: int) -> AsyncIterator[bytes]:
        """All messages beyond ``after``, as they come; ends when the server stops."""
        feed = await self._open(search_id, after)
        self.viewers += 1
        feed.viewers += 1
        try:
            yield b"retry: 1000\n\n"
            while not self.closed:
                if after < feed.start:
                    async for message in self._backlog(search_id, after, feed.start):
                        yield message.data
                        after = message.seq
                if after < feed.seq and (data := feed.after(after)):
                    after = feed.messages[-1].seq
                    yield data
                elif not await feed.change(KEEP_ALIVE_S):
                    yield b": still here\n\n"
        finally:
            self.viewers -= 1
            feed.viewers -= 1
            feed.last_seen = time.monotonic()

    async def _open(self, search_id: str, after: int) -> Feed:
        async with self._opening:
            if search_id not in self._feeds:
                feed = await asyncio.to_thread(Feed, self._store, search_id, after)
                feed.publish(await asyncio.to_thread(feed.read))
                self._feeds[search_id] = feed
            return self._feeds[search_id]

    async def _backlog(self, search_id: str, after: int, until: int) -> AsyncIterator[Message]:
        """Messages that are no longer buffered, read and encoded anew."""
        reading = Reading(await asyncio.to_thread(self._store.search, search_id))
        await asyncio.to_thread(lambda: reading.catch_up(self._store, until=after))
        while reading.progress.seq < until and not self.closed:
            for message in await asyncio.to_thread(self._next_page, reading, until):
                yield message

    def _next_page(self, reading: Reading, until: int) -> list[Message]:
        seq = reading.progress.seq
        page = next(pages(self._store, reading.search.id, seq, until), [])
        return list(encode(reading, self._store, page))

    async def _advance(self) -> None:
        heads = await asyncio.to_thread(self._store.heads)
        newest = {head.search_id: head.seq for head in heads}
        for feed in list(self._feeds.values()):
            if newest.get(feed.search_id, 0) > feed.seq:
                feed.publish(await asyncio.to_thread(feed.read))

    def _forget_idle(self) -> None:
        now = time.monotonic()
        for feed in list(self._feeds.values()):
            if feed.viewers == 0 and now - feed.last_seen > _IDLE_S:
                del self._feeds[feed.search_id]


@contextlib.asynccontextmanager
async def polling(feeds: Feeds) -> AsyncIterator[None]:
    """Poll in the background."""
    task = asyncio.create_task(feeds.poll())
    try:
        yield
    finally:
        feeds.close()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
