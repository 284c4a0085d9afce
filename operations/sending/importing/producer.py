"""Write lines to the input topic, each with its own time, exactly once: batch and progress in one Kafka transaction.

The order matters: 1. `open` fences every other import and ends its open transaction, 2. read the progress, 3. write
batches. A run that was fenced in between cannot commit.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from config.errors import NotReachable, Refused, Stopped, WalletError
from config.logs import EventLog
from config.settings import Settings
from operations.sending.importing.lines import Dated
from schemas.codec import frame
from schemas.producer import FRAMING_BYTES, PARTITION_UA
from topics import group_offsets
from topics.causes import because
from topics.clients import of_group, transactional
from topics.names import Topics

log = EventLog("operations.import")

#: Most lines, and about how many bytes, in one Kafka transaction.
BATCH_LINES = 10_000
BATCH_BYTES = 32 * 1024 * 1024
#: Seconds for one attempt of a call to Kafka.
TRY_S = 10.0
RETRY_PAUSE_S = 0.2
FENCED = frozenset(
    {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED, KafkaError._FATAL}
)


@dataclass(frozen=True)
class Progress:
    """The progress of one import; `done` and `lines` count the lines that are not empty, including bad ones.

    `digest` identifies the files by content; `begun_ms` is when the import began, epoch milliseconds. These alone
    decide which lines are bad, so a resumed import sends what it would have sent.
    """

    digest: str
    lines: int
    begun_ms: int
    done: int = 0

    @property
    def finished(self) -> bool:
        """Whether every line is done."""
        return self.done >= self.lines


def progress_group(settings: Settings) -> str:
    """The group that keeps an import's progress; nobody joins it."""
    return f"{settings.prefix}.import"


def as_offset(settings: Settings, progress: Progress) -> TopicPartition:
    """The progress as an offset to commit with the records."""
    note = {name: value for name, value in asdict(progress).items() if name != "done"}
    return TopicPartition(Topics.of(settings).transactions, 0, progress.done, json.dumps(note))


def read_progress(settings: Settings) -> Progress | None:
    """The newest committed progress; None if nothing was imported (or a week has passed)."""
    name = progress_group(settings)
    at = group_offsets.committed(settings, Topics.of(settings).transactions, [0], name)[0]
    return _progress(name, at) if at.offset >= 0 else None


def _progress(name: str, at: TopicPartition) -> Progress:
    try:
        return Progress(done=at.offset, **json.loads(at.metadata or ""))
    except (ValueError, TypeError):
        raise Refused(
            f"the offset of group {name} was not written by an import: find out what else uses this group"
        ) from None


class ImportProducer:
    """The one producer that may import into a pipeline: `<prefix>-import` is its transactional id."""

    def __init__(self, settings: Settings, schema_id: int) -> None:
        self._settings = settings
        self._topic = Topics.of(settings).transactions
        self._frame = frame(schema_id)
        self._producer = Producer(
            transactional(
                settings,
                f"{settings.prefix}-import",
                partitioner="murmur2_random",
                linger_ms=20,
                queue_buffering_max_messages=4 * BATCH_LINES,
                message_max_bytes=settings.max_record_bytes + FRAMING_BYTES,
            )
            | {"log_level": 0}  # we report being fenced ourselves
        )
        self._offsets_of = of_group(settings, progress_group(settings))

    def open(self) -> None:
        """Fence another import and wait until its transaction has ended; raises NotReachable."""
        self._asked(lambda: self._producer.init_transactions(TRY_S), "opening the import's transactions")

    def write(self, batch: Sequence[Dated], progress: Progress) -> None:
        """Write these records and the new progress; returns once both have committed.

        Raises Stopped if another import has taken over, NotReachable if Kafka did not confirm. The outcome may then be
        unknown; the next run finds it out.
        """
        produce, topic, header = self._producer.produce, self._topic, self._frame
        offsets, metadata = [as_offset(self._settings, progress)], self._offsets_of.consumer_group_metadata()
        try:
            self._producer.begin_transaction()
            for key, body, recorded_ms in batch:
                produce(topic, header + body, key, PARTITION_UA, None, None, recorded_ms)
        except (KafkaException, BufferError) as failure:
            raise self._told(failure, "producing") from None
        self._asked(
            lambda: self._producer.send_offsets_to_transaction(offsets, metadata, TRY_S), "the progress"
        )
        # A time-out leaves the outcome unknown, so repeat the same call until it is known.
        self._asked(lambda: self._producer.commit_transaction(TRY_S), "a commit")

    def close(self) -> None:
        """Close without waiting: the next import, or the time-out, ends an open transaction."""
        self._offsets_of.close()
        # A fenced producer raises on close; from the C layer it is a SystemError.
        with suppress(KafkaException, SystemError):
            self._producer.purge()
            self._producer.close()

    def _asked(self, ask: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 2 * self._settings.transaction_timeout_s
        while True:
            try:
                ask()
            except KafkaException as failure:
                error: KafkaError = failure.args[0]
                if not error.retriable() or time.monotonic() > deadline:
                    raise self._told(failure, what) from None
                log.warning("waiting_for_kafka", what=what.replace(" ", "_"), reason=error.name())
                time.sleep(RETRY_PAUSE_S)
            else:
                return

    def _told(self, failure: Exception, what: str) -> WalletError:
        error = failure.args[0]
        if isinstance(error, KafkaError) and error.code() in FENCED:
            return Stopped(
                f"another `wallet import` of the pipeline {self._settings.prefix!r} has taken over and continues where "
                "this one stopped; or Kafka was away for longer than WALLET_TRANSACTION_TIMEOUT_S: then run the same "
                "import again"
            )
        told = error.str() if isinstance(error, KafkaError) else str(failure)
        away = NotReachable(
            f"{what} failed: {told}; run the same import again to continue where this one stopped"
        )
        return because(error, away) if isinstance(error, KafkaError) else away
