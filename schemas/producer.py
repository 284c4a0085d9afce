"""For producers in Python: send transactions as the contract requires, with confirmed delivery.

    with TransactionProducer(settings) as producer:
        producer.send(transaction(transaction_id=..., wallet_id="alice", type="CREDIT", amount=1_250,
                                  currency="EUR", occurred_at=datetime.now(UTC)))

Leaving the block waits until Kafka has confirmed every transaction, and raises Undelivered if it has not.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Self

from confluent_kafka import KafkaError, Message, Producer

from config.errors import WalletError
from config.settings import Settings
from schemas.codec import encode_transaction, frame
from schemas.records import EPOCH, TYPES, Transaction
from schemas.registry import schema_ids
from schemas.rules import broken_rule
from topics import clients
from topics.names import Topics

#: The most unconfirmed transactions; `send` waits when there are more.
BUFFERED = 50_000
#: Failures after which `send` gives up instead of adding to them.
FAILURES = 1_000
DELIVERY_TIMEOUT_S = 120.0
#: The most that the protocol adds to key and value.
FRAMING_BYTES = 4_096
#: Any partition: the partitioner chooses.
PARTITION_UA = -1
_POLL_S = 0.1


class InvalidTransaction(WalletError, ValueError):  # noqa: N818 - the name is the message
    """A transaction that the worker would reject as INVALID; nothing was sent."""


class Failure(NamedTuple):
    """A transaction that Kafka did not confirm, the caller's name for it, and why."""

    transaction: Transaction
    reference: str
    error: str


class Undelivered(WalletError):  # noqa: N818 - the name is the message
    """Transactions that Kafka did not confirm; it is safe to send them again under their ids."""

    exit_code = 3

    def __init__(self, failures: list[Failure]) -> None:
        first = failures[0]
        named = first.reference or first.transaction.transaction_id
        super().__init__(f"{len(failures)} transactions were not delivered, first {named}: {first.error}")
        self.failures = failures


def transaction(
    *,
    transaction_id: str,
    wallet_id: str,
    type: Literal["CREDIT", "DEBIT"],  # noqa: A002 - the field's name in the schema
    amount: int,
    currency: str,
    occurred_at: datetime,
    group_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Transaction:
    """A Transaction from ordinary Python values; raises InvalidTransaction, saying what is wrong."""
    if type not in TYPES:
        raise InvalidTransaction(f"type {type!r} is neither CREDIT nor DEBIT")
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise InvalidTransaction(f"amount {amount!r} is not a whole number of minor units")
    pairs = tuple((metadata or {}).items())
    texts = [transaction_id, wallet_id, currency, group_id or "", *(text for pair in pairs for text in pair)]
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise InvalidTransaction(f"{wrong[0]!r} is not a string")
    if occurred_at.tzinfo is None:
        raise InvalidTransaction(f"occurred_at {occurred_at} has no time zone: say which, UTC for example")
    occurred_us = (occurred_at - EPOCH) // timedelta(microseconds=1)
    money = (TYPES.index(type), amount, currency)
    return _valid(Transaction(transaction_id, wallet_id, *money, occurred_us, group_id, pairs))


def confirming(
    settings: Settings, most: int, wait_s: float, linger_ms: int, log_level: int = clients.LOG_LEVEL
) -> Producer:
    """A producer to the input: acks=all, idempotent, Java's partitioner.

    `most` unconfirmed records wait at a time, and each is given up after `wait_s`.
    """
    return clients.producer(
        settings,
        acks="all",
        enable_idempotence=True,
        partitioner="murmur2_random",
        compression_type="lz4",
        linger_ms=linger_ms,
        queue_buffering_max_messages=most,
        delivery_timeout_ms=int(wait_s * 1_000),
        message_max_bytes=settings.max_record_bytes + FRAMING_BYTES,
        log_level=log_level,
    )


def queue(
    producer: Producer,
    topic: str,
    value: bytes | None,
    key: bytes | None,
    told: Callable[[KafkaError | None, Message], None],
    partition: int = PARTITION_UA,
    headers: Sequence[tuple[str, bytes | None]] = (),
) -> None:
    """Give a record to the producer; waits while its buffer is full. Calls `told` with its delivery report."""
    while True:
        try:
            producer.produce(topic, value, key, partition, on_delivery=told, headers=[*headers])
        except BufferError:
            producer.poll(_POLL_S)
        else:
            return


class TransactionProducer:
    """Sends transactions to the pipeline's input topic: acks=all, idempotent, Java's partitioner.

    Transactions of one wallet stay in the order in which they were sent. Connects at once; raises what
    `schema_ids` raises. For one thread.
    """

    def __init__(self, settings: Settings) -> None:
        self._topic = Topics.of(settings).transactions
        self._frame = frame(schema_ids(settings).transaction)
        self._max_record_bytes = settings.max_record_bytes
        self._failures: list[Failure] = []
        self._producer = confirming(settings, BUFFERED, DELIVERY_TIMEOUT_S, linger_ms=20)
        #: Transactions that Kafka has confirmed.
        self.confirmed = 0

    def send(self, transaction: Transaction, reference: str = "") -> None:
        """Queue one transaction; waits while the buffer is full. `reference` names it in a Failure.

        Raises InvalidTransaction, and sends nothing, for what the worker would reject as INVALID or
        TOO_LARGE; raises Undelivered when failures pile up.
        """
        key, value = encoded(transaction, self._frame, self._max_record_bytes)
        if len(self._failures) >= FAILURES:
            self._raise_failures()

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is None:
                self.confirmed += 1
            else:
                self._failures.append(Failure(transaction, reference, error.str()))

        queue(self._producer, self._topic, value, key, delivered)
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until every transaction is confirmed or has failed; raises Undelivered if one has.

        It then forgets those failures: the next flush reports only later transactions.
        """
        while self._producer.flush(_POLL_S):
            pass
        if self._failures:
            self._raise_failures()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, raised: BaseException | None, *__: object) -> None:
        """Flush; Undelivered does not replace an exception that is already being raised, but adds to an Undelivered."""
        try:
            self.flush()
        except Undelivered as last:
            if raised is None:
                raise
            if isinstance(raised, Undelivered):
                raised.failures += last.failures

    def _raise_failures(self) -> None:
        failures, self._failures = self._failures, []
        raise Undelivered(failures)


def encoded(transaction: Transaction, header: bytes, most_bytes: int) -> tuple[bytes, bytes]:
    """Key and value of a record; raises InvalidTransaction for what the worker would reject whatever came before."""
    key, value = _valid(transaction).wallet_id.encode(), header + encode_transaction(transaction)
    if (size := len(key) + len(value)) > most_bytes:
        raise InvalidTransaction(
            f"transaction {transaction.transaction_id!r} has {size} bytes with its key, at most {most_bytes} are taken"
        )
    return key, value


def _valid(transaction: Transaction) -> Transaction:
    if broken := broken_rule(transaction):
        raise InvalidTransaction(f"transaction {transaction.transaction_id!r}: {broken}")
    return transaction
