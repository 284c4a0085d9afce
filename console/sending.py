"""Send transactions to the input: acks=all, idempotent, with Java's partitioner."""

import asyncio
from collections import deque
from threading import Event, Thread

from confluent_kafka import KafkaError, KafkaException, Message

from config.errors import WalletError
from config.settings import Settings
from console.outcomes import Source
from console.problems import Problem, away
from operations.sending.files import jsonl
from operations.sending.files.shape import BadLine, gathered
from operations.sending.lines import TRANSACTION, to_transaction
from schemas.codec import encode_transaction, frame
from schemas.producer import confirming
from schemas.records import Transaction
from schemas.registry import schema_ids
from topics.names import Topics

#: Seconds after which a record is given up; the client then sends it again under the same id.
DELIVERY_S = 30.0
#: Milliseconds in which records gather for one request to the broker.
LINGER_MS = 5
POLL_S = 0.05
UNKNOWN = "it may have been written: send it again under the same transaction_id, which posts it once"

#: A delivery report, and the request that waits for it.
Told = tuple["asyncio.Future[Source]", KafkaError | None, Message]


class Sender:
    """One producer for all requests of a console."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = Topics.of(settings).transactions
        self._loop = asyncio.get_running_loop()
        self._stop = Event()
        self._frame: bytes | None = None
        self._reports: deque[Told] = deque()
        self._producer = confirming(settings, settings.console_waiting, DELIVERY_S, LINGER_MS, log_level=0)
        self._thread = Thread(target=self._serve, name="console-sender", daemon=True)
        self._thread.start()

    async def send(self, one: Transaction) -> Source:
        """The record's position in the input, once Kafka has confirmed it; raises Problem."""
        if self._frame is None:
            try:
                ids = await asyncio.to_thread(
                    schema_ids, self._settings.model_copy(update={"startup_wait_s": 2.0})
                )
            except WalletError as error:
                raise away(f"nothing was sent: {error}") from None
            self._frame = frame(ids.transaction)
        key, value = one.wallet_id.encode(), self._frame + encode_transaction(one)
        if len(key) + len(value) > self._settings.max_record_bytes:
            raise Problem(
                413,
                f"nothing was sent: the transaction has {len(key) + len(value)} bytes with its key, more than "
                f"the limit of {self._settings.max_record_bytes}",
            )
        confirmed: asyncio.Future[Source] = self._loop.create_future()

        def told(error: KafkaError | None, message: Message) -> None:
            self._reports.append((confirmed, error, message))

        try:
            self._producer.produce(self._topic, value, key, on_delivery=told)
        except BufferError:
            raise away("nothing was sent: too many transactions are waiting for Kafka") from None
        except KafkaException as failure:
            raise away(f"nothing was sent: {failure.args[0].str()}") from None
        try:
            async with asyncio.timeout(DELIVERY_S + 5):
                return await confirmed
        except TimeoutError:
            raise away(f"Kafka does not confirm the transaction: {UNKNOWN}") from None

    async def close(self) -> None:
        """Wait briefly for records on their way."""
        await asyncio.to_thread(self._producer.flush, 5.0)
        self._settle()
        self._stop.set()
        await asyncio.to_thread(self._thread.join, 2.0)

    def _serve(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(POLL_S)
            if self._reports:
                # Once for all of them: each call gives up the interpreter's lock, and a busy loop keeps it for 5 ms.
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        while self._reports:
            confirmed, error, message = self._reports.popleft()
            if confirmed.done():
                continue
            if error is None:
                confirmed.set_result((message.partition() or 0, message.offset() or 0))
            else:
                confirmed.set_exception(
                    away(f"Kafka did not confirm the transaction ({error.str()}): {UNKNOWN}")
                )


def transaction_in(body: bytes) -> Transaction:
    """A transaction as `wallet send` takes it; Problem 400 with what is wrong."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Problem(400, "nothing was sent: the body is not UTF-8") from None
    # JSON has line breaks only between tokens, so spaces can replace them to make one line.
    line = text.translate({10: " ", 13: " "}).strip()
    if not line.startswith("{"):
        raise Problem(400, "nothing was sent: the body is not a JSON object")
    for _, fields in jsonl.rows(iter([line]), TRANSACTION):
        if isinstance(fields, str):
            raise Problem(400, f"nothing was sent: {fields}")
        try:
            return to_transaction(gathered(fields))
        except BadLine as bad:
            raise Problem(400, f"nothing was sent: {bad}") from None
    raise Problem(400, "nothing was sent: the body is empty")
