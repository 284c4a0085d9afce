"""The topics of a pipeline: names and required settings."""

from dataclasses import dataclass, field

from config.settings import Settings

DAY_MS = 86_400_000
FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
TIMESTAMP_TYPE = "message.timestamp.type"
#: Derived records carry the time of their source; a clock that jumped must not make the broker refuse them.
ANY_TIME = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "message.timestamp.before.max.ms": str(2**63 - 1),
}
LOG_APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}
COMPACTED = {"cleanup.policy": "compact"}
#: Kafka's own default of `max.message.bytes`, which a new input topic gets unless its records may be larger.
KAFKA_MESSAGE_BYTES = 1_048_588
#: A record may grow by this much between input and output: rejection headers, a re-encoded entry, its hash.
GROWTH_BYTES = 65_536


@dataclass(frozen=True)
class Topics:
    """The names of one pipeline's topics."""

    transactions: str
    ledger: str
    balances: str
    snapshots: str
    rejections: str
    pipeline: str

    @classmethod
    def of(cls, settings: Settings) -> "Topics":
        """Names under the prefix; `WALLET_INPUT` may name another input."""
        named = {name: f"{settings.prefix}.{name}" for name in cls.__dataclass_fields__}
        return cls(**named | ({"transactions": settings.input} if settings.input else {}))

    def is_upstreams(self, topic: str) -> bool:
        """Whether a topic's records have keys, values and headers from upstream."""
        return topic not in {self.ledger, self.balances, self.snapshots, self.pipeline}

    @property
    def partitioned(self) -> tuple[str, ...]:
        """The five topics that have the pipeline's number of partitions."""
        return (self.transactions, self.ledger, self.balances, self.snapshots, self.rejections)


@dataclass(frozen=True)
class TopicSpec:
    """A topic's required partitions and settings, to create and to check it."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def kept(days: int | None) -> dict[str, str]:
    """The retention setting of a new topic; None and 0 mean forever."""
    return FOR_EVER | {"retention.ms": str(days * DAY_MS)} if days else dict(FOR_EVER)


def derived_message_bytes(settings: Settings, input_message_bytes: int) -> int:
    """`max.message.bytes` of the derived topics: whatever came in can be written with its headers."""
    return max(input_message_bytes, settings.max_record_bytes) + GROWTH_BYTES
