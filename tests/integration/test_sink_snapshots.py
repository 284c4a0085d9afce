"""The snapshot sink on a real Kafka and a real Postgres."""

import pytest

from config.errors import Stopped
from config.settings import Settings
from operations.setup.init import initialise
from schemas.codec import encode_snapshot
from schemas.records import PERIOD, SEAL, from_ms
from sinks import postgres
from tests.ledgers import SNAPSHOT_FRAME, Ledger, drain, publish
from topics.names import Topics

pytestmark = pytest.mark.integration


def test_snapshots_become_rows_once_and_a_difference_stops_the_sink(settings: Settings) -> None:
    initialise(settings)
    topic = Topics.of(settings).snapshots
    ledger = Ledger(2).post_many(100)
    publish(
        settings, topic, [(2, key.encode(), SNAPSHOT_FRAME + body, []) for key, body in ledger.snapshots(5)]
    )
    newest = ledger.written[-1].balance
    for reason in (PERIOD, SEAL):
        publish(settings, topic, [(2, b"", SNAPSHOT_FRAME + encode_snapshot(newest, reason), [])])
    drain(settings, "snapshots")

    every_fifth = [(w.balance, "INTERVAL") for w in ledger.written if w.entry.sequence % 5 == 0]
    expected = [
        (
            b.wallet_id,
            b.currency,
            b.balance,
            b.sequence,
            from_ms(b.recorded_ms),
            b.source_partition,
            b.source_offset,
            b.hash,
            r,
        )
        for b, r in [*every_fifth, (newest, "PERIOD"), (newest, "SEAL")]
    ]
    query = "SELECT * FROM transaction_snapshots ORDER BY source_offset, reason"
    with postgres.connect(settings) as connection:
        assert connection.execute(query).fetchall() == sorted(expected, key=lambda row: row[6])

        versions = "SELECT xmin::text FROM transaction_snapshots ORDER BY source_offset, reason"
        before = connection.execute(versions).fetchall()
        connection.execute("UPDATE sink_positions SET next_offset = 0")
        drain(settings, "snapshots")
        assert connection.execute(versions).fetchall() == before

        connection.execute("ALTER TABLE transaction_snapshots DISABLE TRIGGER append_only")
        connection.execute("UPDATE transaction_snapshots SET balance = 0 WHERE reason = 'SEAL'")
        connection.execute("UPDATE sink_positions SET next_offset = 0")
    with pytest.raises(Stopped, match="differs from its topic in balance"):
        drain(settings, "snapshots")
