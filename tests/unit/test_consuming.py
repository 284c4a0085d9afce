"""Reading to a known end, and asking for it, with what Kafka may answer on the way."""

from collections.abc import Iterable

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from config.errors import NotReachable
from config.settings import Settings
from topics import cluster
from topics.consuming import read_to_ends


class Answers:
    """What librdkafka's consumer returns, call by call."""

    def __init__(self, batches: Iterable[list[Message]] = (), failures: Iterable[int] = ()) -> None:
        self._batches, self._failures = iter(batches), iter(failures)

    def assign(self, _: list[TopicPartition]) -> None:
        """Nothing: it is known what comes."""

    def consume(self, _most: int, _wait_s: float) -> list[Message]:
        """The next batch; nothing after the last."""
        return next(self._batches, [])

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        """A topic without a record, after these failures."""
        for code in self._failures:
            raise KafkaException(KafkaError(code))
        return 0, 0

    def close(self) -> None:
        """Nothing to close."""


def record(topic: str, offset: int) -> Message:
    return Message(topic, 0, offset, b"key", b"value")


def ended(topic: str, offset: int) -> Message:
    return Message(topic, 0, offset, error=KafkaError(KafkaError._PARTITION_EOF))


def failed(topics: str, _: KafkaError | None) -> Exception:
    return NotReachable(f"nothing more comes from {topics}")


@pytest.mark.parametrize(
    "batches",
    [
        [[record("a", 0), record("a", 1), record("b", 5)], [record("b", 6)]],
        [[record("b", 9), record("a", 1)]],
        [[record("a", 0), ended("b", 7)], [record("b", 7), ended("a", 2)]],
        [[record("b", 6)], [record("a", 0)], [ended("a", 2)]],
    ],
)
def test_a_topic_is_read_when_its_end_is_told_or_a_record_is_there_or_behind(
    batches: list[list[Message]],
) -> None:
    reader, starts, ends = Answers(batches), {"a": 0, "b": 5}, {"a": 2, "b": 7}
    read = read_to_ends(reader, 0, starts, ends, 10, 0.0, failed=failed)  # type: ignore[arg-type] # is librdkafka's
    assert [*read] == [[one for one in batch if one.error() is None] for batch in batches if batch[0].key()]


def test_what_lacks_its_end_is_waited_for_and_named() -> None:
    reader = Answers([[record("a", 0), record("b", 6)], [ended("a", 1)]])
    read = read_to_ends(reader, 0, {"a": 0, "b": 5}, {"a": 2, "b": 7}, 10, 0.0, failed=failed)  # type: ignore[arg-type]
    assert len(next(read)) == 2
    with pytest.raises(NotReachable, match=r"from a$"):
        next(read)


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError._TIMED_OUT,
    ],
)
def test_a_leader_that_cannot_tell_the_end_yet_is_asked_again(
    code: int, plain_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Answers(failures=[code, code])
    monkeypatch.setattr(cluster, "standalone", lambda *_, **__: reader)
    assert cluster.read_pipeline(plain_settings) is None


def test_what_waiting_does_not_cure_is_told_at_once(
    plain_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Answers(failures=[KafkaError.OFFSET_OUT_OF_RANGE])
    monkeypatch.setattr(cluster, "standalone", lambda *_, **__: reader)
    with pytest.raises(NotReachable, match="Kafka did not return the pipeline record"):
        cluster.read_pipeline(plain_settings)
