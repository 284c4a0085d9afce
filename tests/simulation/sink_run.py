"""One run of sinks on a simulated topic and a simulated Postgres: what breaks, and what must hold.

The real Consumption, Writer and positions run in each process, from joining the group to leaving it. The
thread that writes a sink's batches is a hand that does its work when it is waited for, or at once.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache, partial
from threading import Event
from typing import TypeVar, cast

import pytest
from confluent_kafka import Message

from config import asking
from config.errors import NotReachable
from config.settings import Settings
from sinks import batch, consumer, holdings, topic, writer
from sinks.ledger import LedgerSink
from sinks.observer import Observer
from tests.ledgers import LEDGER_FRAME, Ledger
from tests.simulation.choices import Choices
from tests.simulation.copying import copy, identity, reconcile
from tests.simulation.group import Group, SinkConsumer
from tests.simulation.postgres import At, Key, Postgres, Session
from tests.simulation.processes import Process, Stage
from topics import clients

TOPIC = "simulated.ledger"
SINK = LedgerSink(TOPIC)
PARTITIONS = (0, 1)
TURNS, ROUNDS = 40, 300
T = TypeVar("T")


@cache
def settings() -> Settings:
    """Settings of the simulated sinks."""
    return Settings(_env_file=None, prefix="simulated", partitions=len(PARTITIONS), sink_batch_rows=6)


@cache
def topic_of(
    seed: int, most: int
) -> tuple[dict[int, list[Message]], dict[int, int], dict[int, list[tuple[int, list[bytes]]]]]:
    """Records, ends, and the rows that each record becomes, by partition; offsets have gaps for markers."""
    records: dict[int, list[Message]] = {}
    ends: dict[int, int] = {}
    rows: dict[int, list[tuple[int, list[bytes]]]] = {}
    for number in PARTITIONS:
        records[number], rows[number], at = [], [], 0
        for entry in Ledger(number).post_many(min(most, 10 + (seed + number) % 8), wallets=4).written:
            at += 1 if (at + seed) % 4 else 2
            message = Message(TOPIC, number, at, value=LEDGER_FRAME + entry.body)
            records[number].append(message)
            rows[number].append((at, [row for _, some in SINK.rows([message]).tables for row in some]))
        ends[number] = at + 2
    return records, ends, rows


class Stop:
    """Stands for the event that tells a sink to stop; waiting for it takes no time."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._set = False

    def is_set(self) -> bool:
        """Whether the sink is to stop."""
        return self._set

    def set(self) -> None:
        """Have it stop."""
        self._set = True

    def wait(self, timeout: float) -> bool:
        """Let others run meanwhile."""
        self._stage.wait(timeout, "waits")
        return self._set


class Hand:
    """Stands for the thread that writes: works when it is waited for, unless it was quicker."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._last: Work | None = None

    def submit(self, task: Callable[..., bool], *arguments: object) -> "Work":
        """Something to do."""
        self._last = Work(partial(task, *arguments))
        if self._stage.fault("the hand is quick", 0.3):
            self._last.done()
        return self._last

    def shutdown(self) -> None:
        """Finish what was begun."""
        if self._last is not None:
            self._last.done()


class Work(Future[bool]):
    """One task of the hand."""

    def __init__(self, task: Callable[[], bool]) -> None:
        super().__init__()
        self._task: Callable[[], bool] | None = task

    def done(self) -> bool:
        """Do it, if it is not done."""
        if self._task is not None:
            task, self._task = self._task, None
            try:
                self.set_result(task())
            except Exception as failure:  # noqa: BLE001 - a future keeps it for who asks
                self.set_exception(failure)
        return True

    def result(self, timeout: float | None = None) -> bool:
        """The answer, after it was done."""
        self.done()
        return super().result(timeout)


class SinkRun:
    """One schedule played; `run` raises AssertionError where rows and positions came apart."""

    def __init__(
        self,
        choices: Choices,
        seed: int,
        *,
        crash: float = 0.0,
        pause: float = 0.0,
        hasty: bool = False,
        most: int = 20,
    ) -> None:
        self.stage = Stage(choices, 1_793_491_200.0, crash, pause)
        self.records, self.ends, self.rows = topic_of(seed % 8, most)
        self.server = Postgres(self.stage, self.rows)
        self.group = Group(self.stage, TOPIC, self.records, self.ends)
        self.group.hasty = hasty
        self.live: list[tuple[Process, Stop]] = []

    def _life(self, stop: Stop) -> None:
        """A sink's life, from joining to leaving."""
        try:
            consumer.Consumption(settings(), SINK, cast("Event", stop), Observer()).run()
        except NotReachable as reason:
            # Postgres was away when it began; for nothing else may a sink end itself.
            self.stage.tell(f"ends itself: {reason}")

    def run(self) -> None:
        """Play the schedule, then leave everything in peace until all is written, and look at it."""
        with self.in_place():
            try:
                for _ in range(TURNS):
                    self.turn()
                    if self.through and not self.stage.choices.rarely("on and on", 0.5):
                        break
                self._settle()
            except AssertionError as failure:
                raise AssertionError(f"{failure}\n" + "\n".join(self.stage.told)) from failure
            finally:
                for process in self.stage.processes:
                    process.kill()

    @property
    def through(self) -> bool:
        """Whether all positions are where the last record is written."""
        positions = self.server.content.positions
        return all(
            number in positions and positions[number].next_offset == self.rows[number][-1][0] + 1
            for number in PARTITIONS
        )

    def turn(self) -> None:
        """One decision of the scheduler, and what comes of it."""
        match self.stage.choices.rarely("scheduler", 0.1, 0.2):
            case 1 if len(self.live) < 3:
                self._start()
            case 2:
                self._weather()
        if not self.live:
            self._start()
        self._resume(self.live[self.stage.choices.among("whose turn", len(self.live))])

    def _start(self) -> None:
        stop = Stop(self.stage)
        process = self.stage.start(f"sink-{len(self.stage.processes)}", partial(self._life, stop))
        self.live.append((process, stop))

    def _resume(self, one: tuple[Process, Stop]) -> None:
        process, _ = one
        process.resume()
        if process.ended:
            self.live.remove(one)
            if process.failure is not None:
                raise AssertionError(f"{process.name} failed: {process.failure!r}") from process.failure
            self._bury(process)
        assert not self.server.wrong, self.server.wrong

    def _bury(self, process: Process) -> None:
        """The server and the group notice that a process is gone."""
        self.server.break_those_of(process)
        for member in [member for member in self.group.members if member.process is process]:
            self.group.leave(member)

    def _weather(self) -> None:
        """Something happens that no sink does."""
        members, choices, server = self.group.members, self.stage.choices, self.server
        partition = choices.among("partition", len(PARTITIONS))
        match choices.among("weather", 6):
            case 0 if members:
                self.stage.tell("a sink is thought dead")
                self.group.think_dead(members[choices.among("member", len(members))])
            case 1:
                self.stage.tell(f"the group moves partition {partition}")
                self.group.move(partition)
            case 2:
                self.stage.tell("Postgres restarts")
                server.break_all()
            case 3 if server.backups and not choices.among("a backup, rarely", 3):
                self.stage.tell("Postgres is restored from a backup")
                server.restore(choices.among("backup", len(server.backups)))
            case 4 if partition in server.content.positions:
                at = server.content.positions[partition]
                again = choices.among("from", at.next_offset + 1)
                high = again if choices.rarely("high offset, too", 0.3) else at.high_offset
                self.stage.tell(f"an operator sets the position of {partition} to {again}")
                server.set_position(partition, At(again, high, at.owner))
            case 5 if self.live:
                self.live[choices.among("whom", len(self.live))][1].set()

    def _settle(self) -> None:
        """No fault from here on: the sinks get through, and end when they are told to."""
        self.stage.calm = True
        for _ in range(ROUNDS):
            if self.through:
                break
            if not self.live:
                self._start()
            for one in list(self.live):
                self._resume(one)
        assert self.through, "the sinks did not get through"
        self._end_all()
        self._check()

    def _end_all(self) -> None:
        """Tell all sinks to stop, and wait for it."""
        for _ in range(ROUNDS):
            if not self.live:
                return
            for one in list(self.live):
                one[1].set()
                self._resume(one)
        assert not self.live, "a sink does not stop"

    def _check(self) -> None:
        """Every row once, nothing else."""
        assert self.through, "a position moved back"
        wanted: dict[Key, bytes] = {}
        for number in PARTITIONS:
            for table, rows in SINK.rows(self.records[number]).tables:
                wanted |= {identity(table, row): row for row in rows}
        assert self.server.content.rows == wanted, "rows"

    # -- the seams

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the simulated clients, server, hand and clock where the code looks for the real ones."""
        stage = self.stage

        def connected(*_: object, name: str, **__: object) -> Session:
            stage.effect("connect")
            return Session(self.server, name)

        def nothing(*_: object, **__: object) -> None:
            """The months and the migrations are tested on a real server."""

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clients, "Consumer", partial(SinkConsumer, self.group))
            patch.setattr(topic, "slice_of", lambda **_: 2)
            patch.setattr(topic, "quiet_admin", nothing)
            patch.setattr(topic, "ids", lambda *_: ("the cluster", "the topic"))
            patch.setattr(topic, "topic_id", lambda *_: "the topic")
            patch.setattr(consumer, "ThreadPoolExecutor", lambda *_, **__: Hand(stage))
            for module in (asking, consumer, holdings, topic, writer):
                patch.setattr(module, "time", stage.clock)
            patch.setattr("config.asking.random.uniform", lambda _, most: most)
            for name in ("check", "make_months", "make_months_ahead", "refuse_missing_rights"):
                patch.setattr(writer, name, nothing)
            patch.setattr(writer, "connect", connected)
            patch.setattr(batch, "copy", copy)
            patch.setattr(batch, "reconcile", reconcile)
            yield
