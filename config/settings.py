"""Every setting of the project in one place, typed, read from `WALLET_*` variables and a `.env` file.

Nothing else in the project reads these. (`OTEL_*` are OpenTelemetry's own: vitals/spans.py.) `docs/settings.md`
describes each setting; a test fails if one is missing there.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.decisions import Overdraft
from config.errors import ConfigurationError
from config.text import is_text

#: Upper limit of WALLET_MAX_RECORD_BYTES.
LARGEST_RECORD_BYTES = 16_777_216

GroupName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")]


class Settings(BaseSettings):
    """All settings, with their defaults, units and bounds. Secrets never appear in its repr or in logs."""

    model_config = SettingsConfigDict(
        env_prefix="WALLET_",
        env_file=".env",
        env_ignore_empty=True,  # a compose file passes an unset variable as an empty one
        extra="ignore",
        frozen=True,
    )

    # -- where things are
    kafka: str = Field(
        "127.0.0.1:9092", description="Bootstrap servers of Kafka, host:port, comma separated."
    )
    postgres: SecretStr = Field(
        SecretStr("postgresql://127.0.0.1:5432/wallet"),
        description="DSN of PostgreSQL, as the owner of the tables.",
    )
    registry: str | None = Field(
        None, description="URL of a schema registry with Confluent's API; none: fixed ids."
    )
    registry_auth: SecretStr | None = Field(None, description="user:password for the registry.")
    prefix: GroupName = Field(
        "wallet", description="Name of the pipeline: topics, group and transactional ids."
    )
    input: GroupName | None = Field(None, description="Input topic; default: <prefix>.transactions.")
    rebuild_prefix: GroupName | None = Field(
        None, description="Name of the shadow that `wallet rebuild` builds next to this pipeline."
    )
    rebuild_postgres: SecretStr | None = Field(
        None, description="DSN of the shadow's own database, as its owner."
    )
    state_dir: Path = Field(Path(".local/state"), description="Folder of the workers' stores.")
    local_cache: Path = Field(
        Path("~/.cache/wallet-ledger"), description="Folder for the Kafka that the local stack downloads."
    )

    # -- fixed by `wallet init` for the life of a pipeline
    partitions: int = Field(12, ge=1, le=10_000, description="Partitions of the topics.")
    snapshot_every: int = Field(
        100, ge=1, le=1_000_000, description="A snapshot after every N-th entry of a wallet."
    )
    overdraft: Overdraft = Field("allow", description="Whether a debit may leave a balance below zero.")
    max_record_bytes: int = Field(
        262_144,
        ge=1_024,
        le=LARGEST_RECORD_BYTES,
        description="Key, value, header names and header values of one record.",
    )
    id_window_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        description="Days after which a transaction id counts as never posted; none: never.",
    )
    replication: int = Field(-1, ge=-1, le=9, description="Replicas of each topic; -1: the broker's default.")

    # -- how long topics keep their records (docs/history.md says what a finite retention costs)
    retention_transactions_days: int | None = Field(
        None, ge=0, le=36_500, description="Days to keep the input; 0: forever; none: as it is."
    )
    retention_ledger_days: int | None = Field(
        None,
        ge=0,
        le=36_500,
        description="Days to keep the ledger topic; 0: forever; none: as it is.",
    )
    retention_snapshots_days: int | None = Field(
        None, ge=0, le=36_500, description="Days to keep snapshots; 0: forever; none: as it is."
    )
    retention_rejections_days: int | None = Field(
        None, ge=0, le=36_500, description="Days to keep rejections; 0: forever; none: as it is."
    )

    # -- connections to Kafka
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Security protocol for Kafka."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="SASL mechanism."
    )
    kafka_sasl_username: str | None = Field(None, description="SASL user.")
    kafka_sasl_password: SecretStr | None = Field(None, description="SASL password.")
    kafka_ssl_ca: Path | None = Field(
        None, description="File with the authorities that signed the broker's certificate."
    )
    kafka_ssl_certificate: Path | None = Field(None, description="File with our certificate, for mutual TLS.")
    kafka_ssl_key: Path | None = Field(None, description="File with our private key, for mutual TLS.")
    kafka_ssl_key_password: SecretStr | None = Field(None, description="Password of that key.")

    # -- the worker
    session_timeout_s: float = Field(
        10.0, ge=6.0, le=300.0, description="A worker that is silent this long is replaced."
    )
    transaction_timeout_s: float = Field(
        30.0, ge=5.0, le=900.0, description="Kafka ends a transaction that is open this long."
    )
    max_clock_ahead_s: float = Field(
        3_600.0,
        ge=1.0,
        le=249_000_000_000.0,  # to the year 9900: the tables' months end with 9998
        description="A record further ahead of the clock than this stops its partition.",
    )
    batch_records: int = Field(8_000, ge=1, le=100_000, description="Most records in one Kafka transaction.")
    batch_bytes: int = Field(
        4_194_304,
        ge=65_536,
        le=268_435_456,
        description="About how many bytes of a partition to fetch at a time and put in one Kafka transaction.",
    )
    batch_threads: int = Field(
        2, ge=1, le=64, description="Partitions whose batches are decided at the same time."
    )
    cached_wallets: int = Field(
        100_000, ge=0, le=10_000_000, description="Balances that a worker keeps in memory."
    )
    store_memory_mb: int = Field(
        96, ge=16, le=65_536, description="Memory for all stores of a worker together."
    )
    standbys: int = Field(
        1,
        ge=0,
        le=8,
        description="Warm copies of each partition's store on other workers, if there are any.",
    )
    stall_s: float = Field(
        60.0, ge=1.0, le=3_600.0, description="Recovery without progress for this long is an error."
    )

    # -- the sinks
    sink_batch_rows: int = Field(
        10_000, ge=1, le=200_000, description="Most records in one Postgres transaction."
    )
    sink_batch_bytes: int = Field(
        16_777_216,
        ge=65_536,
        le=268_435_456,
        description="About how many bytes (values, keys, headers) to put in one Postgres transaction.",
    )
    sink_wait_ms: int = Field(
        10, ge=1, le=60_000, description="How long a sink that is writing nothing waits for more records."
    )
    months_ahead: int = Field(3, ge=1, le=120, description="Monthly partitions to create in advance.")
    lock_timeout_ms: int = Field(
        500, ge=1, le=60_000, description="How long a change of tables waits for a lock."
    )

    # -- the archive
    archive_after_days: int = Field(
        90, ge=0, le=36_500, description="A month is archived when its end is older than this."
    )
    archive_grace_s: float = Field(
        86_400.0,
        ge=0.0,
        le=31_536_000.0,
        description="How long after a month's end a partition without later entries may still get entries of it.",
    )
    archive_every_s: float = Field(
        3_600.0, ge=0.5, le=86_400.0, description="How often the archive sink looks for work."
    )

    # -- patience
    startup_wait_s: float = Field(
        60.0, ge=0.0, le=3_600.0, description="How long to wait for Kafka and Postgres."
    )
    look_wait_s: float = Field(
        5.0, ge=0.0, le=3_600.0, description="How long commands that only look wait for them."
    )
    postgres_timeout_s: float = Field(
        30.0,
        ge=1.0,
        le=3_600.0,
        description="A PostgreSQL that is silent this long, also to a new connection, counts as away.",
    )
    retry_wait_s: float = Field(10.0, ge=0.1, le=600.0, description="Longest pause between two attempts.")

    # -- health
    http_host: str = Field("127.0.0.1", description="Where a worker, sink or console serves its state.")
    http_port: int | None = Field(
        None, ge=0, le=65_535, description="Port of /live, /ready and /metrics; 0: any free one; none: off."
    )
    watchdog_s: float = Field(
        120.0,
        ge=0.0,
        le=86_400.0,
        description="A worker or sink that could make progress but makes none for this long ends itself.",
    )

    # -- the console
    console_host: str = Field("127.0.0.1", description="Where `wallet console` listens for HTTP.")
    console_port: int = Field(8080, ge=0, le=65_535, description="Its port; 0: any free one.")
    console_writes: bool = Field(
        False, description="Whether the console accepts transactions, with the token."
    )
    console_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Token for writing, and for reading unless the console is on loopback.",
    )
    console_connections: int = Field(8, ge=1, le=1_000, description="Most PostgreSQL sessions of a console.")
    console_statement_s: float = Field(10.0, ge=0.1, le=600.0, description="Time limit of a query.")
    console_waiting: int = Field(
        10_000, ge=1, le=100_000, description="Most requests that wait for an outcome at once."
    )
    console_feeds: int = Field(1_000, ge=1, le=100_000, description="Most live feeds at once.")
    console_memory_mb: int = Field(
        64, ge=4, le=65_536, description="Memory for the newest outcomes, ledger and rejections together."
    )

    # -- output
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that is logged."
    )

    @field_validator("*")
    @classmethod
    def _is_text(cls, value: object) -> object:
        """Refuse text that is not UTF-8, which no server accepts; file names and passwords are exempt."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and not is_text(text):
            raise ValueError("is not text in UTF-8")
        if isinstance(value, str) and not value.isprintable():
            raise ValueError("has a line break, or another character that cannot be printed")
        return value

    @property
    def group(self) -> str:
        """The consumer group of the workers, which is the prefix."""
        return self.prefix

    @property
    def read_stall_s(self) -> float:
        """Reading without a record for this long is an error; a dead writer's transaction ends sooner."""
        return max(self.stall_s, 2 * self.transaction_timeout_s)

    def sink_group(self, sink: str) -> str:
        """The consumer group of one sink, for example `wallet.sink.ledger`."""
        return f"{self.prefix}.sink.{sink}"


def from_environment() -> Settings:
    """Settings from the environment and .env; ConfigurationError names each wrong variable."""
    try:
        return Settings()
    except ValidationError as error:
        # Do not show the value: it may be a secret.
        wrong = [
            f"WALLET_{'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigurationError(f"settings are wrong: {'; '.join(wrong)}") from None


@cache
def settings() -> Settings:
    """The settings of this process, read once; raises like `from_environment`."""
    return from_environment()
