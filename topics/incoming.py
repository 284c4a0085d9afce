"""Read the input as the worker does, for other programs: the same records, with the same memory limit.

librdkafka inflates any batch as a whole, returns no headers if there are too many, and cuts names at U+0000. So audits,
and the search for the oldest unhandled record, also read the input with aiokafka, and in a loop of their own
(`Incoming.next`): everything else is read to its end by `topics.consuming`.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from threading import Event
from typing import Any, NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from config.errors import NotReachable
from config.settings import Settings
from config.stopping import NEVER, go_on
from topics import security, tail
from topics.fetching import consumer_options
from topics.inflation import Bounds
from topics.lag import First
from topics.source import Source

T = TypeVar("T")

FETCH_WAIT_S = 0.1
#: Records read at a time when looking for one of them.
LOOKED_FOR = 1_000
#: Seconds to look for the oldest records; those not found by then are unknown.
OLDEST_S = 5.0
#: aiokafka may wait for ever for a broker that went away.
CLOSE_S = 5.0
#: Fetched of a partition where one record of it is wanted; a broker always sends a whole batch.
LOOK_BYTES = 65_536


class Fetched(NamedTuple):
    """Records of one partition in log order, and the offset up to which it was read."""

    records: list[Source]
    position: int


class Incoming:
    """Reads some partitions of one topic, read-committed, without a group. Blocking; for one thread.

    Raises NotReachable if Kafka does not answer, or does not have the records, Stopped once `stop` is set.
    """

    @classmethod
    def for_lag(cls, settings: Settings, topic: str) -> "Incoming":
        """One for `topics.lag`, which looks at one record of each partition: a fetch brings a batch, hardly more."""
        return cls(settings, topic, fetch_bytes=LOOK_BYTES)

    def __init__(
        self,
        settings: Settings,
        topic: str,
        most_record_bytes: int | None = None,
        fetch_bytes: int | None = None,
        stop: Event = NEVER,
    ) -> None:
        self.topic, self._stop = topic, stop
        self._fetch_bytes = fetch_bytes
        self._settings = settings
        self._bounds = Bounds(settings.batch_bytes, most_record_bytes or settings.max_record_bytes)
        self._runner = asyncio.Runner()
        self._consumer: AIOKafkaConsumer | None = None
        self._partition, self._end = -1, 0

    def assign(self, starts: Mapping[int, int]) -> None:
        """Read only these partitions, each from its offset."""
        self._run(self._assign(starts))

    def fetch(self, partitions: Iterable[int], most: int, wait_s: float = FETCH_WAIT_S) -> dict[int, Fetched]:
        """Available records of these partitions, at most `most`, and how far each was read."""
        return self._run(self._fetch([TopicPartition(self.topic, one) for one in partitions], most, wait_s))

    def start(self, partition: int, begin: int, end: int) -> None:
        """Start reading a partition's committed records from `begin` to `end` (excluded) with `next`."""
        self._partition, self._end = partition, end
        if begin < end:
            self.assign({partition: begin})
        else:
            self._partition = -1

    def next(self, count: int) -> list[Source]:
        """The next records, up to `count` or about `WALLET_BATCH_BYTES`; empty only at the end.

        Waits for an open transaction before the end, as long as anything arrives within `WALLET_STALL_S`.
        """
        heard_at, at = time.monotonic(), self._partition
        while at >= 0:
            go_on(self._stop)
            (fetched,) = self.fetch([at], count).values()
            records = fetched.records
            while records and records[-1].offset >= self._end:
                records.pop()
            if fetched.position >= self._end:
                self._partition = at = -1
            if records:
                return records
            if at >= 0 and time.monotonic() - heard_at > self._settings.read_stall_s:
                raise self._away(
                    f"nothing came for {self._settings.read_stall_s:g} s: Kafka is away, or a transaction is "
                    "open"
                )
        return []

    def stretches(
        self, partition: int, begin: int, end: int, count: int = LOOKED_FOR
    ) -> Iterator[list[Source]]:
        """A partition's committed records from `begin` to `end` (excluded), a stretch at a time."""
        self.start(partition, begin, end)
        while records := self.next(count):
            yield records

    def first(self, partition: int, begin: int, end: int) -> First | None:
        """The first record from `begin` to `end` (excluded), or None."""
        for (record,) in self.stretches(partition, begin, end, 1):
            return First(record.offset, record.timestamp_ms, self._bounds.appended)
        return None

    def first_at(self, partition: int, at_ms: int, begin: int, end: int) -> int | None:
        """The offset of the first record at or after a time, from `begin` to `end` (excluded), or None.

        Kafka's answer is only the start of the search: it also finds transaction marks (see `topics.topic_log`).
        """
        # Records may have times before 1970, but Kafka cannot look these up.
        hint = 0 if at_ms < 0 else self._run(self._hint(TopicPartition(self.topic, partition), at_ms))
        for records in self.stretches(partition, max(begin, hint), end) if hint is not None else ():
            for record in records:
                if record.timestamp_ms >= at_ms:
                    return record.offset
        return None

    def newest(self, partition: int, begin: int, end: int) -> First | None:
        """The last record from `begin` to `end` (excluded), searched backwards, or None."""
        last = tail.newest(
            begin, end, lambda start: self.stretches(partition, start, end), lambda one: one.offset
        )
        return None if last is None else self.first(partition, last, end)

    def oldest_ms(self, positions: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, int | None]:
        """The time of the first record at or after each position; None if there is none before the end.

        Partitions without an answer in time are missing.
        """
        found: dict[int, int | None] = {}
        deadline = time.monotonic() + OLDEST_S
        self.assign(positions)
        while (left := positions.keys() - found) and time.monotonic() < deadline:
            for at, fetched in self.fetch(left, 1).items():
                if fetched.records:
                    found[at] = fetched.records[0].timestamp_ms
                elif fetched.position >= ends[at]:
                    found[at] = None
        self.assign({})
        return found

    def close(self) -> None:
        """Close the connections, in bounded time."""
        if self._consumer is not None:
            with suppress(KafkaError, NotReachable):
                if not self._run(_stopped(self._consumer)):
                    return  # to close the loop would wait for the same; what is left ends with the process
        self._runner.close()

    def _run(self, asking: Coroutine[Any, Any, T]) -> T:
        try:
            # Not `Runner.run`: it sets a handler of SIGINT aside each time, and Python 3.11 makes a text of all that
            # was read when it asks for the handler that there was.
            return self._runner.get_loop().run_until_complete(asking)
        except KafkaError as error:
            raise self._away(str(error) or type(error).__name__) from None

    async def _assign(self, starts: Mapping[int, int]) -> None:
        if self._consumer is None:
            self._consumer = await self._connected()
        if not starts:
            self._consumer.unsubscribe()
            return
        places = {TopicPartition(self.topic, partition): offset for partition, offset in starts.items()}
        self._consumer.assign([*places])
        for place, offset in places.items():
            self._consumer.seek(place, offset)

    async def _hint(self, place: TopicPartition, at_ms: int) -> int | None:
        if self._consumer is None:
            self._consumer = await self._connected()
        found = (await self._consumer.offsets_for_times({place: at_ms}))[place]
        return None if found is None else int(found.offset)

    async def _connected(self) -> AIOKafkaConsumer:
        settings = self._settings
        consumer = AIOKafkaConsumer(
            client_id=settings.prefix,
            bootstrap_servers=settings.kafka.split(","),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=50,
            **consumer_options(self._bounds, self._fetch_bytes),
            **_login(settings),
        )
        try:
            await consumer.start()
        except KafkaError:
            await consumer.stop()
            raise
        return consumer

    async def _fetch(self, places: list[TopicPartition], most: int, wait_s: float) -> dict[int, Fetched]:
        consumer = self._consumer
        if consumer is None or not places:
            return {}
        self._bounds.left = self._bounds.batch_bytes
        found = await consumer.getmany(*places, timeout_ms=int(wait_s * 1000), max_records=most)
        return {
            place.partition: Fetched(found.get(place, []), await consumer.position(place)) for place in places
        }

    def _away(self, reason: str) -> NotReachable:
        return NotReachable(f"{self.topic} could not be read: {reason}")


def _login(settings: Settings) -> dict[str, Any]:
    """TLS and SASL as aiokafka takes them; the same settings as librdkafka's."""
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return {}
    how: dict[str, Any] = {"security_protocol": protocol, "ssl_context": security.tls(settings)}
    if protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        how |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": password.get_secret_value() if password is not None else None,
        }
    return how


async def _stopped(consumer: AIOKafkaConsumer) -> bool:
    """Whether it could be stopped in time."""
    done, _ = await asyncio.wait([asyncio.ensure_future(consumer.stop())], timeout=CLOSE_S)
    for one in done:
        one.result()
    return bool(done)
