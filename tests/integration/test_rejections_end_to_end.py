"""Real bytes through real Kafka: what is rejected is found unchanged, what was rolled back nowhere."""

import pytest
from confluent_kafka import Producer

from operations.sending.generator import ProducerRecord
from schemas.codec import encode_transaction, frame
from schemas.records import DEBIT, Reason, Transaction
from tests.integration.exactness import Published, assert_exact, found, source_of
from tests.integration.pipelines import Rig, Upstream, as_record, transaction, wallets_of
from tests.unit.transactions import block, encoded_until_metadata
from topics.clients import librdkafka
from topics.names import Topics

pytestmark = pytest.mark.integration

HERE, ALSO_HERE = (name for name, _ in zip(wallets_of(1), range(2), strict=False))
RICH, ELSEWHERE = next(wallets_of(3)), next(wallets_of(2))
GOOD = transaction(1, HERE, 100, metadata=(("a", "1"), ("b", "2")))
FRAME = frame(1)
TRACE: list[tuple[str, bytes | None]] = [("trace", b"\x00\xff"), ("trace", b"again"), ("none", None)]


def with_value(value: bytes | None, one: Transaction = GOOD) -> ProducerRecord:
    return as_record(one)._replace(value=value, headers=TRACE)


def ours(rejection: Published) -> dict[str, str]:
    return {
        name.removeprefix("rejection."): (value or b"").decode() for name, value in rejection.headers[-6:]
    }


BODY = encode_transaction(GOOD)
HEAD = encoded_until_metadata(GOOD)
#: Illegal in one way each; the strict decoder's own tests have many more.
ILLEGAL = {
    "no value": None,
    "an empty value": b"",
    "json": b'{"wallet_id": "a"}',
    "another magic byte": b"\1" + (FRAME + BODY)[1:],
    "an id that is no Transaction's": frame(2) + BODY,
    "cut off": FRAME + BODY[:-1],
    "bytes left over": FRAME + BODY + b"\0",
    "an enum index out of range": FRAME + BODY.replace(b"\0\xc8\x01\x06EUR", b"\4\xc8\x01\x06EUR"),
    "a string that is not UTF-8": FRAME + BODY.replace(HERE.encode(), b"\xff" * len(HERE)),
    "a number beyond 64 bits": FRAME + b"\xff" * 10 + BODY,
    "a block whose size is wrong": FRAME + HEAD + b"\3\2" + block([*GOOD.metadata])[1:] + b"\0",
}


def test_each_reason_is_found_with_the_bytes_that_were_sent(rig: Rig) -> None:
    full = transaction(2, RICH, 2**63 - 1)
    cases: list[tuple[ProducerRecord, str]] = [
        (as_record(GOOD), "posted"),
        (as_record(full), "posted"),
        *((with_value(value), "UNDECODABLE") for value in ILLEGAL.values()),
        (with_value(FRAME + encode_transaction(GOOD._replace(amount=0))), "INVALID"),
        (with_value(FRAME + encode_transaction(GOOD._replace(currency="\0\0\0"))), "INVALID"),
        (with_value(FRAME + BODY)._replace(key=None), "MISROUTED"),
        (with_value(FRAME + BODY)._replace(key=b"\xff\0"), "MISROUTED"),
        (as_record(transaction(3, ELSEWHERE))._replace(partition=1), "MISROUTED"),
        (with_value(FRAME + BODY), "DUPLICATE"),
        (with_value(FRAME + encode_transaction(GOOD._replace(metadata=GOOD.metadata[::-1]))), "DUPLICATE"),
        (as_record(GOOD._replace(amount=101)), "CONFLICT"),
        (as_record(transaction(4, HERE, currency="USD")), "CURRENCY_MISMATCH"),
        (as_record(transaction(5, RICH, 1)), "OVERFLOW"),
        (as_record(transaction(6, HERE, 101, type=DEBIT)), "INSUFFICIENT_FUNDS"),
        (with_value(bytes(2_048)), "TOO_LARGE"),
        (as_record(transaction(7, HERE))._replace(headers=[("much", bytes(2_048))]), "TOO_LARGE"),
        (as_record(transaction(8, HERE, 100, type=DEBIT)), "posted"),
    ]
    assert {reason for _, reason in cases} == {"posted", *Reason}
    rig.upstream.send(record for record, _ in cases)
    rig.start()
    rig.wait_until_posted()

    sent: dict[tuple[int, int], tuple[ProducerRecord, str]] = {}
    for record, outcome in cases:
        offset = sum(1 for at, _ in sent if at == record.partition)
        sent[record.partition, offset] = record, outcome
    rejected = {
        (at, source_of(one)): one
        for at, some in found(rig.settings, Topics.of(rig.settings).rejections).items()
        for one in some
    }
    assert set(rejected) == {at for at, (_, outcome) in sent.items() if outcome != "posted"}
    for at, rejection in rejected.items():
        record, reason = sent[at]
        assert ours(rejection)["reason"] == reason
        assert (ours(rejection)["partition"], ours(rejection)["offset"]) == tuple(map(str, at))
        if reason == "TOO_LARGE":
            assert (rejection.key, rejection.value, len(rejection.headers)) == (None, None, 6)
            assert "limit 2048" in ours(rejection)["detail"]
            assert f"value {len(record.value or b'')}" in ours(rejection)["detail"]
        else:
            assert (rejection.key, rejection.value) == (record.key, record.value)
            assert [*rejection.headers[:-6]] == record.headers
    assert_exact(rig.settings)


def test_input_is_read_whatever_it_is_compressed_with(rig: Rig) -> None:
    wallets = wallets_of(0)
    numbers = iter(range(1_000))
    rig.start()
    for compression in ("lz4", "zstd", "snappy", "gzip", "none"):
        upstream = Upstream(rig.settings, compression, linger_ms=200)
        wallet = next(wallets)
        upstream.send(as_record(transaction(next(numbers), wallet)) for _ in range(50))
        rig.upstream.next_offsets |= upstream.next_offsets
    rig.wait_until_posted()
    wanted = assert_exact(rig.settings)
    assert len(wanted.ledger[0]) == 250


def test_an_upstream_transaction_that_was_aborted_appears_nowhere(rig: Rig) -> None:
    worker = rig.start()
    worker.wait_until_told("ready", 4)
    producer = Producer(librdkafka(rig.settings, transactional_id=f"{rig.settings.prefix}-upstream"))
    producer.init_transactions(30)
    input_topic = Topics.of(rig.settings).transactions
    numbers = iter(range(1_000))

    def transact(count: int) -> None:
        producer.begin_transaction()
        for _ in range(count):
            record = as_record(transaction(next(numbers), HERE))
            producer.produce(input_topic, record.value, record.key, record.partition)
        producer.flush(30)

    for _ in range(3):
        transact(10)
        producer.abort_transaction(30)
        transact(5)
        producer.commit_transaction(30)
    rig.upstream.send([as_record(transaction(next(numbers), ALSO_HERE))])
    rig.wait_until_posted()
    wanted = assert_exact(rig.settings)
    assert wanted.records == 16
    assert {at: len(some) for at, some in found(rig.settings, Topics.of(rig.settings).ledger).items()} == {
        1: 16
    }
