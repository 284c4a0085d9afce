"""What no worker wrote is refused in one line when a partition is opened, and never taken over or gone on from."""

import shutil
from collections.abc import Sequence

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from config.errors import Refused
from config.settings import Settings
from schemas.codec import frame
from schemas.native.balances import encode_balance
from schemas.records import Balance
from schemas.versions import FIXED_IDS
from streams import writer as writer_module
from streams.standby import Standbys
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import (
    Upstream,
    as_record,
    initialise_topics,
    small,
    transaction,
    wait_until,
    wallets_of,
)
from tests.integration.writers import PARTITION, parts_of, store_of, stored, written_by
from tests.reading import read_all
from topics.clients import librdkafka
from topics.cluster import quiet_admin
from topics.names import Topics
from topics.rejections import APPENDED
from topics.topic_settings import alter

pytestmark = pytest.mark.integration

WALLET, OTHER = (name for name, _ in zip(wallets_of(PARTITION), range(2), strict=False))
FRAME = frame(FIXED_IDS.balance)


@pytest.fixture
def settings_here(kafka_only_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    # Each refusal here is looked at as often as ever; nothing that a pause could mend is under way.
    monkeypatch.setattr(writer_module, "TORN_PAUSE_S", 0.0)
    settings = small(kafka_only_settings)
    initialise_topics(settings)
    return settings


def put(
    settings: Settings,
    topic: str,
    key: str,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]] = (),
) -> None:
    """Write past the worker, as somebody does who should not."""
    producer = Producer(librdkafka(settings))
    producer.produce(topic, value, key, PARTITION, headers=[*headers])
    assert producer.flush(30) == 0


def posted(settings: Settings, *wallets: str) -> dict[bytes, Balance]:
    """A credit of 100 for each of these, one after the other; returns the balances."""
    Upstream(settings).send(as_record(transaction(number, name)) for number, name in enumerate(wallets))
    with written_by(settings) as writer:
        writer.post(stored(settings))
        return store_of(writer).balances({name.encode() for name in wallets})


def refused(settings: Settings) -> str:
    """Why the partition is not opened."""
    with pytest.raises(Refused) as reason, written_by(settings):
        pass
    assert "\n" not in str(reason.value)
    return str(reason.value)


def test_a_balance_that_is_not_its_wallets_newest_entrys_is_refused_until_it_is_there_again(
    settings_here: Settings,
) -> None:
    topic = Topics.of(settings_here).balances
    right = posted(settings_here, WALLET, OTHER, WALLET, WALLET)[WALLET.encode()]
    assert (right.sequence, right.balance) == (3, 300)
    for wrong, told in (
        (None, "a null"),
        (right._replace(balance=200), "sequence 3 of source offset 3"),
        (right._replace(balance=200, sequence=2, source_offset=2), "sequence 2 of source offset 2"),
        (right._replace(balance=400, sequence=4, source_offset=4), "sequence 4 of source offset 4"),
        (right._replace(sequence=4, source_offset=0), "sequence 4 of source offset 0"),
        (right._replace(wallet_id=OTHER), "sequence 3 of source offset 3"),
        (b"", "a record that is no balance"),
    ):
        body = encode_balance(wrong) if isinstance(wrong, Balance) else wrong
        put(settings_here, topic, WALLET, None if body is None else FRAME + (body or b"?"))
        for store in ("kept", "kept", "lost"):
            if store == "lost":
                shutil.rmtree(settings_here.state_dir)
            reason = refused(settings_here)
            assert f"for wallet {WALLET!r} `ledger` has sequence 3 of source offset 3" in reason
            assert f"`balances` has {told}" in reason
        put(settings_here, topic, WALLET, FRAME + encode_balance(right))
        with written_by(settings_here) as writer:
            assert store_of(writer).balance(WALLET.encode()) == right


@pytest.mark.full
def test_a_wallet_whose_balance_was_compacted_away_after_a_null_does_not_begin_again(
    settings_here: Settings,
) -> None:
    topics, client = Topics.of(settings_here), quiet_admin(settings_here)
    right = posted(settings_here, WALLET, OTHER, WALLET, WALLET)
    put(settings_here, topics.balances, WALLET, None)
    quick = {"segment.ms": "50", "min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": "0"}
    alter(client, topics.balances, quick)

    def gone() -> bool:
        # A segment that is written to is not compacted: others' records begin new ones.
        put(settings_here, topics.balances, OTHER, FRAME + encode_balance(right[OTHER.encode()]))
        keys = {message.key() for message in read_all(settings_here, topics.balances, 4)}
        return WALLET.encode() not in keys

    wait_until(gone, "the wallet's balance is compacted away", lambda: None)
    shutil.rmtree(settings_here.state_dir)
    reason = refused(settings_here)
    assert f"for wallet {WALLET!r} `ledger` has sequence 3" in reason
    assert "`balances` has nothing" in reason


def test_a_standby_that_has_seen_a_null_is_not_taken_over(settings_here: Settings) -> None:
    topics = Topics.of(settings_here)
    right = posted(settings_here, WALLET, OTHER, WALLET, WALLET)
    shutil.rmtree(settings_here.state_dir)
    with parts_of(settings_here) as parts:
        standbys = Standbys(parts)
        standbys.follow({PARTITION})
        followed = standbys._stores[PARTITION]
        wait_until(lambda: followed.cursor.balances > 0 < followed.cursor.ledger, "it follows", lambda: None)
        before = followed.cursor.balances
        put(settings_here, topics.balances, WALLET, None)
        wait_until(lambda: followed.cursor.balances > before, "it has seen the null", lambda: None)
        standbys.stop()
    assert "`balances` has a null" in refused(settings_here)
    put(settings_here, topics.balances, WALLET, FRAME + encode_balance(right[WALLET.encode()]))
    with written_by(settings_here) as writer:
        assert store_of(writer).balances({WALLET.encode(), OTHER.encode()}) == right


def test_without_the_older_part_of_its_ledger_a_store_takes_balances_as_they_are_told(
    settings_here: Settings,
) -> None:
    """Finite retention of the ledger is allowed: a store that begins anew, and one that was away meanwhile."""
    topics, client = Topics.of(settings_here), quiet_admin(settings_here)
    third = next(name for name in wallets_of(PARTITION) if name not in {WALLET, OTHER})
    posted(settings_here, WALLET)
    shutil.copytree(settings_here.state_dir, settings_here.state_dir.with_name("copy"))
    Upstream(settings_here).send(
        as_record(transaction(10 + number, name)) for number, name in enumerate((WALLET, OTHER, third))
    )
    with written_by(settings_here) as writer:
        writer.post(stored(settings_here))
        right = store_of(writer).balances({WALLET.encode(), OTHER.encode(), third.encode()})
    ledger = [one for one in read_all(settings_here, topics.ledger, 4) if one.partition() == PARTITION]
    cut = ledger[-1].offset() or 0
    for answer in client.delete_records([TopicPartition(topics.ledger, PARTITION, cut)]).values():
        answer.result(30)
    for kept in (None, settings_here.state_dir.with_name("copy")):
        shutil.rmtree(settings_here.state_dir)
        if kept is not None:
            shutil.copytree(kept, settings_here.state_dir)
        for _ in range(2):
            with written_by(settings_here) as writer:
                assert store_of(writer).balances(set(right)) == right
    wrong = right[third.encode()]._replace(sequence=2)
    put(settings_here, topics.balances, third, FRAME + encode_balance(wrong))
    assert f"for wallet {third!r}" in refused(settings_here)


def rejected(offset: bytes) -> tuple[tuple[str, bytes], ...]:
    """The headers of a rejection."""
    values = (b"INVALID", b"a sign", b"input", b"%d" % PARTITION, offset, b"0")
    return tuple(zip(APPENDED, values, strict=True))


@pytest.mark.parametrize(
    ("topic", "value", "headers", "told"),
    [
        ("ledger", None, (), "the record at 2 of {topic}[1] is damaged, or written by another program"),
        (
            "ledger",
            frame(2) + b"\x48?",
            (),
            "the record at 2 of {topic}[1] is damaged, or written by another program",
        ),
        ("balances", FRAME + b"?", (), "`balances` has a record that is no balance"),
        ("rejections", b"", rejected(b"x"), "rejection.offset is no number"),
        ("rejections", b"", (("rejection.offset", b"0"),), "the last headers are not a rejection's"),
        ("rejections", b"", rejected(b"70"), "the next offset is 71, but"),
    ],
)
def test_a_record_of_a_topic_of_ours_that_is_damaged_is_named_in_one_line(
    topic: str,
    value: bytes | None,
    headers: tuple[tuple[str, bytes], ...],
    told: str,
    settings_here: Settings,
) -> None:
    name = f"{settings_here.prefix}.{topic}"
    posted(settings_here, WALLET)
    put(settings_here, name, WALLET, value, headers)
    for _ in range(2):
        assert told.format(topic=name) in refused(settings_here)


def test_a_record_of_another_program_among_the_rejections_is_passed_over_and_told(
    settings_here: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    topic = Topics.of(settings_here).rejections
    Upstream(settings_here).send(iter([as_record(transaction(0, WALLET, amount=0))]))
    with written_by(settings_here) as writer:
        writer.post(stored(settings_here))
        assert writer.next_offset == 1
    for number in range(20):
        put(settings_here, topic, WALLET, b"%d" % number, (("trace", b"1"),))
    with caplog.at_level("WARNING"), written_by(settings_here) as writer:
        assert writer.next_offset == 1
    (told,) = (record for record in caplog.records if record.message == "no_rejection")
    assert topic in str(vars(told))


def test_a_snapshot_that_is_none_is_passed_over(settings_here: Settings) -> None:
    posted(settings_here, WALLET)
    put(settings_here, Topics.of(settings_here).snapshots, WALLET, b"?")
    with written_by(settings_here) as writer:
        assert writer.next_offset == 1


def test_an_offset_of_the_group_beyond_the_inputs_end_is_refused(settings_here: Settings) -> None:
    posted(settings_here, WALLET)
    consumer = Consumer(librdkafka(settings_here, group_id=settings_here.group))
    at = TopicPartition(Topics.of(settings_here).transactions, PARTITION, 7)
    consumer.commit(offsets=[at], asynchronous=False)
    assert "the next offset is 7, but" in refused(settings_here)
    at.offset = 1
    consumer.commit(offsets=[at], asynchronous=False)
    consumer.close()
    with written_by(settings_here) as writer:
        assert writer.next_offset == 1
    assert_exact(settings_here)
