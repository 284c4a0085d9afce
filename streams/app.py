"""The Faust app: its source, its table and its agent, where a reader who knows Faust looks for them."""

from typing import Any, cast

import faust
from faust.app.base import BootStrategy
from faust.types import StreamT
from faust.types.transports import TransportT

from streams.assignor import PartitionAssignor
from streams.credentials import credentials
from streams.folder import identity
from streams.recovery import TableManager
from streams.table import BalanceTable
from streams.transport import Run, Transport
from streams.writer import WriterParts

#: A rebalance is noticed with a heartbeat, so this is the pause of a planned restart.
HEARTBEAT_S = 0.5


class Raw(faust.Schema[Any, Any]):
    """Hands runs of records through as they are: decoding is the fold's, where bad input gets its reason."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        """The key as it is."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """The value as it is: a run of records."""
        return message.value


class WithoutWeb(BootStrategy):
    """Starts no web server: Faust's binds every interface and serves the table to anybody."""

    enable_web = False


class LedgerApp(faust.App):
    """Faust with batches as events, and with recovery that is exact."""

    BootStrategy = WithoutWeb
    parts: WriterParts

    def _new_transport(self) -> TransportT:
        writers = self.writers
        return Transport(
            self.conf.broker_consumer, self, self.parts.settings, writers.wants, writers.membership
        )

    @property
    def writers(self) -> TableManager:
        """The writers of the partitions that this worker has."""
        return cast("TableManager", self.tables)


def create_app(parts: WriterParts) -> LedgerApp:
    """The worker's app for these settings. Connects to nothing until it is started."""
    settings, topics = parts.settings, parts.topics
    TableManager.parts = parts
    LedgerApp.parts = parts
    app = LedgerApp(
        settings.group,
        broker=[f"kafka://{server}" for server in settings.kafka.split(",")],
        broker_client_id=f"{settings.prefix}-worker",
        # A worker that is back before its session has ended has its partitions back at once, and disturbs no other.
        consumer_group_instance_id=identity(parts.folder),
        broker_credentials=credentials(settings),
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=HEARTBEAT_S,
        # A coordinator that has restarted may forget who waits to join: then the question is asked again.
        broker_request_timeout=max(30.0, settings.session_timeout_s + 10),
        broker_rebalance_timeout=max(60.0, 2 * settings.transaction_timeout_s),
        broker_max_poll_records=settings.batch_records,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_buffer_maxsize=64,
        stream_wait_empty=False,
        autodiscover=False,
        datadir=str(parts.folder),
        TableManager=TableManager,
        table_standby_replicas=settings.standbys,
        PartitionAssignor=PartitionAssignor,
        store="memory://",
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    source = app.topic(topics.transactions, schema=Raw(), acks=False, internal=False)
    balances = BalanceTable(
        app,
        name="balances",
        changelog_topic=app.topic(topics.balances, schema=Raw(), acks=False, internal=False),
        partitions=parts.pipeline.partitions,
    )
    app.tables.add(balances)
    balances.partitions_of_topic = parts.pipeline.partitions
    balances.store_of = app.writers.store_of

    @app.agent(source, name="ledger")
    async def ledger(runs: StreamT[Run]) -> None:
        """Give each run of records to the writer of its partition, which commits it in one transaction."""
        async for event in runs.events():
            app.writers.take(event.message.tp, event.value)

    @app.on_partitions_revoked.connect
    async def quiesce(*_: Any, **__: Any) -> None:
        await app.writers.quiesce()

    return app
