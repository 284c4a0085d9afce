"""Which schema ids count is in the log: whatever becomes of them in the registry, the same records come out the same.

The registry's ids begin at 100, so none of them is what it would be without a registry.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

import streams.writer
from audit.report import Report
from config.errors import Refused, Stopped
from config.pipeline import Pipeline
from config.settings import Settings
from operations.rebuild import diff as rebuild_diff
from operations.rebuild import discard as rebuild_discard
from operations.rebuild import run as rebuild_run
from operations.setup.init import claim, initialise
from schemas.accepted import Accepted
from schemas.codec import encode_transaction, frame, not_a_transactions
from schemas.registry import Writers, register, subjects
from schemas.versions import SchemaIds, schema_text
from sinks.postgres import databases
from streams.accepted import ids_to_audit_with, ids_to_write_with, read_accepted
from streams.endings import Aborted, Interrupted, Torn
from streams.transaction import PartitionProducer
from tests.integration.pipelines import (
    Upstream,
    as_record,
    make_topics,
    small,
    transaction,
    wait_until,
    wallets_of,
)
from tests.integration.rebuilds import place, post
from tests.integration.verify_copies import verified
from tests.integration.writers import set_message_bytes, written_by
from tests.ledgers import publish
from tests.reading import incoming, read_all
from tests.unit.registry_server import RegistryServer, running
from topics.clients import librdkafka, transactional
from topics.cluster import read_pipeline
from topics.names import Topics
from topics.rejections import APPENDED
from topics.source import Source

pytestmark = pytest.mark.integration

FIRST_ID = 100
TEXT = schema_text("transaction", 1)


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    with running(FIRST_ID) as server:
        yield server


class Scene:
    """A pipeline with a registry: records by schema id, and what became of them."""

    def __init__(self, settings: Settings, registry: RegistryServer, folder: Path, *, tables: bool) -> None:
        self.settings = settings
        self.registry = registry
        self.subject = subjects(settings)["transaction"]
        self.ids = initialise(settings).schemas if tables else register(settings)
        if not tables:
            make_topics(settings)
            claim(settings, Pipeline.of(settings, self.ids.transaction))
        self.tables = tables
        self.folder = folder
        self.sent = 0
        self._upstream = Upstream(settings)

    def registers(self, word: str) -> int:
        """A producer's own version, told by a word in it."""
        return self.registry.add(self.subject, TEXT.replace('"doc"', f'"{word}"'))

    def next_id(self) -> int:
        """What the registry will call the schema that comes next."""
        return self.registry.first_id + len(self.registry.schemas)

    def sends(self, schema_id: int, partition: int = 0) -> int:
        """One record of this schema id; returns its offset."""
        self.sent += 1
        one = transaction(self.sent, next(wallets_of(partition, self.settings.partitions)))
        record = as_record(one, self.settings.partitions)
        self._upstream.send([record._replace(value=frame(schema_id) + encode_transaction(one))])
        return self._upstream.next_offsets[partition] - 1

    def works(self) -> None:
        """All is decided: by a worker and the sinks, or where there are no tables by the writers alone."""
        if not self.tables:
            for partition in range(self.settings.partitions):
                with written_by(self.settings, partition) as writer:
                    writer.post(self.records(partition))
            return
        post(self.settings, self.folder, self.sent)

    def records(self, partition: int = 0) -> list[Source]:
        """The input of a partition."""
        reads = read_all(self.settings, self.topics.transactions, 2)
        return [incoming(one) for one in reads if one.partition() == partition]

    def posted(self, partition: int = 0) -> set[int]:
        """Source offsets that became entries."""
        reads = read_all(self.settings, self.topics.rejections, 2)
        rejected = {
            int(dict(incoming(one).headers)["rejection.offset"] or b"")
            for one in reads
            if one.partition() == partition
        }
        everything = read_all(self.settings, self.topics.transactions, 2)
        return {one.offset() or 0 for one in everything if one.partition() == partition} - rejected

    @property
    def topics(self) -> Topics:
        return Topics.of(self.settings)

    def kept(self, partition: int = 0) -> dict[int, int]:
        """From which offset on each id counts in a partition, but for the pipeline's own."""
        found = read_accepted(self.settings).get(partition, [])
        return {one.schema_id: one.from_offset for one in found if one.schema_id != self.ids.transaction}

    def is_clean(self) -> Report:
        report = verified(self.settings, postgres=self.tables)
        assert report.clean, report.differences.shown
        return report


@pytest.fixture
def scene(kafka_only_settings: Settings, registry: RegistryServer, tmp_path: Path) -> Scene:
    """Without tables, and its partitions written by hand."""
    return Scene(changed(kafka_only_settings, registry), registry, tmp_path, tables=False)


@pytest.fixture
def whole_scene(settings: Settings, registry: RegistryServer, tmp_path: Path) -> Scene:
    """With worker, sinks and tables."""
    return Scene(changed(settings, registry), registry, tmp_path, tables=True)


def changed(settings: Settings, registry: RegistryServer) -> Settings:
    return small(settings, registry=registry.url, partitions=2, retry_wait_s=0.2)


def test_an_id_that_was_accepted_counts_whatever_becomes_of_it_in_the_registry(whole_scene: Scene) -> None:
    scene = whole_scene
    assert scene.ids == SchemaIds(100, 101, 102, 103)
    theirs, other = scene.registers("was"), scene.registers("note")
    own, first = scene.sends(scene.ids.transaction), scene.sends(theirs)
    scene.sends(scene.ids.transaction, 1)
    scene.works()
    assert scene.kept() == {theirs: first}
    assert scene.kept(1) == {}
    scene.is_clean()

    # Deleted softly, it counts where it was accepted, and is found where it was not. Gone for good, only the former.
    scene.registry.deleted |= {(scene.subject, theirs), (scene.subject, other)}
    waited = scene.sends(other)
    scene.works()
    assert scene.kept() == {theirs: first, other: waited}
    scene.is_clean()
    scene.registry.subjects[scene.subject] = [scene.ids.transaction]
    again, elsewhere = scene.sends(theirs), scene.sends(theirs, 1)
    scene.works()
    assert scene.posted() == {own, first, waited, again}
    assert elsewhere not in scene.posted(1)
    scene.is_clean()


@pytest.mark.full
def test_a_record_that_was_rejected_for_its_id_stays_rejected_when_the_registry_learns_it(
    scene: Scene,
) -> None:
    later = scene.next_id()
    early = scene.sends(later)
    scene.works()
    assert scene.posted() == set()
    assert scene.registers("was") == later
    scene.is_clean()
    counts = scene.sends(later)
    scene.works()
    assert scene.posted() == {counts} == {early + 1}
    assert scene.kept() == {later: counts}
    scene.is_clean()


def test_what_stands_in_the_topic_is_as_documented_and_the_pipeline_record_is_still_found(
    scene: Scene,
) -> None:
    theirs = scene.registers("was")
    first = scene.sends(theirs)
    scene.works()
    records = {
        one.key(): json.loads(one.value() or b"")
        for one in read_all(scene.settings, scene.topics.pipeline, 1)
    }
    own = scene.ids.transaction
    assert records[b"pipeline"]["transaction_schema_id"] == own
    assert records[b"schema:%d:0" % theirs] == {
        "schema_id": theirs,
        "partition": 0,
        "from_offset": first,
        "schema": TEXT.replace('"doc"', '"was"'),
    }
    assert records[b"schema:%d:0" % own] == {
        "schema_id": own,
        "partition": 0,
        "from_offset": 0,
        "schema": TEXT,
        "complete_to": 0,
    }
    assert len(records) == 3, "one record of a key; nothing of a partition without records"


def test_a_pipeline_of_the_last_release_goes_on_and_keeps_what_counted_before(scene: Scene) -> None:
    later = scene.next_id()
    scene.sends(later)
    scene.works()
    theirs = scene.registers("was")
    assert theirs == later
    early = scene.sends(theirs)
    scene.sends(theirs, 1)
    scene.works()
    # The last release wrote the same, but nothing of this.
    forget(scene.settings, [one for ids in read_accepted(scene.settings).values() for one in ids])
    assert read_accepted(scene.settings) == {}
    scene.is_clean()  # as the next worker will have it
    scene.registry.deleted.add((scene.subject, theirs))
    scene.sends(scene.ids.transaction)
    scene.sends(theirs, 1)
    scene.works()
    assert scene.kept() == {theirs: early}, "one past the record that was rejected for it"
    assert scene.kept(1) == {theirs: 0}
    scene.registry.subjects[scene.subject] = [scene.ids.transaction]
    assert scene.posted() == {early, early + 1}
    scene.is_clean()


def test_what_is_no_rejection_of_ours_keeps_no_audit_from_the_ids_that_counted(scene: Scene) -> None:
    theirs, pipeline = scene.registers("was"), read_pipeline(scene.settings)
    assert pipeline
    detail = not_a_transactions(theirs).encode()
    for offset, headers in (
        (b"5", APPENDED),
        (b"no number", APPENDED),  # damaged
        (b"7", APPENDED[3:]),  # some of the worker's, not all
        (b"8", ()),  # another program's
    ):
        values: tuple[bytes | None, ...] = (b"UNDECODABLE", detail, b"input", b"0", offset, b"0")
        came = [(name, value) for name, value in zip(APPENDED, values, strict=True) if name in headers]
        publish(scene.settings, scene.topics.rejections, [(0, b"key", frame(theirs), came)])
    registry = Writers(scene.settings, threading.Event())
    ids = ids_to_audit_with(scene.settings, pipeline, registry, {}, 0)
    assert [ids(theirs, offset) is not None for offset in (5, 6)] == [False, True]


def test_a_partition_that_is_taken_away_waits_for_no_registry(scene: Scene) -> None:
    """Nor would a worker that is told to stop end with a failure."""
    away = scene.settings.model_copy(update={"registry": "http://127.0.0.1:1"})
    asked, stopping, ended = Writers(away), threading.Event(), list[type[Exception]]()

    def opening() -> None:
        pipeline = read_pipeline(scene.settings)
        assert pipeline
        try:
            ids_to_write_with(away, pipeline, asked, 0, 7, stopping, lambda: None)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is what is asked about
            ended.append(type(failure))

    waiting = threading.Thread(target=opening, daemon=True)
    waiting.start()
    wait_until(lambda: asked.waits_for is not None, "the registry is waited for")
    stopping.set()
    waiting.join(30)
    assert ended == [Interrupted]


def forget(settings: Settings, records: list[Accepted]) -> None:
    """Take these records back, as compaction does for good."""
    producer = Producer(librdkafka(settings, acks="all"))
    for one in records:
        producer.produce(Topics.of(settings).pipeline, None, one.key, 0)
    assert producer.flush(30) == 0


def test_a_record_in_the_topic_that_is_none_of_ours_is_refused(scene: Scene) -> None:
    producer = Producer(librdkafka(scene.settings, acks="all"))
    producer.produce(scene.topics.pipeline, b"{}", b"schema:7:0", 0)
    assert producer.flush(30) == 0
    assert read_pipeline(scene.settings)
    with pytest.raises(Refused, match="'schema:7:0' of the pipeline topic cannot be read"):
        read_accepted(scene.settings)


@pytest.fixture
def shadowed(whole_scene: Scene) -> Iterator[Settings]:
    """The live pipeline's settings, with a prefix and a database for its shadow."""
    scene = whole_scene
    name = f"{scene.settings.prefix.replace('-', '_')}_shadow"
    dsn = databases.create(scene.settings, name).postgres
    yield scene.settings.model_copy(
        update={"rebuild_postgres": dsn, "rebuild_prefix": f"{scene.settings.prefix}.shadow"}
    )
    databases.drop(scene.settings, name)


@pytest.mark.full
def test_a_shadow_decides_as_the_live_pipeline_did(whole_scene: Scene, shadowed: Settings) -> None:
    scene = whole_scene
    later, own = scene.next_id(), scene.ids.transaction
    scene.sends(later)
    scene.sends(own)
    scene.works()
    assert scene.registers("was") == later
    gone = scene.registers("gone")
    scene.sends(gone)
    scene.works()
    scene.registry.subjects[scene.subject].remove(gone)

    rebuild_run.start(place(shadowed), follow=False)
    assert rebuild_diff.run(place(shadowed), 20).equal
    shadow = place(shadowed).shadow
    assert verified(shadow).clean
    assert {one.schema_id: one.complete_to for one in read_accepted(shadow)[0]} == {own: 3, gone: None}
    rebuild_discard.run(place(shadowed), execute=True, switched=False)


@pytest.mark.full
def test_in_a_copy_counts_what_counted_in_any_partition(whole_scene: Scene, shadowed: Settings) -> None:
    scene = whole_scene
    theirs = scene.registers("was")
    for partition in (0, 1, 1):
        scene.sends(theirs, partition)
    scene.works()
    scene.registry.subjects[scene.subject].remove(theirs)
    scene.registry.schemas[theirs - FIRST_ID] = "gone"

    rebuild_run.start(place(shadowed, partitions=3), follow=False)
    assert rebuild_diff.run(place(shadowed), 20).equal
    shadow = place(shadowed).shadow
    assert verified(shadow).clean
    assert {one.from_offset for ids in read_accepted(shadow).values() for one in ids} == {0}
    rebuild_discard.run(place(shadowed), execute=True, switched=False)


def test_an_id_is_written_with_its_batch_or_not_at_all(scene: Scene) -> None:
    theirs = scene.registers("was")
    scene.sends(theirs)
    scene.sends(scene.next_id())  # rejected, for whose sake the batch does not fit
    batch = scene.records()
    set_message_bytes(scene.settings, 100)
    with written_by(scene.settings, 0) as writer, pytest.raises(Stopped, match="rolled back twice in a row"):
        writer.post(batch)
    assert read_accepted(scene.settings) == {}
    set_message_bytes(scene.settings, 2_000_000)

    # So another writer may come to another answer, and what he says is in the log.
    scene.registry.subjects[scene.subject].remove(theirs)
    with written_by(scene.settings, 0) as writer:
        writer.post(batch)
        scene.registry.subjects[scene.subject].append(theirs)
        counts = scene.sends(theirs)
        writer.post([batch[0]._replace(offset=counts)])
    assert scene.kept() == {theirs: counts}


@pytest.mark.parametrize("counts", [True, False], ids=["accepted", "rejected"])
def test_after_a_roll_back_an_id_counts_as_another_writer_has_decided_meanwhile(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: bool
) -> None:
    """To each of the two the registry tells another thing."""
    elsewhere = scene.settings.model_copy(update={"state_dir": tmp_path / "elsewhere"})
    theirs = scene.registers("was")
    listed = scene.registry.subjects[scene.subject]

    def knows(of_it: bool) -> None:
        scene.registry.subjects[scene.subject] = listed if of_it else [scene.ids.transaction]

    def rolled_back(*_: object) -> None:
        monkeypatch.undo()
        knows(counts)
        with written_by(elsewhere, 0) as other:
            other.post(scene.records()[:1])
        knows(not counts)
        raise Aborted("for this test")

    first, second = scene.sends(theirs), scene.sends(theirs)
    knows(not counts)
    monkeypatch.setattr(PartitionProducer, "write", rolled_back)
    with written_by(scene.settings, 0) as writer:
        writer.post(scene.records())
        assert writer.next_offset == second + 1
    assert scene.kept() == {theirs: first if counts else second}
    assert scene.posted() == ({first, second} if counts else {second})
    scene.is_clean()


def test_what_is_behind_an_open_transaction_in_the_topic_is_waited_for(scene: Scene) -> None:
    """A writer of another partition that died leaves one open for a while."""
    theirs = scene.registers("was")
    scene.sends(theirs)
    batch = scene.records()
    producer = transactional(scene.settings, f"{scene.settings.prefix}-another")
    with written_by(scene.settings, 0) as writer:
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(scene.topics.pipeline, b"", b"open", 0)
        assert producer.flush(30) == 0
        writer.post(batch)
    found = list[set[int]]()
    reading = threading.Thread(target=lambda: found.append(set(scene.kept())))
    reading.start()
    reading.join(1.0)
    assert not found, "what was committed is not to be read yet"
    producer.abort_transaction(30)
    reading.join(60)
    assert found == [{theirs}]


@contextmanager
def left_open(scene: Scene, one: Accepted, ends_after_s: float | None = None) -> Iterator[Producer]:
    """A record of a batch that Kafka has ended elsewhere, and left open here; for so long, or while this is entered."""
    producer = transactional(scene.settings, f"{scene.settings.prefix}-left")
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(scene.topics.pipeline, one.to_json(), one.key, 0)
    assert producer.flush(30) == 0
    ending = threading.Timer(ends_after_s or 0, producer.abort_transaction, [30])
    if ends_after_s is not None:
        ending.start()
    try:
        yield producer
    finally:
        if ends_after_s is None:
            ending.run()
        else:
            ending.join()


def test_a_record_that_is_open_though_its_batch_is_there_is_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams.writer, "TORN_PAUSE_S", 0.1)
    scene.sends(scene.ids.transaction)
    scene.works()
    with (
        left_open(scene, Accepted(104, 0, 0, TEXT)),
        pytest.raises(Torn, match="the record 'schema:104:0' of the pipeline topic is open"),
        written_by(scene.settings, 0),
    ):
        pass


def test_topics_that_agree_a_moment_later_are_looked_at_again(scene: Scene) -> None:
    """As while a broker comes back: nobody is to start the worker again by hand then."""
    scene.sends(scene.ids.transaction)
    scene.works()
    with (
        left_open(scene, Accepted(104, 0, 0, TEXT), ends_after_s=1.0),
        written_by(scene.settings, 0) as writer,
    ):
        scene.sends(scene.ids.transaction)
        writer.post(scene.records())
    scene.is_clean()


def test_a_record_that_is_open_without_its_batch_is_rolled_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the writer's own transactional id, which is another's here: so he who has it must end it."""
    scene.sends(scene.ids.transaction)
    scene.works()
    rolled_back = list[list[str]]()
    with left_open(scene, Accepted(104, 0, 1, TEXT)) as producer:

        def ended(writer: PartitionProducer, topics: list[str]) -> None:
            as_it_is(writer, topics)
            rolled_back.append(topics)
            producer.abort_transaction(30)
            producer.begin_transaction()

        as_it_is = PartitionProducer.roll_back_leftovers
        monkeypatch.setattr(PartitionProducer, "roll_back_leftovers", ended)
        with written_by(scene.settings, 0) as writer:
            assert rolled_back == [[scene.topics.pipeline]]
            scene.sends(scene.registers("was"))
            writer.post(scene.records())
    assert scene.kept() == {104: 1}
    scene.is_clean()
