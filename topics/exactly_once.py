"""Records, and the offsets that say how far they go, in one Kafka transaction: both are there, or neither.

The order matters: 1. `open` fences every other writer with the same id and ends its open transaction, 2. read the
offsets, 3. write. A run that was fenced in between cannot commit.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from threading import Event

from confluent_kafka import KafkaException, Producer, TopicPartition

from config.asking import ask_again
from config.errors import NotReachable, Stopped, WalletError
from config.logs import EventLog
from config.settings import Settings
from topics.causes import FENCED, because, error_in, fatal_cause
from topics.clients import Value, standalone, transactional

log = EventLog("topics.exactly_once")

#: Seconds for one attempt of a call to Kafka.
TRY_S = 10.0
RETRY_PAUSE_S = 0.1

#: Value, key, partition, time in epoch milliseconds, headers.
Outgoing = tuple[bytes | None, bytes | None, int, int, Sequence[tuple[str, bytes | None]]]


def repeated(
    call: Callable[[], object],
    wait_s: float,
    say: Callable[[str], object],
    stop: Event | None = None,
    stopped: Exception | None = None,
) -> None:
    """Make a call of a transactional producer, again while Kafka says that this helps; `say` gets its reason.

    A time-out leaves the outcome unknown, and the same call made again finds it out. For the rest see `ask_again`.
    Raises KafkaException, or SystemError with one as its cause (`topics.causes.error_in`).
    """
    ask_again(
        call,
        (KafkaException, SystemError),
        RETRY_PAUSE_S,
        wait_s,
        stop,
        unless=lambda failure: not error_in(failure).retriable(),
        waiting=lambda failure: say(error_in(failure).name()),
        stopped=stopped,
    )


def abandon(producer: Producer) -> None:
    """Close a transactional producer without waiting: the next one, or the time-out, ends an open transaction."""
    # A fenced producer raises when it is closed; the C layer raises SystemError.
    with suppress(KafkaException, SystemError):
        producer.purge()
        producer.close()


class ExactlyOnce:
    """The one producer with its transactional id. `taken_over` and `again` are for messages."""

    def __init__(
        self, settings: Settings, name: str, group: str, *, taken_over: str, again: str, **more: Value
    ) -> None:
        self._patience_s = 2 * settings.transaction_timeout_s
        self._taken_over, self._again = taken_over, again
        # We report being fenced ourselves.
        self._producer = transactional(settings, name, log_level=0, **more)
        # Asked once, since the answer stays the same: see `streams.transaction`.
        with closing(standalone(settings, group)) as consumer:
            self._group = consumer.consumer_group_metadata()

    def open(self) -> None:
        """Fence another run and wait until its transaction has ended; raises NotReachable."""
        self._asked(lambda: self._producer.init_transactions(TRY_S), "the end of an earlier run")

    def write(self, topic: str, records: Iterable[Outgoing], offsets: Sequence[TopicPartition]) -> None:
        """Write these records and offsets; returns once both have committed.

        Raises Stopped if another run has taken over, NotReachable if Kafka did not confirm. The outcome may then be
        unknown; the next run finds it out.
        """
        try:
            self._producer.begin_transaction()
            for record in records:
                self._produce(topic, record)
        except KafkaException as failure:
            raise self._error(failure, "the records") from None
        if offsets:
            self._asked(
                lambda: self._producer.send_offsets_to_transaction([*offsets], self._group, TRY_S),
                "the progress",
            )
        self._asked(lambda: self._producer.commit_transaction(TRY_S), "a commit")

    def close(self) -> None:
        """Close without waiting: the next run, or the time-out, ends an open transaction."""
        abandon(self._producer)

    def _produce(self, topic: str, record: Outgoing) -> None:
        value, key, partition, at_ms, headers = record
        while True:
            try:
                self._producer.produce(topic, value, key, partition, None, None, at_ms, [*headers])
            except BufferError:
                # Full until records are sent, or have failed after the transaction's time-out.
                self._producer.poll(0.1)
            else:
                return

    def _asked(self, ask: Callable[[], object], what: str) -> None:
        named = what.replace(" ", "_")
        try:
            repeated(
                ask,
                self._patience_s,
                lambda reason: log.warning(
                    "waiting_for_kafka", what=named, up_to_s=self._patience_s, reason=reason
                ),
            )
        except (KafkaException, SystemError) as failure:
            raise self._error(failure, what) from None

    def _error(self, failure: KafkaException | SystemError, what: str) -> WalletError:
        error = fatal_cause(self._producer, error_in(failure), TRY_S)
        if error.code() in FENCED:
            return Stopped(
                f"{self._taken_over}; or Kafka was away for longer than WALLET_TRANSACTION_TIMEOUT_S: {self._again}"
            )
        return because(error, NotReachable(f"Kafka did not confirm {what}: {error.str()}; {self._again}"))
