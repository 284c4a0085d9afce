"""Sending transactions: every one is confirmed by Kafka, or told to have failed."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaError, Message, Producer

from wallet_client.records import Transaction

#: What must be so, whatever the caller's own settings: nothing lost, nothing twice, Java's partitioner.
FIXED: Mapping[str, Any] = {"acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random"}
DEFAULTS: Mapping[str, Any] = {
    "linger.ms": 20,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 50_000,
}
#: Failures after which `send` gives up instead of adding to them.
MOST_FAILURES = 1_000
POLL_S = 0.1


class InvalidTransaction(ValueError):  # noqa: N818 - the name is the message
    """A transaction that the ledger would reject; nothing was sent."""


class Undelivered(Exception):  # noqa: N818 - the name is the message
    """Transactions that Kafka did not confirm, and why. It is safe to send them again under their ids."""

    def __init__(self, failures: list[tuple[Transaction, str]]) -> None:
        first, reason = failures[0]
        super().__init__(
            f"{len(failures)} transactions were not delivered, first {first.transaction_id}: {reason}"
        )
        self.failures = failures


class TransactionProducer:
    """Sends transactions to the ledger's input topic; those of one wallet stay in their order. For one thread.

    `settings` are librdkafka's (`bootstrap.servers`, security, ...). `schema_id` is the Transaction's in the registry;
    without a registry it is 1. Leaving a `with` block waits for all, and raises Undelivered if one has failed.
    """

    def __init__(
        self, settings: Mapping[str, Any], topic: str, *, schema_id: int = 1, max_record_bytes: int = 262_144
    ) -> None:
        self._topic, self._max_record_bytes = topic, max_record_bytes
        self._frame = b"\0" + schema_id.to_bytes(4)
        self._failures: list[tuple[Transaction, str]] = []
        self._producer = Producer({**DEFAULTS, **settings, **FIXED})
        #: Transactions that Kafka has confirmed.
        self.confirmed = 0

    def send(self, transaction: Transaction) -> None:
        """Queue one transaction; waits while the buffer is full. Raises InvalidTransaction, and sends nothing."""
        if broken := transaction.broken_rule():
            raise InvalidTransaction(f"transaction {transaction.transaction_id!r}: {broken}")
        key, value = transaction.wallet_id.encode(), self._frame + transaction.encode()
        if len(key) + len(value) > self._max_record_bytes:
            raise InvalidTransaction(
                f"transaction {transaction.transaction_id!r} has {len(key) + len(value)} bytes with its key, at most "
                f"{self._max_record_bytes} are taken"
            )
        if len(self._failures) >= MOST_FAILURES:
            self._raise_failures()

        def told(error: KafkaError | None, _: Message) -> None:
            if error is None:
                self.confirmed += 1
            else:
                self._failures.append((transaction, error.str()))

        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=told)
            except BufferError:
                self._producer.poll(POLL_S)
            else:
                break
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until every transaction is confirmed or has failed; raises Undelivered if one has."""
        while self._producer.flush(POLL_S):
            pass
        if self._failures:
            self._raise_failures()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush; an exception that is on its way already is not replaced by Undelivered."""
        try:
            self.flush()
        except Undelivered:
            if kind is None:
                raise

    def _raise_failures(self) -> None:
        failures, self._failures = self._failures, []
        raise Undelivered(failures)
