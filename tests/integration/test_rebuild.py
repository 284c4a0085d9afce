"""`wallet rebuild` against a real Kafka and a real PostgreSQL: built, compared, thrown away, and what is refused."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition, murmur2
from pydantic import SecretStr
from typer.testing import CliRunner

from config.errors import ConfigurationError, Refused, WalletError
from config.settings import LARGEST_RECORD_BYTES, Settings
from operations.rebuild import commands as rebuild_commands
from operations.rebuild import copy as rebuild_copy
from operations.rebuild import diff as rebuild_diff
from operations.rebuild import discard as rebuild_discard
from operations.rebuild import run as rebuild_run
from operations.rebuild.copy import Copy, Moved
from operations.rebuild.input import input_ends, make_topic
from operations.rebuild.place import topic_of
from operations.rebuild.run import begin
from operations.rebuild.status import ends_of, missing
from sinks import shadow
from sinks.postgres import connect
from tests.integration.pipelines import as_record, delete_topic, open_transaction, transaction, wait_until
from tests.integration.rebuilds import live, picture, place
from tests.reading import incoming, read_all
from topics.clients import librdkafka
from topics.cluster import describe, offsets, quiet_admin
from topics.lag import LagReader
from topics.names import Topics
from topics.source import Source
from topics.topic_settings import alter

pytestmark = pytest.mark.integration

COUNT = 1_200


@pytest.mark.full
def test_another_policy_is_explained_and_discarded_without_a_trace(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with live(settings, tmp_path, COUNT) as here:
        before = picture(here)
        rebuild_run.start(place(here, overdraft="reject"), follow=False)
        there = place(here)
        assert there.shadow.overdraft == "reject", "nobody has to repeat the policies"
        found = rebuild_diff.run(there, 3)
        assert found.cut.not_compared == 0
        refused = found.kinds["posted in live, rejected in the shadow: INSUFFICIENT_FUNDS"]
        assert 0 < refused <= found.shadow_reasons["INSUFFICIENT_FUNDS"]
        assert "INSUFFICIENT_FUNDS" not in found.live_reasons
        assert 0 < found.different < found.wallets
        assert len(found.shown) == 3
        assert all(one.causes for one in found.shown)
        capsys.readouterr()
        assert rebuild_diff.show(found, as_json=True) == 8
        told = json.loads(capsys.readouterr().out)
        assert (told["equal"], told["kinds"], len(told["shown"])) == (False, dict(found.kinds), 3)
        folder = there.folder
        rebuild_discard.run(there, execute=False, switched=False)
        assert place(here).record, "a dry run removes nothing"
        rebuild_discard.run(there, execute=True, switched=False)
        assert not describe(there.client, there.own_topics)
        with shadow.connect_shadow(there.shadow) as connection:
            assert shadow.tables(connection) == []
        assert not folder.exists()
        assert picture(here) == before


@pytest.fixture
def unposted(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    with live(settings, tmp_path, COUNT, posted=False) as here:
        yield here


def test_a_shadow_that_is_the_live_pipeline_is_refused(unposted: Settings) -> None:
    def refused(match: str, **changes: object) -> None:
        with pytest.raises(WalletError, match=match):
            place(unposted.model_copy(update=changes))

    refused("choose another", rebuild_prefix=unposted.prefix)
    # The live group of a sink would be the shadow's group of workers.
    refused("would share", rebuild_prefix=f"{unposted.prefix}.sink.ledger")
    refused("own database", rebuild_postgres=unposted.postgres)
    # The same database under another spelling: the servers say so, not the strings.
    other = unposted.postgres.get_secret_value().replace("127.0.0.1", "localhost")
    refused("own database", rebuild_postgres=SecretStr(f"{other}?application_name=x"))
    refused("WALLET_REBUILD_POSTGRES is not set", rebuild_postgres=None)
    refused("set --prefix or WALLET_REBUILD_PREFIX", rebuild_prefix=None)
    refused("no live pipeline", prefix=f"{unposted.prefix}-other")


def test_topics_and_tables_of_others_are_not_taken(unposted: Settings) -> None:
    there = place(unposted)
    with connect(there.shadow) as connection:
        connection.execute("CREATE TABLE somebodys (n int)")
        with pytest.raises(Refused, match=r"not empty \(somebodys\)"):
            begin(there)
        connection.execute("DROP TABLE somebodys")
    begun = begin(there)
    with pytest.raises(ConfigurationError, match="was started with overdraft=allow"):
        place(unposted, overdraft="reject")
    delete_topic(there.shadow, topic_of(there.shadow.prefix))
    make_topic(place(unposted, partitions=4))
    with pytest.raises(Refused, match="exist but are not a shadow"):
        begin(place(unposted))
    with pytest.raises(Refused, match=r"has no shadow .*: make it with"):
        rebuild_discard.run(place(unposted), execute=True, switched=False)
    assert begun.record


def test_an_input_with_a_hole_is_refused_and_where_it_is(unposted: Settings) -> None:
    topic, client = Topics.of(unposted).transactions, quiet_admin(unposted)
    alter(client, topic, {"cleanup.policy": "compact,delete"})
    with pytest.raises(Refused, match=r"cleanup\.policy=compact,delete"):
        rebuild_run.start(place(unposted), follow=False)
    alter(client, topic, {"cleanup.policy": "delete"})
    client.delete_records([TopicPartition(topic, 1, 7)])[TopicPartition(topic, 1, 7)].result(30)
    with pytest.raises(Refused, match=rf"{topic} partition 1 begins at offset 7"):
        rebuild_run.start(place(unposted), follow=False)
    assert not describe(client, place(unposted).own_topics), "nothing was made"


def contents(settings: Settings, topic: str, partitions: int) -> dict[int, list[Source]]:
    """The committed records of each partition, without their offsets."""
    found: dict[int, list[Source]] = defaultdict(list)
    for message in read_all(settings, topic, partitions):
        found[message.partition() or 0].append(incoming(message)._replace(offset=0))
    return found


def belongs(key: bytes | None, partition: int) -> int:
    """Where the copy into four partitions must have put a record of this one of two: misrouted stays misrouted."""
    if not key:
        return partition
    home = murmur2(key, 4)
    return home if murmur2(key, 2) == partition else (home + 1) % 4


def _copy_all(copy: Copy, ends: Mapping[int, int]) -> None:
    while not copy.has_all_before(ends):
        copy.step(last=True)


def test_a_copy_that_dies_anywhere_is_gone_on_with_exactly(
    unposted: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, small in (("BATCH_RECORDS", 100), ("WAITING", 300), ("CONSUMED", 200)):
        monkeypatch.setattr(rebuild_copy, name, small)
    there = begin(place(unposted, partitions=4))
    make_topic(there)
    ends = input_ends(there)
    write, batches = Copy._write, 0  # how many a run writes before it dies

    def dying(self: Copy, batch: Sequence[Moved]) -> None:
        nonlocal batches
        batches -= 1 if batch else 0
        if batches >= 0 or not batch:
            write(self, batch)
            return
        # As SIGKILL leaves it: records of an open transaction are in the topic.
        self._writer._producer.begin_transaction()
        for one in batch[:50]:
            self._writer._produce(self._to, self._outgoing(one))
        self._writer._producer.flush(10)
        raise InterruptedError

    monkeypatch.setattr(Copy, "_write", dying)
    for batches in (0, 3, 5):  # noqa: B007 - read by dying
        with pytest.raises(InterruptedError), Copy(there) as copy:
            _copy_all(copy, ends)
    batches = COUNT
    with Copy(there) as copy:
        _copy_all(copy, ends)
    old = contents(unposted, there.input, 2)
    new = contents(unposted, there.shadow.input or "", 4)
    for partition, found in new.items():
        times = [one.timestamp_ms for one in found]
        assert times == sorted(times)
        wanted = [one for at, some in old.items() for one in some if belongs(one.key, at) == partition]
        assert sorted(map(repr, found)) == sorted(map(repr, wanted))
    begins = offsets(there.client, {there.shadow.input or "": 4})
    assert sum(one.end for one in begins.values()) > COUNT, "aborted records are there, which nobody reads"


def test_what_is_too_large_for_a_copy_is_too_large_in_it_for_every_pipeline(
    unposted: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    there = begin(place(unposted, partitions=4))
    ends = input_ends(there)
    sent = [
        bytes(10_000_000),  # more than any topic here takes at once, were it not of zeros
        os.urandom(500_000),  # too large for both pipelines, and taken by the topic
        b"ends",
    ]
    producer = Producer(librdkafka(unposted, compression_type="gzip", message_max_bytes=100_000_000))
    for value in sent:
        producer.produce(there.input, value, b"key", 1, headers=[("a\0b", b"1")])
        assert producer.flush(30) == 0
    make_topic(there)
    with Copy(there) as copy:
        _copy_all(copy, {1: ends[1] + len(sent)})
    copied = [
        record
        for some in contents(unposted, there.shadow.input or "", 4).values()
        for record in some
        if record.key == b"key" or len(record.value or b"") > LARGEST_RECORD_BYTES
    ]
    assert sorted((one.key, one.value) for one in copied if one.key) == sorted(
        (b"key", value) for value in sent[1:]
    )
    (stand_in,) = (one for one in copied if one.key is None)
    assert stand_in.value == bytes(LARGEST_RECORD_BYTES + 1)
    assert "too_large_to_copy" in caplog.text


def test_a_copy_whose_offsets_were_forgotten_is_refused(unposted: Settings) -> None:
    there = begin(place(unposted, partitions=4))
    make_topic(there)
    with Copy(there) as copy:
        _copy_all(copy, input_ends(there))
    group = there.copying.group
    there.client.delete_consumer_groups([group])[group].result(30)
    with pytest.raises(Refused, match="has lost its offsets"), Copy(there):
        pass


def test_what_is_committed_and_not_marked_yet_is_not_overlooked(unposted: Settings) -> None:
    """Kafka says that a transaction is committed before its marks are written: its records are hidden until then."""
    there = begin(place(unposted, partitions=4))
    make_topic(there)
    topic = there.shadow.input or ""
    records = [as_record(transaction(number, "late")) for number in range(1, 31)]
    with closing(LagReader(unposted)) as lags:
        with open_transaction(unposted, topic, *records):
            ends = ends_of(there, topic)
            assert missing(lags, {}, ends) == {(topic, records[0].partition): 30}
        wait_until(lambda: not missing(lags, {}, ends), "a mark tells that the records do not count")


def test_status_and_discard_as_commands_of_a_shadow_that_was_only_begun(
    unposted: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from operations.cli.context import environment  # noqa: PLC0415 - for this test alone

    for name, value in environment(unposted).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    begin(place(unposted))
    command = CliRunner().invoke(rebuild_commands.app, ["status", "--json"])
    assert command.exit_code == 0, command.exception
    told = json.loads(command.stdout.splitlines()[-1])
    assert (told["live"], told["complete"], told["steps"]) == (unposted.prefix, False, [])
    command = CliRunner().invoke(rebuild_commands.app, ["discard", "--execute", "--json"])
    assert command.exit_code == 0, command.exception
    assert json.loads(command.stdout.splitlines()[-1])["topics"] == [topic_of(f"{unposted.prefix}.shadow")]
