"""The Faust app: its source, its table and its agent, where a reader who knows Faust expects them."""

from typing import Any, cast

import faust
from faust.app.base import BootStrategy
from faust.types import StreamT
from faust.types.transports import TransportT

from streams.faust.assignor import PartitionAssignor
from streams.faust.credentials import credentials
from streams.faust.rebalance import TableManager
from streams.faust.table import BalanceTable
from streams.faust.transport import Batch, Transport
from streams.folder import identity
from streams.partitions import Partitions
from streams.parts import WriterParts

#: A rebalance is noticed with a heartbeat, so this is the pause of a planned restart.
HEARTBEAT_S = 0.5


class Raw(faust.Schema[Any, Any]):
    """Passes batches of records through unchanged: the fold decodes them, where bad input gets its reason."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        """The key as it is."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """The value as it is: a batch of records."""
        return message.value


class WithoutWeb(BootStrategy):
    """Starts no web server: Faust's binds every interface and serves the table to anybody."""

    enable_web = False


class LedgerApp(faust.App):
    """Faust with batches as events, and with recovery that is exact."""

    BootStrategy = WithoutWeb

    def __init__(self, parts: WriterParts, **options: Any) -> None:
        # Before Faust's own: it makes the table manager, which asks for them.
        self.parts = parts
        super().__init__(parts.settings.group, **options)

    def _new_transport(self) -> TransportT:
        wants, membership = self.partitions.wants, self.manager.membership
        return Transport(self.conf.broker_consumer, self, self.parts.settings, wants, membership)

    @property
    def manager(self) -> TableManager:
        """The replacement of Faust's recovery."""
        return cast("TableManager", self.tables)

    @property
    def partitions(self) -> Partitions:
        """The partitions that this worker has."""
        return self.manager.partitions


def create_app(parts: WriterParts) -> LedgerApp:
    """The worker's app for these settings. Connects to nothing until it is started."""
    settings, topics = parts.settings, parts.topics
    app = LedgerApp(
        parts,
        broker=[f"kafka://{server}" for server in settings.kafka.split(",")],
        broker_client_id=f"{settings.prefix}-worker",
        # A worker that is back before its session ends gets its partitions back at once, and disturbs no other.
        consumer_group_instance_id=identity(parts.folder),
        broker_credentials=credentials(settings),
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=HEARTBEAT_S,
        # A restarted coordinator may forget which members wait to join: then they ask again.
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
    balances.store_of = app.partitions.store_of

    @app.agent(source, name="ledger")
    async def ledger(batches: StreamT[Batch]) -> None:
        """Give each batch to the writer of its partition, which commits it in one transaction."""
        async for event in batches.events():
            app.partitions.take(event.message.tp, event.value)

    @app.on_partitions_revoked.connect
    async def quiesce(*_: Any, **__: Any) -> None:
        await app.manager.quiesce()

    return app
