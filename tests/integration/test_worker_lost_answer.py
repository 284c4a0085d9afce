"""Answers that are lost, and what librdkafka makes of it.

Records that its producer would drop after an abort are posted; a request to commit that it has sent twice ends one
transaction only.
"""

import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from config.errors import Stopped
from config.settings import Settings
from local.broker import Broker
from local.state import free_port
from streams.batch import Derived
from streams.endings import Fenced
from streams.transaction import PartitionProducer
from tests.conftest import CACHE
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import initialise_topics, small
from tests.integration.writers import sent, written_by
from tests.secured import spawned

pytestmark = [pytest.mark.integration, pytest.mark.full]

#: The keys of requests, which stand after their size.
PRODUCE, END_TXN = b"\0\0", b"\0\x1a"
#: Where an answer to EndTxn has its error: after the request's number and the throttle time.
ERROR = slice(8, 10)
QUIET_S = 1.0


class Gate:
    """Hands everything on to the broker; told to, it loses the answers to a connection's Produce requests.

    Then it cuts that connection, and every other one that sends records again, until it is opened. Or it holds a
    request to end a transaction, cuts its connection, and has it arrive late.
    """

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.losing, self.lost, self.shut = threading.Event(), threading.Event(), threading.Event()
        self.holding = threading.Event()
        self._held = queue.Queue[bytes]()
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, name="gate", daemon=True).start()

    def open(self) -> None:
        """Let everything through again."""
        self.losing.clear()
        self.shut.clear()

    def arrive_late(self) -> int:
        """Hand the request that is held on to the broker; returns the error that it answers with."""
        with (
            socket.create_connection(("127.0.0.1", self._behind), timeout=30) as broker,
            broker.makefile("rb") as answers,
        ):
            broker.sendall(self._held.get(timeout=30))
            answer = answers.read(int.from_bytes(answers.read(4)))
        return int.from_bytes(answer[ERROR])

    def close(self) -> None:
        """End every connection."""
        for end in (self._listener, *self._ends):
            with suppress(OSError):  # it has ended by itself
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            broker = socket.create_connection(("127.0.0.1", self._behind), timeout=5)
            broker.settimeout(None)
            self._ends += [client, broker]
            deaf = threading.Event()
            for work in (self._to_broker, self._to_client):
                threading.Thread(target=work, args=(client, broker, deaf), daemon=True).start()

    def _to_broker(self, client: socket.socket, broker: socket.socket, deaf: threading.Event) -> None:
        with _both_ended(client, broker), client.makefile("rb") as requests:
            while size := requests.read(4):
                request = requests.read(int.from_bytes(size))
                if request.startswith(PRODUCE) and self.shut.is_set():
                    return
                if request.startswith(PRODUCE) and self.losing.is_set():
                    deaf.set()
                if request.startswith(END_TXN) and self.holding.is_set():
                    self.holding.clear()
                    self._held.put(size + request)
                    return
                broker.sendall(size + request)

    def _to_client(self, client: socket.socket, broker: socket.socket, deaf: threading.Event) -> None:
        with _both_ended(client, broker):
            while piece := broker.recv(65_536):
                if deaf.is_set():
                    broker.settimeout(QUIET_S)  # until all that was sent is written
                    with suppress(TimeoutError):
                        while broker.recv(65_536):
                            pass
                    self.shut.set()
                    self.lost.set()
                    return
                client.sendall(piece)


@contextmanager
def _both_ended(client: socket.socket, broker: socket.socket) -> Iterator[None]:
    """When one direction of a connection ends, so does the other."""
    with suppress(OSError):
        yield
    for end in (client, broker):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, kw_only=True)
class GatedBroker(Broker):
    """A broker that tells its clients the gate's port."""

    gate: int

    def _own_settings(self) -> list[str]:
        listens = f"advertised.listeners=PLAINTEXT://{self.address}"
        told = f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.gate}"
        return [told if line == listens else line for line in super()._own_settings()]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    port = free_port(without=[])
    gate = Gate(port)
    broker = GatedBroker(
        tmp_path / "kafka", CACHE.expanduser(), port, free_port(without=[port]), gate=gate.port
    )
    with closing(gate), spawned(broker):
        yield gate


def test_a_batch_whose_answers_were_lost_before_its_abort_is_posted_whole_again(
    gate: Gate, plain_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(plain_settings.model_copy(update={"kafka": f"127.0.0.1:{gate.port}"}))
    initialise_topics(settings)
    end_failed = PartitionProducer._end_failed

    def fail(_: PartitionProducer, __: list[TopicPartition]) -> None:
        assert gate.lost.wait(30)
        abortable = KafkaError(KafkaError.INVALID_TXN_STATE, "for this test", False, False, True)
        raise KafkaException(abortable)

    def end_and_open(producer: PartitionProducer, error: KafkaError) -> None:
        monkeypatch.undo()
        try:
            end_failed(producer, error)
        finally:
            gate.open()

    with written_by(settings) as writer:
        batch = sent(settings, 300)
        writer.post(batch[:100])
        monkeypatch.setattr(PartitionProducer, "_send_offsets", fail)
        monkeypatch.setattr(PartitionProducer, "_end_failed", end_and_open)
        gate.losing.set()
        # Fenced where the request to roll back was sent twice: then the partition is opened again.
        with suppress(Fenced):
            writer.post(batch[100:200])
            writer.post(batch[200:])
    with written_by(settings) as successor:
        successor.post(batch)
    assert_exact(settings)


def test_a_request_to_commit_that_was_sent_again_by_itself_ends_no_other_transaction(
    gate: Gate, plain_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first copy arrives when half of the next batch is written, and then the worker dies."""
    settings = small(plain_settings.model_copy(update={"kafka": f"127.0.0.1:{gate.port}"}))
    initialise_topics(settings)
    produce = PartitionProducer._produce
    answers: list[int] = []

    def half_a_batch(producer: PartitionProducer, topic: str, records: list[Derived]) -> None:
        produce(producer, topic, records)
        assert producer._producer.flush(30) == 0
        answers.append(gate.arrive_late())
        raise Stopped("dies here")

    with written_by(settings) as writer:
        batch = sent(settings, 300)
        writer.post(batch[:100])
        gate.holding.set()
        writer.post(batch[100:200])
        assert not gate.holding.is_set(), "nothing was held"
        monkeypatch.setattr(PartitionProducer, "_produce", half_a_batch)
        with pytest.raises(Stopped, match="dies here"):
            writer.post(batch[200:])
        monkeypatch.undo()
    assert answers == [KafkaError.INVALID_PRODUCER_EPOCH]
    with written_by(settings) as successor:
        assert successor.next_offset == 200
        successor.post(batch)
    assert_exact(settings)
