"""The producer for Python against a real Kafka."""

import json
import random
import socket
from pathlib import Path

import pytest

from config.settings import Settings
from operations.sending.lines import to_json
from operations.sending.send import send_file
from schemas.codec import Decoded, TransactionCodec
from schemas.partitioner import partition_of
from schemas.producer import InvalidTransaction, TransactionProducer, Undelivered
from schemas.records import Transaction
from tests.integration.pipelines import initialise_topics
from tests.reading import read_all
from tests.unit.transactions import UUID
from topics.cluster import quiet_admin
from topics.names import Topics
from topics.topic_settings import alter

pytestmark = pytest.mark.integration

SENT = [
    Transaction(UUID, f"wallet {n % 97} ä", n % 2, n + 1, "EUR", 1_790_000_000_000_000) for n in range(500)
]


def test_what_is_sent_is_confirmed_and_lies_in_its_wallets_partition_in_order(
    kafka_only_settings: Settings,
) -> None:
    settings = kafka_only_settings
    initialise_topics(settings)
    with TransactionProducer(settings) as producer:
        for transaction in SENT:
            producer.send(transaction)
    assert producer.confirmed == len(SENT)

    codec = TransactionCodec(1, lambda *_: None)
    found: dict[str, list[Transaction]] = {}
    for message in read_all(settings, Topics.of(settings).transactions, settings.partitions):
        decoded = codec.decode(message.value())
        assert isinstance(decoded, Decoded)
        key = decoded.transaction.wallet_id.encode()
        assert (message.key(), message.partition()) == (key, partition_of(key, settings.partitions))
        found.setdefault(decoded.transaction.wallet_id, []).append(decoded.transaction)
    assert sum(map(len, found.values())) == len(SENT)
    for wallet, transactions in found.items():
        assert transactions == [transaction for transaction in SENT if transaction.wallet_id == wallet]


def test_what_kafka_does_not_confirm_is_raised_with_its_reference(
    plain_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schemas.producer.DELIVERY_TIMEOUT_S", 1.0)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        settings = plain_settings.model_copy(update={"kafka": f"127.0.0.1:{nobody.getsockname()[1]}"})
        producer = TransactionProducer(settings)
        producer.send(SENT[0], "line 1")
        with pytest.raises(Undelivered, match="1 transactions were not delivered, first line 1: ") as error:
            producer.flush()
    assert [failure.transaction for failure in error.value.failures] == SENT[:1]
    assert producer.confirmed == 0
    producer.flush()  # what was raised is not raised again


def test_lines_that_kafka_does_not_confirm_are_told_and_the_first_that_is_not_sent_any_more(
    kafka_only_settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every line is told once, up to the one at which it gave up, and none counts as sent."""
    initialise_topics(kafka_only_settings)
    alter(
        quiet_admin(kafka_only_settings),
        Topics.of(kafka_only_settings).transactions,
        {"max.message.bytes": "1000"},
    )
    large = to_json(SENT[0]) | {"metadata": {"random": random.Random(1).randbytes(5_000).hex()}}
    (tmp_path / "large.jsonl").write_text(f"{json.dumps(large)}\n" * 100)
    monkeypatch.setattr("schemas.producer.FAILURES", 3)
    monkeypatch.setattr("schemas.producer.BUFFERED", 5)
    sent = send_file(tmp_path / "large.jsonl", None, kafka_only_settings)
    told = {int(line.split()[1][:-1]): line for line in capsys.readouterr().err.splitlines()[:-1]}
    assert [*sorted(told)] == [*range(1, len(told) + 1)]
    assert 3 < len(told) < 100
    assert (sent.good, sent.bad) == (0, len(told))
    unsent = told.pop(len(told))
    assert unsent.endswith("not sent, nor is any line after it: Kafka does not confirm those before it")
    assert all("not delivered: Broker: Message size too large" in line for line in told.values())


def test_a_transaction_larger_than_the_pipeline_takes_is_not_sent(plain_settings: Settings) -> None:
    producer = TransactionProducer(plain_settings)
    large = SENT[0]._replace(metadata=(("k", "v" * plain_settings.max_record_bytes),))
    with pytest.raises(InvalidTransaction, match="bytes with its key, at most 262144 are taken"):
        producer.send(large)
    producer.flush()
    assert producer.confirmed == 0
