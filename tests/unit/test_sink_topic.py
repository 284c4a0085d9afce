"""What a sink says of a Kafka that is silent."""

from collections.abc import Callable
from threading import Event

import pytest
from confluent_kafka import KafkaError, KafkaException

from config.errors import NotReachable, Refused, WalletError
from config.settings import Settings
from sinks import topic
from sinks.observer import Observer
from sinks.rejections import RejectionSink
from sinks.topic import TopicReader


class Away:
    """A consumer whose brokers are away, and then answer."""

    error = KafkaError(KafkaError._TRANSPORT)

    def __init__(self, on_error: Callable[[KafkaError], None]) -> None:
        self.answers, self.asked, self.loses_them = False, 0, on_error

    def consume(self, *_: object) -> list[object]:
        return []

    def list_topics(self, *_: object) -> None:
        self.asked += 1
        if not self.answers:
            raise KafkaException(self.error)

    def get_watermark_offsets(self, *_: object, **__: object) -> None:
        raise KafkaException(self.error)


class Heard(Observer):
    """Whether a sink waits, as readiness has it."""

    waits = False

    def waiting(self, sink: str, reason: str) -> None:  # noqa: ARG002 - of the protocol
        self.waits = True

    def goes_on(self, sink: str) -> None:  # noqa: ARG002 - of the protocol
        self.waits = False


def test_a_sink_without_records_says_once_that_kafka_is_silent_and_once_that_it_is_back(
    plain_settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Away] = []

    def member(_: Settings, __: str, on_error: Callable[[KafkaError], None], **___: object) -> Away:
        made.append(Away(on_error))
        return made[0]

    monkeypatch.setattr(topic, "member", member)
    monkeypatch.setattr(topic, "ASK_SILENT_S", 0.0)
    heard = Heard()
    reader = TopicReader(plain_settings, RejectionSink("w.rejections"), Event(), heard)
    (kafka,) = made
    with caplog.at_level("INFO"):
        for _ in range(2):
            kafka.loses_them(KafkaError(KafkaError._TRANSPORT))
            kafka.loses_them(KafkaError(KafkaError._ALL_BROKERS_DOWN))
            kafka.answers, kafka.asked = False, 0
            for _ in range(3):
                reader.gather()
            assert (kafka.asked, heard.waits) == (3, True)
            kafka.answers = True
            for _ in range(3):
                reader.gather()
            # Not asked again: that is for a Kafka that may be silent.
            assert (kafka.asked, heard.waits) == (4, False)
    assert caplog.messages == ["waiting_for_kafka", "kafka_is_back"] * 2


def test_a_sink_that_lost_its_connections_for_a_moment_says_nothing(
    plain_settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = Away(lambda _: None)
    monkeypatch.setattr(topic, "member", lambda *_, **__: kafka)
    reader = TopicReader(plain_settings, RejectionSink("w.rejections"), Event(), Observer())
    kafka.answers = True
    reader._client_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    reader.gather()
    assert (kafka.asked, caplog.messages) == (1, [])


@pytest.mark.parametrize(
    ("code", "kind", "told"),
    [
        (
            KafkaError._TRANSPORT,
            NotReachable,
            (
                " within 0.5 s (Local: Broker transport failure): see whether a broker is down or a partition has no "
                "leader, then run this again"
            ),
        ),
        (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            Refused,
            ": Broker: Topic authorization failed; docs/operations/acls.md has what each program needs",
        ),
    ],
)
def test_an_error_at_the_start_says_how_long_kafka_was_asked_and_what_to_do(
    code: int, kind: type[WalletError], told: str, plain_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = Away(lambda _: None)
    kafka.error = KafkaError(code)
    monkeypatch.setattr(topic, "member", lambda *_, **__: kafka)
    hasty = plain_settings.model_copy(update={"startup_wait_s": 0.5})
    with pytest.raises(kind) as failed:
        TopicReader(hasty, RejectionSink("w.rejections"), Event(), Observer()).log(3)
    assert str(failed.value) == f"Kafka did not return the offsets of w.rejections 3{told}"
