"""Live events: in order, complete, resumable, encoded once, and gone when the server stops."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import httpx
import pytest

from api import events
from api.events import Feeds
from api.settings import Settings
from api.store import Store, UnknownSearch
from tests.analytic import submission
from tests.serving import problem_of, record, recorded, served

Seen = TypeVar("Seen")


@contextlib.asynccontextmanager
async def polled(store: Store) -> AsyncIterator[Feeds]:
    feeds = Feeds(store, poll_s=0.01)
    async with events.polling(feeds):
        yield feeds


async def read(feeds: Feeds, search_id: str, after: int, *, until: int) -> list[dict[str, Any]]:
    """What a viewer receives from ``after`` up to a seq."""
    found: list[dict[str, Any]] = []
    stream = feeds.stream(search_id, after)
    async for chunk in stream:
        found += parse(chunk.decode())
        if found and found[-1]["seq"] >= until:
            break
    await stream.aclose()
    return found


def parse(text: str) -> Iterator[dict[str, Any]]:
    for block in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")
        )
        if "data" in fields:
            event = json.loads(fields["data"])
            assert fields["id"] == str(event["seq"])
            assert fields["event"] == event["kind"]
            yield event


def _run(coroutine: Coroutine[Any, Any, Seen]) -> Seen:
    """In a thread of its own: the thread of the tests may belong to a browser's event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def test_a_viewer_gets_the_whole_log_in_order(store: Store) -> None:
    search_id = recorded(store, 9)

    async def watch() -> list[dict[str, Any]]:
        async with polled(store) as feeds:
            return await read(feeds, search_id, 0, until=10)

    seen = _run(watch())
    assert [event["seq"] for event in seen] == list(range(1, 11))
    assert seen[0]["kind"] == "surveyed"
    assert seen[-1]["candidate"]["ordinal"] == 8
    assert seen[-1]["progress"]["scored"] == 8
    assert seen[-1]["hypervolume"] > 0
    assert "scores" not in seen[-1]["detail"]


def test_a_viewer_resumes_after_any_event(store: Store) -> None:
    search_id = recorded(store, 9)

    async def watch() -> None:
        async with polled(store) as feeds:
            whole = await read(feeds, search_id, 0, until=10)
            for after in range(10):
                assert await read(feeds, search_id, after, until=10) == whole[after:]

    _run(watch())


def test_new_entries_reach_those_who_wait(store: Store) -> None:
    search_id = recorded(store, 4)

    async def watch() -> None:
        async with polled(store) as feeds:
            viewers = [asyncio.create_task(read(feeds, search_id, 5, until=8)) for _ in range(20)]
            await asyncio.sleep(0.1)
            for kind in ("pause", "resume", "cancel"):
                await asyncio.to_thread(store.append, search_id, kind)
                await asyncio.sleep(0.03)
            for seen in await asyncio.gather(*viewers):
                assert [event["kind"] for event in seen] == ["pause", "resume", "cancel"]
                assert seen[-1]["state"] == "cancelled"
            assert feeds.viewers == 0

    _run(watch())


def test_every_entry_is_encoded_once_for_all_viewers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_id = recorded(store, 4)
    encoded: list[int] = []
    original = events.event_view

    def counting(event: Any, *rest: Any) -> Any:
        encoded.append(event.seq)
        return original(event, *rest)

    monkeypatch.setattr(events, "event_view", counting)

    async def watch() -> None:
        async with polled(store) as feeds:
            await asyncio.gather(*(read(feeds, search_id, 0, until=5) for _ in range(30)))

    _run(watch())
    assert encoded == [1, 2, 3, 4, 5]


def test_what_left_the_buffer_is_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    search_id = recorded(store, 9)

    async def watch() -> list[list[dict[str, Any]]]:
        async with polled(store) as feeds:
            return [await read(feeds, search_id, after, until=10) for after in (0, 3, 9)]

    plenty = _run(watch())
    monkeypatch.setattr(events, "_BUFFERED", 2)
    assert _run(watch()) == plenty


def test_silence_is_broken_by_comments(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    search_id = recorded(store, 1)
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.02)

    async def watch() -> list[bytes]:
        async with polled(store) as feeds:
            stream = feeds.stream(search_id, 2)
            chunks = [await anext(stream) for _ in range(4)]
            await stream.aclose()
            return chunks

    assert _run(watch()) == [b"retry: 1000\n\n", *[b": still here\n\n"] * 3]


def test_streams_end_when_the_feeds_close(store: Store) -> None:
    search_id = recorded(store, 1)

    async def watch() -> int:
        async with polled(store) as feeds:
            viewers = [
                asyncio.create_task(read(feeds, search_id, 0, until=10**9)) for _ in range(10)
            ]
            await asyncio.sleep(0.1)
            feeds.close()
            ended = await asyncio.wait_for(asyncio.gather(*viewers), 2)
            return len(ended)

    assert _run(watch()) == 10


def test_the_store_may_be_away_for_a_while(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from api.store import StoreDown

    search_id = recorded(store, 1)
    original, calls = Store.heads, []

    def flaky(self: Store) -> Any:
        calls.append(1)
        if 1 < len(calls) < 5:
            raise StoreDown("away")
        return original(self)

    monkeypatch.setattr(Store, "heads", flaky)

    async def watch() -> list[dict[str, Any]]:
        async with polled(store) as feeds:
            viewer = asyncio.create_task(read(feeds, search_id, 2, until=3))
            await asyncio.sleep(0.05)
            store.append(search_id, "pause")
            return await asyncio.wait_for(viewer, 5)

    assert [event["kind"] for event in _run(watch())] == ["pause"]


def test_an_unknown_search_is_a_problem_before_the_stream(settings: Settings, store: Store) -> None:
    with served(settings, store) as (url, _):
        answer = httpx.get(f"{url}/v1/searches/unknown/events")
    assert answer.status_code == 404
    problem_of(answer)
    with pytest.raises(UnknownSearch):
        store.search("unknown")


def test_there_is_a_limit_to_viewers(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_VIEWERS", 0)
    search_id = recorded(store, 1)
    with served(settings, store) as (url, _):
        answer = httpx.get(f"{url}/v1/searches/{search_id}/events")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    problem_of(answer)


def test_last_event_id_wins_over_the_query(settings: Settings, store: Store) -> None:
    search_id = recorded(store, 4)
    with (
        served(settings, store) as (url, _),
        httpx.stream(
            "GET",
            f"{url}/v1/searches/{search_id}/events?after=0",
            headers={"last-event-id": "4"},
        ) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        text = ""
        for chunk in answer.iter_text():
            text += chunk
            if "data:" in text:
                break
    assert [event["seq"] for event in parse(text)] == [5]


def test_a_stopping_server_ends_its_streams_at_once(settings: Settings, store: Store) -> None:
    search_id = store.create_search(submission())
    ended: list[bool] = []

    def watch(url: str) -> None:
        with httpx.stream("GET", f"{url}/v1/searches/{search_id}/events", timeout=30) as answer:
            for _ in answer.iter_bytes():
                pass
            ended.append(True)

    with served(settings, store) as (url, server):
        viewers = [threading.Thread(target=watch, args=(url,)) for _ in range(20)]
        for viewer in viewers:
            viewer.start()
        deadline = time.monotonic() + 10
        while server.config.app.state.service.feeds.viewers < 20 and time.monotonic() < deadline:
            time.sleep(0.02)
        start = time.monotonic()
    assert time.monotonic() - start < 5
    for viewer in viewers:
        viewer.join(5)
    assert len(ended) == 20


def test_an_entry_recorded_while_watching_arrives_over_http(
    settings: Settings, store: Store
) -> None:
    search_id = recorded(store, 3)
    candidate = store.outcomes(search_id, 2, 3)[0].candidate
    late = type(candidate)(3, candidate.recipe, candidate.origin, candidate.genome)

    def later() -> None:
        time.sleep(0.2)
        store.enqueue(search_id, late)
        record(store, search_id, late)

    writer = threading.Thread(target=later)
    with (
        served(settings, store) as (url, _),
        httpx.stream("GET", f"{url}/v1/searches/{search_id}/events?after=4", timeout=10) as answer,
    ):
        writer.start()
        text = ""
        for chunk in answer.iter_text():
            text += chunk
            if "data:" in text:
                break
    writer.join()
    (event,) = parse(text)
    assert event["candidate"]["ordinal"] == 3
