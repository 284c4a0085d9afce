"""A wallet's new entries as server-sent events whose ids are positions.

A wallet's sequence has no holes. So whatever the followers' memory or a slow client left out shows as a hole and is
read from the tables before anything later is sent: nothing is missed or sent twice.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from console.database import rows
from console.encoding import entry_of_record
from console.live import Live, entry_in
from console.outcomes import Feed, Source
from console.problems import Problem, wrong
from console.tables import ENTRY, answers
from schemas.partitioner import partition_of

#: Seconds without an entry after which a comment line is sent, so that proxies keep the connection.
SIGN_S = 15.0
#: Entries kept for a slow client, and how many of the further ones are read from the tables at a time.
MOST_QUEUED = 1_000
FILL_ROWS = 500
FILL_PAUSE_S = 0.25
BEGIN = b"retry: 1000\n\n"


class WalletFeed:
    """One client's feed of one wallet; `after` is the last position that it has, None: from now on."""

    def __init__(self, live: Live, wallet_id: str, after: Source | None) -> None:
        self._live, self._wallet_id, self._after = live, wallet_id, after
        self._key = wallet_id.encode()
        partition = partition_of(self._key, live.settings.partitions)
        if after is not None and after[0] != partition:
            raise wrong(
                f"Last-Event-ID {after[0]}:{after[1]} is not a position of this wallet: it is in partition {partition}"
            )
        if live.outcomes.feeds_are_full:
            raise Problem(503, "too many live feeds are open (WALLET_CONSOLE_FEEDS)", {"Retry-After": "5"})
        #: The sequence sent last; None while unknown.
        self._sequence: int | None = None

    async def events(self) -> AsyncIterator[bytes]:
        """The events' bytes, until the console ends or the client disconnects.

        The bound counts here: only what has begun is sure to end. So of many that were let in at the same moment those
        beyond it end at once, and their clients come back.
        """
        if self._live.outcomes.feeds_are_full:
            yield BEGIN
            return
        feed = self._live.outcomes.follow(self._key, MOST_QUEUED)
        try:
            async for event in self._events(feed):
                yield event
        finally:
            self._live.outcomes.unfollow(self._key, feed)

    async def _events(self, feed: Feed) -> AsyncIterator[bytes]:
        yield BEGIN
        if self._after is not None:
            try:
                async for entry in self._since(self._after):
                    yield _event(entry)
            except Problem:
                return  # PostgreSQL is away: the client reconnects with its last position
            # Entries that came before this feed began but were not in the tables yet.
            known = self._live.outcomes.entries_of(self._key)
            feed.entries.extendleft(reversed(known))
        while not self._live.ending.is_set():
            entries = feed.entries
            while entries:
                _, outcome = entries.popleft()
                record = entry_in(outcome)
                if self._sequence is not None and record.sequence <= self._sequence:
                    continue
                if self._sequence is not None and record.sequence > self._sequence + 1:
                    async for entry in self._fill(record.sequence):
                        yield _event(entry)
                self._sequence = record.sequence
                yield _event(entry_of_record(record))
            feed.came.clear()
            if entries:
                continue
            try:
                async with asyncio.timeout(SIGN_S):
                    await feed.came.wait()
            except TimeoutError:
                yield b": still here\n\n"

    async def _since(self, after: Source) -> AsyncIterator[dict[str, Any]]:
        """Entries after a position that the tables already have; also sets the sequence at the position."""
        while not await self._live.wait_for_row(after, 1.0):
            if self._live.ending.is_set():
                return
            yield {}
        async with self._live.database.asking() as connection:
            found = await rows(
                connection,
                "SELECT coalesce(max(sequence), 0) FROM wallet_entries WHERE wallet_id = %s AND source_offset <= %s",
                self._wallet_id,
                after[1],
            )
        self._sequence = found[0][0]
        while some := await self._rows():
            for entry in some:
                yield entry

    async def _fill(self, until: int) -> AsyncIterator[dict[str, Any]]:
        """The entries between the last one sent and a sequence, as soon as the tables have them."""
        while self._sequence is not None and self._sequence + 1 < until and not self._live.ending.is_set():
            some = await self._rows(until)
            for entry in some:
                yield entry
            if not some:
                yield {}
                await asyncio.sleep(FILL_PAUSE_S)

    async def _rows(self, until: int = 2**63 - 1) -> list[dict[str, Any]]:
        try:
            async with self._live.database.asking() as connection:
                found = await answers(
                    connection,
                    f"""
                    SELECT {ENTRY} FROM wallet_entries
                    WHERE wallet_id = %s AND sequence > %s AND sequence < %s ORDER BY sequence LIMIT %s
                    """,  # noqa: S608 - the columns are ours
                    self._wallet_id,
                    self._sequence,
                    until,
                    FILL_ROWS,
                )
        except Problem:
            if until == 2**63 - 1:
                raise
            return []
        if found:
            self._sequence = int(found[-1]["sequence"])
        return found


def _event(entry: dict[str, Any]) -> bytes:
    """An entry as an event; for an empty one, a comment that keeps the connection."""
    if not entry:
        return b": waiting for the tables\n\n"
    text = json.dumps(entry, ensure_ascii=False)  # JSON has no line break in it
    return f"event: entry\nid: {entry['source']}\ndata: {text}\n\n".encode()
