"""Whether a month is complete: no more entries of it can come, and every one that came is in PostgreSQL.

For most partitions the ledger shows it: recorded_at never decreases within one, so no entry of the month follows the
first entry of a later month. A quiet partition needs more: nothing that the workers have not decided yet, and nothing
that upstream may still send, may become an entry of the month.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import NamedTuple, cast

from config.settings import Settings
from sinks import positions
from sinks.archive.entries import source_offset
from sinks.archive.seals import Month, to_ms
from sinks.names import ARCHIVE, LEDGER
from sinks.positions import Position
from sinks.postgres import Connection
from sinks.sink import Record, damaged
from topics import group_offsets
from topics.cluster import ASK_S, describe, quiet_admin
from topics.history import CREATE_TIME
from topics.lag import First, OpenInput
from topics.names import Topics
from topics.topic_log import TopicLog


class Completeness(NamedTuple):
    """Where a month begins and ends in the ledger, by partition, and the reasons why it is not complete, if any."""

    begins: Mapping[int, int]
    ends: Mapping[int, int]
    reasons: Sequence[str]


def look(
    settings: Settings,
    connection: Connection,
    ledger: TopicLog,
    open_input: OpenInput,
    month: Month,
    begins: Mapping[int, int],
) -> Completeness:
    """Ask Kafka and PostgreSQL about a month; `begins` is one past the newest sealed entry, by partition.

    The order of the questions is the correctness: 1. what workers have decided, 2. how far the ledger goes,
    3. what of it is in PostgreSQL. What was decided in 1. is in the ledger of 2., committed or open.
    """
    partitions = range(settings.partitions)
    # 1.
    to_come = _to_come(settings, connection, ledger, open_input, month)
    found_begins, ends = dict[int, int](), dict[int, int]()
    reasons = list[str]()
    quiet = dict[int, str]()
    for partition in partitions:
        # 2.
        log = ledger.log(partition)
        begin = found_begins[partition] = max(begins.get(partition, 0), log.begin)
        later = ledger.first_at(partition, to_ms(month.ends), begin, log.stable)
        if later is not None:
            ends[partition] = later.offset() or 0
            continue
        ends[partition] = log.stable
        if log.stable < log.end:
            quiet[partition] = f"a transaction is open at offset {log.stable}"
        elif partition in to_come:
            quiet[partition] = to_come[partition]
    # 3.
    written = positions.read(connection, LEDGER, ledger.topic)
    for partition in partitions:
        if reason := _not_written(ledger, partition, written.get(partition), ends[partition]):
            reasons.append(f"{ledger.topic} partition {partition}: {reason}")
        elif partition in quiet:
            reasons.append(f"{ledger.topic} partition {partition} has no later record: {quiet[partition]}")
    return Completeness(found_begins, ends, reasons)


def _not_written(ledger: TopicLog, partition: int, at: Position | None, end: int) -> str | None:
    """Why not everything before `end` is in PostgreSQL, according to the ledger sink's position."""
    if at is None:
        return "the ledger sink has never read it: run `wallet sink ledger`"
    if at.next_offset >= end or ledger.first_from(partition, at.next_offset, end) is None:
        return None
    return f"the ledger sink is at offset {at.next_offset}, the month ends at offset {end}"


def _to_come(
    settings: Settings, connection: Connection, ledger: TopicLog, open_input: OpenInput, month: Month
) -> dict[int, str]:
    """Partitions in which entries of the month may still come, unless the ledger shows otherwise, and why."""
    partitions = range(settings.partitions)
    waits_s = settings.archive_grace_s - (datetime.now(UTC) - month.ends).total_seconds()
    if waits_s > 0:
        return dict.fromkeys(
            partitions, f"the month ended less than WALLET_ARCHIVE_GRACE_S ago, {waits_s:.0f} s are left"
        )
    topic = Topics.of(settings).transactions
    told = describe(quiet_admin(settings), [topic])
    if topic not in told or not told[topic].on_brokers_time:
        kind = CREATE_TIME if topic in told else "not found"
        return dict.fromkeys(
            partitions,
            f"the input {topic} is open for history ({kind}): run `wallet init --open` when all is sent",
        )
    found = dict[int, str]()
    with (
        closing(TopicLog(settings, topic, settings.sink_group(ARCHIVE))) as ends,
        closing(open_input(settings, topic)) as incoming,
    ):
        # Not as long as a worker's transaction may be open: a stopping sink waits for this look.
        decided = group_offsets.offsets(settings, topic, partitions, patience_s=ASK_S)
        for partition in partitions:
            log = ends.log(partition)
            at = decided[partition]
            if at is None:
                there_are = log.begin < log.stable
                at = _decided_by_outcomes(connection, ledger, partition) if there_are else log.begin
            undecided = incoming.first(partition, max(log.begin, at), log.stable)
            if log.stable < log.end and undecided is None:
                found[partition] = f"an upstream transaction is open at offset {log.stable} of {topic}"
            elif undecided is not None and not _appended_after(undecided, month):
                found[partition] = (
                    f"offset {undecided.offset} of {topic} is undecided, the workers are at offset {at}"
                )
    return found


def _appended_after(undecided: First, month: Month) -> bool:
    """Whether this record and all that follow it have the broker's time, and are of a later month.

    A record of imported history says nothing about the next one: if it is rejected, the next may be older.
    """
    return undecided.by_broker and undecided.timestamp_ms >= to_ms(month.ends)


def _decided_by_outcomes(connection: Connection, ledger: TopicLog, partition: int) -> int:
    """One past the newest input that has an outcome, where the group's offset is gone (after a week of idleness).

    A partition is decided in its order, so everything before it is decided; recovery does the same (DESIGN section 5).
    """
    log = ledger.log(partition)
    entry = ledger.last_before(partition, log.begin, log.stable)
    row = connection.execute(
        "SELECT max(source_offset) FROM rejections WHERE source_partition = %s", [partition]
    ).fetchone()
    rejected = row[0] if row and row[0] is not None else -1
    try:
        posted = source_offset(entry.value() or b"") if entry else -1
    except (ValueError, IndexError) as error:
        raise damaged(cast("Record", entry), error) from error
    return max(rejected, posted) + 1
