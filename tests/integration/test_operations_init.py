"""`wallet init` on a real cluster and a real database."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import NewTopic

from config.errors import ConfigurationError, Refused, WalletError
from config.pipeline import Pipeline
from config.settings import Settings
from operations.setup import init
from tests.integration.pipelines import delete_topic, make_topics
from tests.integration.workers import wait_until
from topics import clients
from topics.cluster import check, describe, quiet_admin, read_pipeline

pytestmark = pytest.mark.integration

NAMES = ("transactions", "ledger", "balances", "snapshots", "rejections", "pipeline")


def create(settings: Settings, name: str, partitions: int = 4, **config: str) -> None:
    """A topic as somebody else made it."""
    wanted = NewTopic(name, partitions, config={key.replace("_", "."): text for key, text in config.items()})
    client = quiet_admin(settings)  # must live as long as its answers are waited for
    for answer in client.create_topics([wanted]).values():
        answer.result(10)
    wait_until(lambda: name in client.list_topics(timeout=10).topics, f"{name} is known")


def test_init_makes_everything_once_and_then_nothing_and_with_other_settings_it_refuses(
    settings: Settings,
) -> None:
    first = init.initialise(settings)
    assert first.created == tuple(f"{settings.prefix}.{name}" for name in NAMES)
    assert first.record_written
    assert first.migrated
    assert first.warnings == ()
    assert check(settings) == first.pipeline == Pipeline.of(settings, 1)

    second = init.initialise(settings)
    assert (second.created, second.record_written, second.migrated) == ((), False, ())
    assert second.pipeline == first.pipeline

    with pytest.raises(ConfigurationError, match="WALLET_OVERDRAFT is reject"):
        init.initialise(settings.model_copy(update={"overdraft": "reject"}))
    assert read_pipeline(settings) == Pipeline.of(settings, 1)


@pytest.mark.parametrize(
    ("topic", "partitions", "config", "told"),
    [
        ("ledger", 3, {}, "ledger: has 3 partitions, must have 4"),
        ("balances", 4, {"cleanup_policy": "delete"}, "balances: cleanup.policy is delete, must be compact"),
        (
            "transactions",
            4,
            {"message_timestamp_type": "CreateTime"},
            "transactions: message.timestamp.type is CreateTime, must be LogAppendTime",
        ),
    ],
)
def test_an_existing_topic_that_differs_is_refused_by_name(
    topic: str, partitions: int, config: dict[str, str], told: str, settings: Settings
) -> None:
    create(settings, f"{settings.prefix}.{topic}", partitions, **config)
    with pytest.raises(Refused, match=f"{settings.prefix}.{told}"):
        init.initialise(settings)
    assert read_pipeline(settings) is None


def test_a_finite_retention_is_allowed_and_its_cost_told(settings: Settings) -> None:
    name = f"{settings.prefix}.transactions"
    create(
        settings,
        name,
        message_timestamp_type="LogAppendTime",
        retention_ms="86400000",
        max_message_bytes="2000000",
    )
    [warning] = init.initialise(settings).warnings
    assert (
        warning
        == f"topic {name} has retention.ms=86400000: audits and rebuilds cannot read from the beginning"
    )


def test_derived_topics_take_what_a_larger_input_lets_in(settings: Settings) -> None:
    name = f"{settings.prefix}.transactions"
    create(settings, name, message_timestamp_type="LogAppendTime", max_message_bytes="9000000")
    init.initialise(settings)
    ledger = describe(quiet_admin(settings), [f"{settings.prefix}.ledger"])[f"{settings.prefix}.ledger"]
    assert int(ledger.config["max.message.bytes"]) > 9_000_000


def test_an_input_of_another_name_must_exist_and_may_have_its_own_dates(settings: Settings) -> None:
    name = f"{settings.prefix}.upstream"
    other = settings.model_copy(update={"input": name})
    with pytest.raises(Refused, match=f"WALLET_INPUT names topic {name}, which does not exist"):
        init.initialise(other)
    create(settings, name, message_timestamp_type="CreateTime", retention_ms="-1")
    report = init.initialise(other)
    assert f"{settings.prefix}.transactions" not in report.created
    assert check(other) == report.pipeline


def test_a_pipeline_that_lost_a_topic_is_refused(settings: Settings) -> None:
    init.initialise(settings)
    delete_topic(settings, f"{settings.prefix}.ledger")
    with pytest.raises(Refused, match=f"has lost {settings.prefix}.ledger"):
        init.initialise(settings)


def test_inits_at_once_agree_on_one_pipeline(kafka_only_settings: Settings) -> None:
    make_topics(kafka_only_settings)

    def claim(number: int) -> Pipeline | WalletError:
        mine = kafka_only_settings.model_copy(update={"snapshot_every": 100 + number % 2})
        try:
            return init.claim(mine, Pipeline.of(mine, 1))[0]
        except ConfigurationError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(claim, range(4)))
    counted = read_pipeline(kafka_only_settings)
    assert {answer for answer in answers if isinstance(answer, Pipeline)} == {counted}
    assert sum(isinstance(answer, ConfigurationError) for answer in answers) == 2


def test_a_transaction_of_init_that_kafka_ends_is_tried_again(
    kafka_only_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = list[str]()

    class EndedOnce(Producer):
        def commit_transaction(self, timeout: float = -1) -> None:
            if not ended:
                self.abort_transaction(timeout)
                ended.append("once")
                raise KafkaException(KafkaError(KafkaError.INVALID_TXN_STATE, "ended", False, False, True))
            super().commit_transaction(timeout)

    monkeypatch.setattr(clients, "Producer", EndedOnce)
    make_topics(kafka_only_settings)
    wanted = Pipeline.of(kafka_only_settings, 1)
    assert init.claim(kafka_only_settings, wanted) == (wanted, True)
    assert ended
    assert read_pipeline(kafka_only_settings) == wanted
