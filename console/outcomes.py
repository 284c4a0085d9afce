"""The newest outcomes, in bounded memory, and the requests that wait for one.

By the conservation law (DESIGN section 2) each record of the input becomes one record of `ledger` or `rejections`.
Two threads follow these topics and fill this memory; requests read it from the event loop.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple

#: About how much memory one outcome takes in addition to its bytes.
OVERHEAD_BYTES = 400

#: Partition and offset of a record of the input.
Source = tuple[int, int]


class Posted(NamedTuple):
    """An entry: its offset in the ledger, the wallet's key, and the record's value."""

    offset: int
    key: bytes
    value: bytes


class Refused(NamedTuple):
    """A rejection: its offset in `rejections`, its reason and detail."""

    offset: int
    reason: str
    detail: str


Outcome = Posted | Refused


class Feed:
    """Entries that one live feed has not taken yet; beyond a limit it starts over, and the tables have the others."""

    def __init__(self, most: int) -> None:
        self.entries: deque[tuple[Source, Posted]] = deque()
        self.came = asyncio.Event()
        self._most = most

    def add(self, some: Iterable[tuple[Source, Posted]]) -> None:
        """From the event loop."""
        for one in some:
            if len(self.entries) >= self._most:
                self.entries.clear()
            self.entries.append(one)
        self.came.set()


class Outcomes:
    """Outcomes by source, oldest dropped first; filled by threads, read by one event loop."""

    def __init__(self, most_bytes: int, most_waiting: int, most_feeds: int) -> None:
        self._most_bytes, self._most_waiting, self._most_feeds = most_bytes, most_waiting, most_feeds
        self._lock = Lock()
        self._known: dict[Source, Outcome] = {}
        self._order: deque[tuple[Source, int]] = deque()
        self._bytes = 0
        self._waiting: dict[Source, list[asyncio.Future[Outcome]]] = {}
        self._feeds: dict[bytes, set[Feed]] = {}
        self._waiting_count = self._feed_count = 0
        self.loop: asyncio.AbstractEventLoop | None = None

    # -- from the threads that follow

    def tell(self, some: list[tuple[Source, Outcome]]) -> None:
        """Add outcomes, in the order of their topic."""
        woken: list[tuple[list[asyncio.Future[Outcome]], Outcome]] = []
        fed: dict[bytes, list[tuple[Source, Posted]]] = {}
        with self._lock:
            for source, outcome in some:
                if source in self._known:
                    continue  # read again after a reconnect
                self._known[source] = outcome
                size = OVERHEAD_BYTES + (len(outcome.value) if type(outcome) is Posted else 0)
                self._order.append((source, size))
                self._bytes += size
                if self._waiting and (waiting := self._waiting.pop(source, None)):
                    woken.append((waiting, outcome))
                if self._feeds and type(outcome) is Posted and outcome.key in self._feeds:
                    fed.setdefault(outcome.key, []).append((source, outcome))
            while self._bytes > self._most_bytes:
                source, size = self._order.popleft()
                del self._known[source]
                self._bytes -= size
        if (woken or fed) and self.loop is not None:
            self.loop.call_soon_threadsafe(self._wake, woken, fed)

    def _wake(
        self,
        woken: list[tuple[list[asyncio.Future[Outcome]], Outcome]],
        fed: dict[bytes, list[tuple[Source, Posted]]],
    ) -> None:
        for futures, outcome in woken:
            for future in futures:
                if not future.done():
                    future.set_result(outcome)
        for key, entries in fed.items():
            for feed in self._feeds.get(key, ()):
                feed.add(entries)

    # -- from the event loop

    def get(self, source: Source) -> Outcome | None:
        """The outcome of a source, if known."""
        with self._lock:
            return self._known.get(source)

    @property
    def is_full(self) -> bool:
        """Whether no further request may wait."""
        return self._waiting_count >= self._most_waiting

    async def wait(self, source: Source, wait_s: float) -> Outcome | None:
        """Wait for the outcome of a source; None if it does not come within this time."""
        with self._lock:
            known = self._known.get(source)
            if known is not None or wait_s <= 0 or self.is_full:
                return known
            future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(source, []).append(future)
        self._waiting_count += 1
        try:
            async with asyncio.timeout(wait_s):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting_count -= 1
            with self._lock:
                # A woken waiter is in no list any more, but another one for that source may be by now.
                if future in (left := self._waiting.get(source, [])):
                    left.remove(future)
                    if not left:
                        del self._waiting[source]

    def posted_before(self, source: Source, key: bytes, transaction_id: str) -> Posted | None:
        """The wallet's entry with this id before a source, if still in memory."""
        wanted = transaction_id.encode()
        with self._lock:
            for known in reversed(self._known):
                outcome = self._known[known]
                if (
                    type(outcome) is Posted
                    and outcome.key == key
                    and known[0] == source[0]
                    and known[1] < source[1]
                    and wanted in outcome.value
                ):
                    return outcome
        return None

    def entries_of(self, key: bytes) -> list[tuple[Source, Posted]]:
        """The newest entries of a wallet that are in memory, in order."""
        with self._lock:
            return [
                (source, outcome)
                for source, outcome in self._known.items()
                if type(outcome) is Posted and outcome.key == key
            ]

    @property
    def feeds_are_full(self) -> bool:
        """Whether no further feed may be opened."""
        return self._feed_count >= self._most_feeds

    def follow(self, key: bytes, most: int) -> Feed:
        """A feed of a wallet's new entries; pass it to `unfollow` at the end."""
        feed = Feed(most)
        self._feed_count += 1
        with self._lock:
            self._feeds.setdefault(key, set()).add(feed)
        return feed

    def unfollow(self, key: bytes, feed: Feed) -> None:
        """The end of a feed."""
        with self._lock:
            feeds = self._feeds[key]
            feeds.discard(feed)
            if not feeds:
                del self._feeds[key]
        self._feed_count -= 1
