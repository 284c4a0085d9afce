# ruff: noqa: ARG002 - the signatures are confluent-kafka's
"""A consumer group of sinks on a simulated topic, and the client that a sink reads it with.

The group moves partitions as the cooperative protocol does: the former owner lets go first. One that is
thought dead is not asked; if it still lives, it hears of its loss when it next asks for records.
"""

from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import Message, TopicPartition

from tests.simulation.processes import Process, Stage

Rebalance = Callable[["SinkConsumer", list[TopicPartition]], None]

LET_GO = {"lost", "revoked"}


class Group:
    """Who has which partition, and what its members have still to hear."""

    def __init__(
        self, stage: Stage, topic: str, records: Mapping[int, Sequence[Message]], ends: Mapping[int, int]
    ) -> None:
        self.stage = stage
        self.topic = topic
        self.records = records
        self.ends = ends
        #: Whether a member may lose a partition and get it back while it gathers one batch.
        self.hasty = False
        self.members: list[SinkConsumer] = []
        self.owners: dict[int, SinkConsumer | None] = dict.fromkeys(records)

    def join(self, member: "SinkConsumer") -> None:
        """A member comes, and gets what nobody has."""
        self.members.append(member)
        self.share()

    def leave(self, member: "SinkConsumer") -> None:
        """A member goes, or is thought dead; what it had is given to others."""
        if member in self.members:
            self.members.remove(member)
        self._free(member)
        self.share()

    def _free(self, member: "SinkConsumer") -> None:
        for partition, owner in self.owners.items():
            if owner is member:
                self.owners[partition] = None

    def think_dead(self, member: "SinkConsumer") -> None:
        """The member was silent for too long. It hears of it later, and is back then."""
        self._free(member)
        member.news = [("lost", partition) for partition in member.positions]
        others = [one for one in self.members if one is not member]
        self.share(others or self.members)

    def share(self, among: "Sequence[SinkConsumer] | None" = None) -> None:
        """Give away what nobody has."""
        candidates = self.members if among is None else among
        for partition, owner in self.owners.items():
            if owner is None and candidates:
                chosen = candidates[self.stage.choices.among("member", len(candidates))]
                self.owners[partition] = chosen
                chosen.news.append(("assigned", partition))

    def move(self, partition: int) -> None:
        """Ask the owner to let go of a partition; another one gets it then."""
        owner = self.owners[partition]
        if owner is not None and partition in owner.positions:
            owner.news.append(("revoked", partition))

    def let_go(self, member: "SinkConsumer", partition: int) -> None:
        """A member has let go of a partition."""
        if self.owners[partition] is member:
            self.owners[partition] = None
            others = [one for one in self.members if one is not member]
            self.share(others or self.members)


class SinkConsumer:
    """What `sinks.topic` takes for confluent-kafka's Consumer."""

    def __init__(self, group: Group, conf: Mapping[str, object]) -> None:
        assert conf["isolation.level"] == "read_committed"
        assert conf["auto.offset.reset"] == "error"
        self.group = group
        self.stage = group.stage
        self.process: Process | None = group.stage.running
        self.positions: dict[int, int] = {}
        self.news: list[tuple[str, int]] = []
        self._callbacks: dict[str, Rebalance] = {}

    def subscribe(
        self, topics: list[str], on_assign: Rebalance, on_revoke: Rebalance, on_lost: Rebalance
    ) -> None:
        """Join the group."""
        self._callbacks = {"assigned": on_assign, "revoked": on_revoke, "lost": on_lost}
        self.group.join(self)

    def consume(self, most: int, timeout: float) -> list[Message]:
        """Some records; what the group has to say is called from in here.

        Records of this call are newer than the news, as librdkafka has it; those of the call before, which
        may belong to the same batch, are not.
        """
        self.stage.effect("consume")
        heard = self._hear()
        if heard & LET_GO and not self.group.hasty:
            return []
        found = self._read(most)
        if not found:
            self.stage.wait(timeout + 1.0, "has nothing to do")
        return found

    def _hear(self) -> set[str]:
        """Call what is to be called. Who lets go of partitions gets none in the same call, unless in haste."""
        heard: set[str] = set()
        while self.news:
            if self.news[0][0] == "assigned" and heard & LET_GO and not self.group.hasty:
                break
            what, partition = self.news.pop(0)
            heard.add(what)
            if what == "assigned" and self.group.owners[partition] is not self:
                continue
            self.stage.tell(f"{what} {partition}")
            self._callbacks[what](self, [TopicPartition(self.group.topic, partition)])
            if what != "assigned":
                self.positions.pop(partition, None)
            if what == "revoked":
                self.group.let_go(self, partition)
        return heard

    def _read(self, most: int) -> list[Message]:
        limit = most
        match self.stage.fault("few records", 0.1, 0.2, 0.2):
            case 1:
                return []
            case 2:
                limit = 1
            case 3:
                limit = min(most, 4)
        found: list[Message] = []
        for partition, start in list(self.positions.items()):
            coming = [one for one in self.group.records[partition] if (one.offset() or 0) >= start]
            some = coming[: limit - len(found)]
            found += some
            if some:
                self.positions[partition] = (some[-1].offset() or 0) + 1
        return found

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        """Read these, too."""
        self.positions |= {one.partition: one.offset for one in partitions}

    def get_watermark_offsets(self, at: TopicPartition, timeout: float, cached: bool) -> tuple[int, int]:
        """Begin and end of a partition."""
        self.stage.effect("ask the end")
        return 0, self.group.ends[at.partition]

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        """For lag tools only: nothing of ours reads it."""

    def close(self) -> None:
        """Leave the group; what is owned is let go of before."""
        if self.process is None or not self.process.dead:
            self.group.members.remove(self)
            self.news = [("revoked", partition) for partition in self.positions]
            self._hear()
            self.group.leave(self)
