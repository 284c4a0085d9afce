"""A Kafka of several brokers on this machine, for tests in which one of them dies or hangs.

    with Cluster(folder, cache, size=3) as cluster:
        cluster.kill(2)
        ...
        cluster.start(2)

With three brokers every topic, including Kafka's own, has three replicas, of which two must be in sync. Unlike
`local.stack` it ends with the program that made it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from local import server
from local.broker import Broker, new_cluster_id
from local.server import Running
from local.state import free_port

#: Later lines of a properties file win over those of `kafka.properties`. A dead broker is noticed after two
#: seconds instead of nine, and a replica that falls behind leaves the in-sync set as quickly.
_SEVERAL = (
    "default.replication.factor={size}",
    "min.insync.replicas={least}",
    "offsets.topic.replication.factor={size}",
    "transaction.state.log.replication.factor={size}",
    "transaction.state.log.min.isr={least}",
    "share.coordinator.state.topic.replication.factor={size}",
    "share.coordinator.state.topic.min.isr={least}",
    "broker.session.timeout.ms=2000",
    "replica.lag.time.max.ms=2000",
)


@dataclass(frozen=True, kw_only=True)
class Member(Broker):
    """One broker of a cluster, which is also one of its controllers."""

    node: int
    cluster: str
    #: Where the controllers of all brokers listen, by node.
    controllers: dict[int, int]

    def _cluster_id(self) -> str:
        return self.cluster

    def _own_settings(self) -> list[str]:
        size = len(self.controllers)
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in self.controllers.items())
        own = [*super()._own_settings(), f"node.id={self.node}", f"controller.quorum.voters={voters}"]
        if size > 1:
            own += [line.format(size=size, least=size // 2 + 1) for line in _SEVERAL]
        return own


class Cluster:
    """`size` brokers with their files in `folder`; nodes are numbered from 1."""

    def __init__(self, folder: Path, cache: Path, size: int = 3) -> None:
        ports: list[int] = []
        while len(ports) < 2 * size:
            ports.append(free_port(without=ports))
        controllers = dict(enumerate(ports[size:], start=1))
        cluster = new_cluster_id()
        self._members = {
            node: Member(
                folder.absolute() / f"kafka-{node}",
                cache.expanduser(),
                ports[node - 1],
                controllers[node],
                node=node,
                cluster=cluster,
                controllers=controllers,
            )
            for node in controllers
        }
        self._running: dict[int, Running] = {}

    @property
    def nodes(self) -> list[int]:
        """The node ids of its brokers."""
        return list(self._members)

    @property
    def address(self) -> str:
        """All brokers, for `bootstrap.servers`."""
        return ",".join(member.address for member in self._members.values())

    def up(self) -> None:
        """Start every broker and return when all answer; together, since none answers before there is a quorum."""
        self.start(*self._members)

    def down(self) -> None:
        """End every broker with SIGKILL, also paused ones: the data of a cluster for faults is not needed again."""
        for node in self._members:
            self.kill(node)

    def start(self, *nodes: int) -> None:
        """Start brokers that are down and return when they answer."""
        started = [node for node in nodes if not server.is_alive(self._running.get(node))]
        for node in started:
            self._members[node].prepare(server.silent)
            self._running[node] = server.spawn(self._members[node])
        for node in started:
            server.wait_until_ready(self._members[node], self._running[node])

    def kill(self, node: int) -> None:
        """End one broker with SIGKILL, like a power cut."""
        if running := self._running.get(node):
            server.kill(running)

    @contextmanager
    def paused(self, node: int) -> Iterator[None]:
        """Pause one broker with SIGSTOP; it continues afterwards."""
        with server.suspended(self._running[node]):
            yield

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
