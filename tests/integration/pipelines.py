"""What the worker's tests share: a pipeline under test, with its topics, its input and its workers.

Every wait is bounded by PATIENCE_S and fails with the workers' last lines; nothing is measured.
"""

import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec

from config.errors import NotReachable
from config.pipeline import Pipeline
from config.settings import Settings
from operations.sending.generator import Mix, ProducerRecord, records
from operations.setup import init
from operations.setup.init import claim, create
from schemas.codec import encode_transaction, frame
from schemas.partitioner import partition_of
from schemas.records import CREDIT, Transaction
from schemas.versions import FIXED_IDS
from tests.integration.workers import PATIENCE_S, WALLET, Worker, wait_until
from topics import group_offsets
from topics.clients import librdkafka, standalone
from topics.cluster import quiet_admin, specs
from topics.names import Topics

__all__ = [
    "PATIENCE_S",
    "Rig",
    "Upstream",
    "Worker",
    "as_record",
    "initialise_topics",
    "open_transaction",
    "small",
    "transaction",
    "wait_until",
    "wallets_of",
]

#: A look at the group's offsets that takes longer is asked anew, and then as patiently as the offsets need.
LOOK_S = 5.0

#: Records that a flow sends at once, between two pauses.
FLOW_RECORDS = 50

#: Small limits, so that short tests meet all of them.
SMALL: dict[str, object] = {
    "max_record_bytes": 2_048,
    "overdraft": "reject",
    "snapshot_every": 7,
    "batch_records": 500,
    "retry_wait_s": 1.0,
    "startup_wait_s": 30.0,
}


def make_topics(settings: Settings) -> None:
    """The pipeline's topics, known to the broker, and nothing in them."""
    client, wanted = quiet_admin(settings), specs(settings)
    init.create(client, wanted, -1)


def delete_topic(settings: Settings, topic: str) -> None:
    """Delete a topic and return when the broker has heard of it, which is a moment after it was confirmed."""
    client = quiet_admin(settings)
    client.delete_topics([topic], operation_timeout=30)[topic].result(30)
    wait_until(lambda: topic not in client.list_topics(timeout=30).topics, f"{topic} is gone")


def initialise_topics(settings: Settings, *, create_time: bool = False) -> Pipeline:
    """The topics and the pipeline record, without tables; `create_time`: the input keeps producers' times."""
    wanted = specs(settings)
    if create_time:
        wanted[0] = replace(wanted[0], config=wanted[0].config | {"message.timestamp.type": "CreateTime"})
    create(quiet_admin(settings), wanted, settings.replication)
    return claim(settings, Pipeline.of(settings, FIXED_IDS.transaction))[0]


def transaction(number: int, wallet_id: str, amount: int = 100, **changes: Any) -> Transaction:
    """A credit under an id of its own."""
    one = Transaction(f"00000000-0000-4000-8000-{number:012d}", wallet_id, CREDIT, amount, "EUR", 10**15)
    return one._replace(**changes)


def as_record(one: Transaction, partitions: int = 4) -> ProducerRecord:
    """A transaction as upstream sends it."""
    key = one.wallet_id.encode()
    value = frame(FIXED_IDS.transaction) + encode_transaction(one)
    return ProducerRecord(key, value, [], partition_of(key, partitions), one)


@contextmanager
def open_transaction(settings: Settings, topic: str, *records: ProducerRecord) -> Iterator[None]:
    """Records in a Kafka transaction that is open inside the block and aborted after it."""
    producer = Producer(librdkafka(settings, transactional_id=f"{settings.prefix}-upstream"))
    producer.init_transactions(PATIENCE_S)
    producer.begin_transaction()
    for record in records:
        producer.produce(topic, record.value, record.key, record.partition)
    assert producer.flush(PATIENCE_S) == 0
    try:
        yield
    finally:
        producer.abort_transaction(PATIENCE_S)


def wallets_of(partition: int, partitions: int = 4) -> Iterator[str]:
    """Endless names of wallets that live in this partition."""
    number = 0
    while True:
        if partition_of(f"wallet-{number}".encode(), partitions) == partition:
            yield f"wallet-{number}"
        number += 1


class Upstream:
    """Sends records to the input topic and remembers where the last of each partition stands."""

    def __init__(self, settings: Settings, compression: str = "none", linger_ms: int = 2) -> None:
        self._topic = Topics.of(settings).transactions
        self._producer = Producer(
            librdkafka(settings, enable_idempotence=True, compression_type=compression, linger_ms=linger_ms)
        )
        #: One past the last confirmed record of each partition.
        self.next_offsets: dict[int, int] = {}
        self.sent = 0

    def send(self, batch: Iterable[ProducerRecord], timestamps_ms: Iterator[int] | None = None) -> None:
        """Send these records and wait until all are confirmed."""
        for record in batch:
            at = next(timestamps_ms) if timestamps_ms else 0
            self._producer.produce(
                self._topic,
                record.value,
                record.key,
                record.partition,
                on_delivery=self._confirmed,
                timestamp=at,
                headers=record.headers,  # type: ignore[arg-type] # values may be None
            )
            self._producer.poll(0)
        assert self._producer.flush(PATIENCE_S) == 0, "Kafka did not confirm the input"

    def _confirmed(self, error: KafkaError | None, message: Message) -> None:
        assert error is None, f"upstream could not send: {error}"
        at, offset = message.partition() or 0, message.offset() or 0
        self.next_offsets[at] = max(self.next_offsets.get(at, 0), offset + 1)
        self.sent += 1


class Rig:
    """One pipeline under test: its settings, its upstream, and the workers that the test starts."""

    def __init__(self, settings: Settings, folder: Path, *, create_time: bool = False) -> None:
        self.settings = settings
        self.pipeline = initialise_topics(settings, create_time=create_time)
        self.upstream = Upstream(settings)
        self.workers: list[Worker] = []
        self._folder = folder
        self._sending = threading.Lock()
        self._admin = quiet_admin(settings)
        self._looking: dict[str, Consumer] = {}
        self._stream = records(
            10**9,
            Mix(
                wallets=200,
                duplicates=0.03,
                bad=0.05,
                seed=20_261_122,
                partitions=settings.partitions,
                max_record_bytes=settings.max_record_bytes,
                overdraft_rejected=settings.overdraft == "reject",
            ),
        )

    # -- input

    def send(self, count: int, timestamps_ms: Iterator[int] | None = None) -> None:
        """Send so many further records of the mixed stream, confirmed; a flow may do so at the same time."""
        with self._sending:
            self.upstream.send(islice(self._stream, count), timestamps_ms)

    @contextmanager
    def flowing(self, rate: int = 1_500) -> Iterator[None]:
        """Mixed input arrives meanwhile, about so many records a second."""
        stop, failures = threading.Event(), list[BaseException]()

        def flow() -> None:
            try:
                while not stop.wait(FLOW_RECORDS / rate):
                    self.send(FLOW_RECORDS)
            except BaseException as failure:  # noqa: BLE001 - raised again in the test's thread
                failures.append(failure)

        thread = threading.Thread(target=flow, name="upstream")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if failures:
            raise failures[0]

    # -- workers

    def start(self, *words: str, by: Sequence[str] = WALLET, **changes: object) -> Worker:
        """Start a worker, or another command, with settings of its own if any are given."""
        settings = self.settings.model_copy(update=changes)
        worker = Worker(settings, self._folder / f"process-{len(self.workers)}.log", *words, by=by)
        self.workers.append(worker)
        return worker

    def check_workers(self) -> None:
        """Fail if a worker has ended by itself."""
        for worker in self.workers:
            worker.check_runs()

    def kill_in_mid_batch(self, worker: Worker) -> None:
        """SIGKILL a worker while one of its transactions is open, which is made sure of before."""
        self.freeze_in_mid_batch(worker)
        worker.kill()

    def freeze_in_mid_batch(self, worker: Worker) -> None:
        """SIGSTOP a worker while one of its transactions has written something and is open."""

        def frozen() -> bool:
            if not self.open_transactions():
                return False
            worker.signal(signal.SIGSTOP)
            if self.open_transactions():
                return True
            worker.signal(signal.SIGCONT)
            return False

        wait_until(frozen, "the worker is in mid-batch", self.check_workers)

    # -- what Kafka says

    def open_transactions(self) -> set[int]:
        """Partitions of the ledger in which a transaction has written and has not ended."""
        topic = Topics.of(self.settings).ledger
        stable, all_there = (
            self._ends(topic, level)
            for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
        )
        return {at for at, end in all_there.items() if stable[at] < end}

    def _ends(self, topic: str, level: IsolationLevel) -> dict[int, int]:
        asked = {TopicPartition(topic, at): OffsetSpec.latest() for at in range(self.settings.partitions)}
        answers = self._admin.list_offsets(asked, isolation_level=level, request_timeout=10)
        return {at.partition: answer.result(10).offset for at, answer in answers.items()}

    def committed(self, *, stable: bool = True) -> dict[int, int]:
        """The group's offset of each partition that has one."""
        topic, partitions = Topics.of(self.settings).transactions, range(self.settings.partitions)
        level = "read_committed" if stable else "read_uncommitted"
        if level not in self._looking:
            # One for all looks of a test: to make a client costs more than what it is asked.
            group = self.settings.group
            self._looking[level] = standalone(self.settings, group, log_level=0, isolation_level=level)
        try:
            there = self._looking[level].committed([TopicPartition(topic, at) for at in partitions], LOOK_S)
            if not any(one.error for one in there):
                return {one.partition: one.offset for one in there if one.offset >= 0}
        except KafkaException:
            pass  # what it is, and whether to wait, is told below
        found = group_offsets.offsets(self.settings, topic, partitions, wait=stable)
        return {at: offset for at, offset in found.items() if offset is not None}

    def set_committed(self, offsets: dict[int, int]) -> None:
        """Move the group's offsets, as an operator may while no worker runs."""
        topic = Topics.of(self.settings).transactions
        moved = ConsumerGroupTopicPartitions(
            self.settings.group, [TopicPartition(topic, at, offset) for at, offset in offsets.items()]
        )
        for answer in self._admin.alter_consumer_group_offsets([moved]).values():
            answer.result(PATIENCE_S)

    def forget_committed(self) -> None:
        """Delete the group with its offsets, as Kafka does by itself after a week of idleness."""
        for answer in self._admin.delete_consumer_groups([self.settings.group]).values():
            answer.result(PATIENCE_S)

    def members(self) -> list[set[int]]:
        """The source partitions of each member of the group; none while its coordinator moves."""
        answers = self._admin.describe_consumer_groups([self.settings.group], request_timeout=10)
        try:
            found = answers[self.settings.group].result(15)
        except KafkaException as failure:
            if failure.args[0].code() in {KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE}:
                return []
            raise
        wanted = Topics.of(self.settings).transactions
        return [
            {at.partition for at in member.assignment.topic_partitions if at.topic == wanted}
            for member in found.members
        ]

    def is_rebalancing(self) -> bool:
        """Whether the group waits for members that must join again."""
        answers = self._admin.describe_consumer_groups([self.settings.group], request_timeout=10)
        state = answers[self.settings.group].result(15).state
        return bool(state == ConsumerGroupState.PREPARING_REBALANCING)

    # -- waits

    def wait_until_shared_by(self, count: int) -> None:
        """Return when so many members have all partitions between them, each at least one."""

        def shared() -> bool:
            members = self.members()
            everything = sorted(at for held in members for at in held)
            return len(members) == count and all(members) and everything == [*range(self.settings.partitions)]

        wait_until(shared, f"{count} workers share the partitions", self.check_workers)

    def decided(self) -> int:
        """How many records are decided and committed now; told at once, whatever is open."""
        return sum(self.committed(stable=False).values())

    def wait_until_decided(self, count: int) -> None:
        """Return when so many records are decided and committed."""
        wait_until(lambda: self.decided() >= count, f"{count} records are decided", self.check_workers)

    def wait_until_further(self, count: int) -> None:
        """Return when so many records more than now are; where more than that are still to come."""
        self.wait_until_decided(self.decided() + count)

    def wait_until_posted(self) -> None:
        """Return when everything that upstream has sent is decided and committed."""
        wanted = dict(self.upstream.next_offsets)

        def posted() -> bool:
            try:
                committed = self.committed()
            except NotReachable:
                return False  # the broker is away or its coordinator not ready: look again
            return all(committed.get(at, 0) >= offset for at, offset in wanted.items())

        try:
            wait_until(posted, f"all input is posted: {wanted}", self.check_workers)
        except AssertionError as failure:
            logs = "\n\n".join(f"{worker.log.name}:\n{worker.told()}" for worker in self.workers)
            raise AssertionError(
                f"{failure}; the group stands at {self.committed(stable=False)}\n{logs}"
            ) from None

    # -- life

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.runs:
                worker.signal(signal.SIGCONT)
                worker.kill()
        for consumer in self._looking.values():
            consumer.close()


def small(settings: Settings, **changes: object) -> Settings:
    """Settings with small limits, all in all or one by one."""
    return settings.model_copy(update=SMALL | changes)
