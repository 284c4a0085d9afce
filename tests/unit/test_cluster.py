"""What a topic must be like, told without a cluster."""

from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from config.errors import NotReachable, Refused, WalletError
from config.settings import Settings
from topics import cluster
from topics.cluster import FoundTopic, differences, refuse_differences, specs
from topics.names import GROWTH_BYTES, TopicSpec

ROOT = Path(__file__).parents[2]
PROGRAMS = ("audit", "config", "local", "operations", "schemas", "sinks", "streams", "topics")
LONGEST_MS = str(2**63 - 1)


@pytest.fixture
def by_name(plain_settings: Settings) -> dict[str, TopicSpec]:
    settings = plain_settings.model_copy(update={"prefix": "w", "partitions": 3})
    return {spec.name: spec for spec in specs(settings)}


def as_found(spec: TopicSpec, **changes: str) -> FoundTopic:
    """A topic just as it must be, but for these settings (underscores for dots)."""
    changed = {name.replace("_", "."): value for name, value in changes.items()}
    return FoundTopic(spec.partitions, {"segment.bytes": "1"} | spec.config | changed)


def test_the_six_topics_have_their_partitions(by_name: dict[str, TopicSpec]) -> None:
    assert {name: spec.partitions for name, spec in by_name.items()} == {
        "w.transactions": 3,
        "w.ledger": 3,
        "w.balances": 3,
        "w.snapshots": 3,
        "w.rejections": 3,
        "w.pipeline": 1,
    }


@pytest.mark.parametrize("name", ["w.ledger", "w.balances", "w.snapshots", "w.rejections"])
def test_derived_topics_take_any_time_and_larger_records(name: str, by_name: dict[str, TopicSpec]) -> None:
    config = by_name[name].config
    assert config["message.timestamp.type"] == "CreateTime"
    assert config["message.timestamp.after.max.ms"] == LONGEST_MS
    accepted = int(by_name["w.transactions"].config["max.message.bytes"])
    assert int(config["max.message.bytes"]) == accepted + GROWTH_BYTES


def test_a_record_of_the_largest_size_fits_into_the_input(plain_settings: Settings) -> None:
    settings = plain_settings.model_copy(update={"max_record_bytes": 4_000_000})
    assert int(specs(settings)[0].config["max.message.bytes"]) > 4_000_000


def test_a_topic_as_it_must_be_has_no_differences(by_name: dict[str, TopicSpec]) -> None:
    assert [text for spec in by_name.values() for text in differences(spec, as_found(spec))] == []


@pytest.mark.parametrize(
    ("topic", "changes", "told"),
    [
        ("w.balances", {"cleanup_policy": "delete"}, "w.balances: cleanup.policy is delete, must be compact"),
        ("w.ledger", {"cleanup_policy": "compact"}, "w.ledger: cleanup.policy is compact, must be delete"),
        (
            "w.ledger",
            {"message_timestamp_type": "LogAppendTime"},
            "w.ledger: message.timestamp.type is LogAppendTime, must be CreateTime",
        ),
        (
            "w.rejections",
            {"message_timestamp_after_max_ms": "3600000"},
            f"w.rejections: message.timestamp.after.max.ms is 3600000, must be {LONGEST_MS}",
        ),
        (
            "w.snapshots",
            {"max_message_bytes": "1000"},
            f"w.snapshots: max.message.bytes is 1000, must be at least {1_048_588 + GROWTH_BYTES}",
        ),
        (
            "w.transactions",
            {"message_timestamp_type": "CreateTime"},
            "w.transactions: message.timestamp.type is CreateTime, must be LogAppendTime",
        ),
    ],
)
def test_what_differs_is_told_with_the_topics_name(
    topic: str, changes: dict[str, str], told: str, by_name: dict[str, TopicSpec]
) -> None:
    assert differences(by_name[topic], as_found(by_name[topic], **changes)) == [told]


def test_wrong_partitions_and_a_missing_topic_are_told(by_name: dict[str, TopicSpec]) -> None:
    ledger = by_name["w.ledger"]
    assert differences(ledger, FoundTopic(12, ledger.config)) == ["w.ledger: has 12 partitions, must have 3"]
    assert differences(ledger, None) == ["w.ledger: does not exist"]


def test_larger_limits_and_finite_retention_are_no_differences(by_name: dict[str, TopicSpec]) -> None:
    ledger = by_name["w.ledger"]
    assert differences(ledger, as_found(ledger, max_message_bytes="99999999", retention_ms="1000")) == []


def test_only_the_input_may_keep_the_times_of_its_records(
    plain_settings: Settings, by_name: dict[str, TopicSpec]
) -> None:
    found = {name: as_found(spec) for name, spec in by_name.items()}
    history = as_found(by_name["w.transactions"], message_timestamp_type="CreateTime")
    settings = plain_settings.model_copy(update={"prefix": "w", "partitions": 3})
    refuse_differences(settings, found | {"w.transactions": history})
    with pytest.raises(Refused, match=r"w\.transactions: message\.timestamp\.type is CreateTime"):
        refuse_differences(settings, found | {"w.transactions": history}, any_input_time=False)
    with pytest.raises(Refused, match=r"w\.ledger: message\.timestamp\.type is LogAppendTime"):
        refuse_differences(
            settings,
            found | {"w.ledger": as_found(by_name["w.ledger"], message_timestamp_type="LogAppendTime")},
        )


def test_no_program_asks_librdkafka_to_describe_the_cluster() -> None:
    # It ends the program by an assertion (tests/integration/test_cluster_topics.py).
    sources = [path for folder in PROGRAMS for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 100
    assert [path for path in sources if "describe_cluster(" in path.read_text()] == []


class Silent:
    """An admin client, each of whose requests fails with this error."""

    def __init__(self, code: int) -> None:
        self._code = code

    def list_offsets(self, *_: object, **__: object) -> None:
        raise KafkaException(KafkaError(self._code))

    def list_topics(self, **_: object) -> None: ...


@pytest.mark.parametrize(
    ("code", "raised", "told"),
    [
        (
            KafkaError._TRANSPORT,
            NotReachable,
            (
                "within 0.2 s (Local: Broker transport failure): see whether a broker is down or a partition has no "
                "leader, then run this again"
            ),
        ),
        (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            Refused,
            ": Broker: Topic authorization failed; docs/operations/acls.md has what each program needs",
        ),
        (KafkaError.UNSUPPORTED_VERSION, NotReachable, ": Broker: API version not supported"),
    ],
)
def test_an_error_says_what_kafka_was_asked_for_how_long_and_what_to_do(
    code: int, raised: type[WalletError], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ASK_S", 0.2)
    asked = [("w.ledger", 1), ("w.ledger", 0), ("w.balances", 0)]
    with pytest.raises(raised) as failed:
        cluster.all_there(Silent(code), asked)  # type: ignore[arg-type]
    separator = " " if told.startswith("within") else ""
    assert str(failed.value) == f"Kafka did not return the ends of w.balances, w.ledger{separator}{told}"
