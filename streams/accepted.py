"""The schema ids that a partition accepts, as the pipeline topic holds them: see `schemas.accepted`."""

import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import repeat

from config.asking import NotYet, ask_again
from config.errors import NotReachable, Stopped
from config.logs import EventLog
from config.pipeline import Pipeline
from config.settings import Settings
from schemas.accepted import PREFIX, Accepted, AcceptedIds
from schemas.codec import HEADER_BYTES, not_a_transactions
from schemas.registry import Writers
from schemas.versions import schema_text
from streams.endings import Interrupted, Torn
from streams.reader import Isolation, PartitionReader, Progress
from topics.names import Topics
from topics.rejections import appended

log = EventLog("streams.accepted")

LOOK_EVERY_S = 0.5


def read_accepted(
    settings: Settings,
    stopping: threading.Event | None = None,
    look_at_open: Callable[[bytes, bytes], None] = lambda *_: None,
) -> dict[int, list[Accepted]]:
    """The accepted ids of each partition that keeps them in the topic; the newest record of a key counts.

    Waits for a transaction that is open in the topic, since nothing can be read behind it; `look_at_open` gets key and
    value of its first record. Raises Refused for a record that this program cannot have written, Interrupted, and
    Stopped if the transaction stays open.
    """
    topic, stopping = Topics.of(settings).pipeline, stopping or threading.Event()

    def reading(isolation_level: Isolation) -> PartitionReader:
        group = f"{settings.prefix}.pipeline"
        return PartitionReader(
            settings, 0, (topic,), stopping, Progress(), isolation_level=isolation_level, group=group
        )

    with reading("read_uncommitted") as everything:

        def newest() -> dict[bytes, bytes]:
            with reading("read_committed") as reader:
                if (end := reader.end(topic).end) < everything.end(topic).end:
                    raise NotYet(end)
                return _newest(reader, topic)

        def look(open_from: NotYet) -> None:
            # The first record that cannot be read belongs to the open transaction.
            unread = everything.read({topic: open_from.args[0]})
            first = next(message for batch in unread for message in batch)
            look_at_open(first.key() or b"", first.value() or b"")

        pauses, ended = repeat(LOOK_EVERY_S), Interrupted()
        try:
            found = ask_again(
                newest, NotYet, pauses, settings.read_stall_s, stopping, waiting=look, stopped=ended
            )
        except NotYet:
            raise Stopped(
                f"a transaction stays open in {topic}: restart the workers, one of which may have left it open; "
                "if it stays, find its producer with `kafka-transactions.sh find-hanging`"
            ) from None
        return _by_partition(found)


def _by_partition(found: dict[bytes, bytes]) -> dict[int, list[Accepted]]:
    kept: dict[int, list[Accepted]] = {}
    for key, value in found.items():
        one = Accepted.from_record(key, value)
        kept.setdefault(one.partition, []).append(one)
    return kept


def _newest(reader: PartitionReader, topic: str) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for batch in reader.read({topic: reader.end(topic).begin}):
        for message in batch:
            key, value = message.key() or b"", message.value()
            if not key.startswith(PREFIX):
                continue
            found.pop(key, None)
            if value is not None:
                found[key] = value
    return found


def ids_to_audit_with(
    settings: Settings,
    pipeline: Pipeline,
    writers: Writers,
    kept: dict[int, list[Accepted]],
    partition: int,
) -> AcceptedIds:
    """The ids to fold a partition again with: the topic's, or those that its writer would begin with."""
    written = kept.get(partition, [])
    if settings.registry is None or _keeper(written, pipeline):
        return AcceptedIds(partition, written)
    return AcceptedIds(partition, _counted_before(settings, pipeline, writers, partition, threading.Event()))


def _keeper(written: list[Accepted], pipeline: Pipeline) -> Accepted | None:
    """The record that says that a partition keeps its ids in the topic."""
    return next((one for one in written if one.schema_id == pipeline.transaction_schema_id), None)


def own(pipeline: Pipeline, partition: int, complete_to: int) -> Accepted:
    """The record of the pipeline's own schema id, which says that a partition keeps its ids in the topic."""
    return Accepted(
        pipeline.transaction_schema_id, partition, 0, schema_text("transaction", 1), complete_to=complete_to
    )


def ids_to_write_with(
    settings: Settings,
    pipeline: Pipeline,
    writers: Writers,
    partition: int,
    next_offset: int,
    stopping: threading.Event,
    roll_back: Callable[[], None],
) -> AcceptedIds:
    """The ids of a partition for its writer, which is already the only one and continues at `next_offset`.

    Without a registry ids are fixed, and there is nothing to keep. `roll_back` ends what the writer's own transactional
    id has open in the topic. Raises what `read_accepted` raises.
    """
    if settings.registry is None:
        return AcceptedIds(partition)

    def end_ours(key: bytes, value: bytes) -> None:
        """Roll back our own open transaction, which Kafka has ended in other topics: see `streams.leftovers`."""
        if not key.startswith(PREFIX) or (one := Accepted.from_record(key, value)).partition != partition:
            return
        if max(one.from_offset, one.complete_to or 0) < next_offset:
            raise Torn(
                f"partition {partition}: Kafka has ended a transaction in only some of its topics: its entries are "
                f"committed, the record {key.decode()!r} of the pipeline topic is open. `wallet rebuild start` makes "
                "the topics again from the input"
            )
        log.warning("left_open", partition=partition, key=key.decode())
        roll_back()

    written = read_accepted(settings, stopping, end_ours).get(partition, [])
    if keeper := _keeper(written, pipeline):
        return AcceptedIds(partition, written, writers, keeper.complete_to or 0)
    ids = AcceptedIds(partition, written, writers)
    ids.accept(own(pipeline, partition, next_offset))
    if next_offset:
        for one in _counted_before(settings, pipeline, writers, partition, stopping):
            ids.accept(one)
        log.info("ids_kept_from_now_on", partition=partition, offset=next_offset, ids=len(ids.unwritten))
    return ids


def _counted_before(
    settings: Settings, pipeline: Pipeline, writers: Writers, partition: int, stopping: threading.Event
) -> list[Accepted]:
    """The ids that counted in a partition written by a release that kept no ids.

    These are the ids that the subject lists, each from the first record that was not rejected for its id.
    """
    rejected = _last_rejected(settings, partition, stopping)
    try:
        listed = writers.listed(stopping)
    except NotReachable:  # raised only when the wait was ended
        raise Interrupted from None
    return [
        Accepted(schema_id, partition, rejected.get(schema_id, -1) + 1, writer.text)
        for schema_id, writer in listed.items()
        if schema_id != pipeline.transaction_schema_id
    ]


def _last_rejected(settings: Settings, partition: int, stopping: threading.Event) -> dict[int, int]:
    """The last source offset at which each schema id was rejected because it did not count.

    What is no rejection of ours is passed over: an audit has to get as far as telling of it.
    """
    topic = Topics.of(settings).rejections
    last: dict[int, int] = {}
    with PartitionReader(settings, partition, (topic,), stopping, Progress()) as reader:
        for batch in reader.read({topic: reader.end(topic).begin}):
            for message in batch:
                schema_id = int.from_bytes((message.value() or b"")[1:HEADER_BYTES])
                with suppress(ValueError):
                    found = appended(message)
                    # A remark about a header may follow.
                    if found.detail.startswith(not_a_transactions(schema_id).encode()):
                        last[schema_id] = found.offset
    return last
