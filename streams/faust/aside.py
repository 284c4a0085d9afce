"""Records that came while a partition's writer was busy, set aside so that the next ones are fetched already.

aiokafka asks for a partition's next records only once those before were taken. Without this, a writer that was busy
would get the first few records, and the rest one batch later. If much comes, batches are large anyway, and records that
are not unpacked need less memory: then nothing is set aside.
"""

from typing import Any

from aiokafka.errors import KafkaError
from faust.types import TP

from topics.fetching import FetchResult
from topics.inflation import Bounds
from topics.source import Source

#: The most to set aside of a partition, in records and (roughly) in bytes.
MOST_RECORDS, MOST_BYTES = 1_000, 65_536


class Aside:
    """Records by partition, each continuing where the ones taken before ended. Used by the thread that fetches."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._records: dict[TP, list[Source]] = {}
        #: What kept a partition from being read while there was something to return of others.
        self._failure: KafkaError | None = None

    def forget(self, tp: TP) -> None:
        """Forget a partition's records: it is read from elsewhere."""
        self._records.pop(tp, None)

    async def fill(self, fetcher: Any, wanted: frozenset[TP], max_records: int) -> None:
        """Set aside small fetches of all partitions except these."""
        most = min(MOST_RECORDS, max_records)
        for tp, result in list(fetcher._records.items()):
            room = most - len(self._records.get(tp, ()))
            is_little = type(result) is FetchResult and result.came_in_bytes <= MOST_BYTES
            if tp not in wanted and is_little and room > 0:
                self._bounds.left = MOST_BYTES
                for records in (await fetcher.fetched_records(frozenset({tp}), max_records=room)).values():
                    self._records.setdefault(tp, []).extend(records)

    async def take(self, fetcher: Any, partitions: frozenset[TP], max_records: int) -> dict[TP, list[Source]]:
        """What was set aside of these partitions, and what came after it; at most `max_records` in all.

        Raises what keeps a partition from being read, once there is nothing to return.
        """
        room = max_records - sum(len(self._records.get(tp, ())) for tp in partitions)
        fetched: dict[TP, list[Source]] = {}
        self._bounds.left = self._bounds.batch_bytes
        failure, self._failure = self._failure, None
        # One by one: if aiokafka fails at one partition, it loses what it has just taken of others.
        for tp in [] if failure else [tp for tp in fetcher._records if tp in partitions]:
            if room <= 0:
                break
            try:
                taken = await fetcher.fetched_records(frozenset({tp}), max_records=room)
            except KafkaError as refused:
                failure = refused
                break
            for records in taken.values():
                fetched[TP(*tp)] = records
                room -= len(records)
        for tp in partitions & self._records.keys():
            fetched[tp] = [*self._records.pop(tp), *fetched.get(tp, ())]
        if failure is not None and not fetched:
            raise failure
        self._failure = failure
        return fetched
