"""What others import, against a real pipeline: sent by the client, posted by a worker, followed by the client."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
import wallet_client
from confluent_kafka import Producer

from config.settings import Settings
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import initialise_topics
from tests.integration.verify_copies import decide
from topics.clients import librdkafka
from topics.names import Topics

pytestmark = pytest.mark.integration

COUNT, WALLETS = 1_000, 37


def transactions() -> list[wallet_client.Transaction]:
    return [
        wallet_client.Transaction(
            transaction_id=str(UUID(int=at + 1)),
            wallet_id=f"k\u00e4se-{at % WALLETS}",
            type="DEBIT" if at % 3 == 2 else "CREDIT",
            amount=at + 1,
            currency="EUR",
            occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
            group_id="g" if at % 5 == 0 else None,
            metadata={"b": str(at), "a": ""} if at % 7 == 0 else {},
        )
        for at in range(COUNT)
    ]


def test_what_the_client_sends_is_posted_and_followed(kafka_only_settings: Settings, tmp_path: Path) -> None:
    settings, names = kafka_only_settings, Topics.of(kafka_only_settings)
    initialise_topics(settings)
    kafka = {"bootstrap.servers": settings.kafka}
    sent = transactions()
    with wallet_client.TransactionProducer(kafka, names.transactions) as producer:
        for one in sent:
            producer.send(one)
        producer.send(sent[0])
    assert producer.confirmed == COUNT + 1
    decide(settings, tmp_path, COUNT + 1)
    assert len(assert_exact(settings).newest) == WALLETS
    entries = [*wallet_client.follow_ledger(kafka, names.ledger, idle_s=8)]
    assert {entry.transaction.transaction_id: entry.transaction for entry in entries} == {
        one.transaction_id: one for one in sent
    }
    newest = {one.wallet_id: one for one in wallet_client.follow_balances(kafka, names.balances, idle_s=8)}
    assert {wallet: one.balance for wallet, one in newest.items()} == {
        entry.transaction.wallet_id: entry.balance for entry in entries
    }
    # Somebody writes an entry once more, with another hash: it follows from nothing.
    last = entries[-1]
    forged = Producer(librdkafka(settings))
    forged.produce(names.ledger, b"\0\0\0\0\2" + last.body + bytes(32), b"x", last.source_partition)
    assert forged.flush(30) == 0
    with pytest.raises(
        wallet_client.BrokenChain, match=f"wallet '{last.transaction.wallet_id}': entry {last.sequence}"
    ):
        for _ in wallet_client.follow_ledger(kafka, names.ledger, idle_s=8):
            pass


def test_what_kafka_does_not_take_is_told() -> None:
    away = {"bootstrap.servers": "127.0.0.1:1", "delivery.timeout.ms": 1_000, "linger.ms": 0, "log_level": 0}
    producer = wallet_client.TransactionProducer(away, "wallet.transactions")
    with pytest.raises(wallet_client.InvalidTransaction, match="amount must be"):
        producer.send(wallet_client.Transaction(**transactions()[0].__dict__ | {"amount": -1}))
    producer.send(transactions()[0])
    with pytest.raises(wallet_client.Undelivered, match="1 transactions were not delivered"):
        producer.flush()
    producer.flush()
