"""What came while a partition's writer was busy, set aside so that the broker is asked for what follows it.

aiokafka asks for a partition's next records once those before were taken. A writer that has been busy would get what
came at its beginning, and the rest one batch later. Where much comes, batches are large in any case, and what is not
unpacked needs less memory: then nothing is set aside.
"""

from typing import Any

from faust.types import TP

from topics.fetching import FetchResult
from topics.inflation import Bounds
from topics.source import Source

#: As much of a partition is set aside, in records and, about, in bytes.
MOST_RECORDS, MOST_BYTES = 1_000, 65_536


class Aside:
    """Records by partition; each goes on where what was taken before it ended. Used by the thread that fetches."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._records: dict[TP, list[Source]] = {}

    def forget(self, tp: TP) -> None:
        """Forget a partition's records: it is read from elsewhere."""
        self._records.pop(tp, None)

    async def fill(self, fetcher: Any, busy_but: frozenset[TP], max_records: int) -> None:
        """Take what little has come of all partitions but these."""
        most = min(MOST_RECORDS, max_records)
        for tp, result in list(fetcher._records.items()):
            room = most - len(self._records.get(tp, ()))
            is_little = type(result) is FetchResult and result.came_in_bytes <= MOST_BYTES
            if tp not in busy_but and is_little and room > 0:
                self._bounds.left = MOST_BYTES
                for records in (await fetcher.fetched_records(frozenset({tp}), max_records=room)).values():
                    self._records.setdefault(tp, []).extend(records)

    async def take(self, fetcher: Any, partitions: frozenset[TP], max_records: int) -> dict[TP, list[Source]]:
        """What was set aside of these partitions, and what came after it; no more than so many records in all."""
        room = max_records - sum(len(self._records.get(tp, ())) for tp in partitions)
        fetched: dict[TP, list[Source]] = {}
        # Never an empty set, which aiokafka takes for "all partitions".
        if partitions and room > 0:
            self._bounds.left = self._bounds.batch_bytes
            fetched = await fetcher.fetched_records(partitions, max_records=room)
        # Not sooner: where that failed, nothing of what was set aside is gone.
        for tp in partitions & self._records.keys():
            fetched[tp] = [*self._records.pop(tp), *fetched.get(tp, ())]
        return fetched
