"""One run of workers on the simulated Kafka: who writes the partition when, what breaks, and what must hold.

The real PartitionWriter with all that it is made of runs in each process. Around it this plays the parts
of Faust and of the group: it gives the partition to one worker after the other, while earlier ones may lie
dormant as zombies, feeds them records, and puts new processes where old ones ended.
"""

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from config.errors import Refused, Stopped, WalletError
from schemas.native.balances import encode_balance
from streams import store
from streams.absorb import absorb
from streams.agreement import agree_on
from streams.endings import Fenced, Interrupted, Torn
from streams.parts import open_store
from streams.store import Cursor, StoreAhead
from streams.writer import PartitionWriter
from tests.simulation.broker import Broker
from tests.simulation.choices import Choices
from tests.simulation.consumer import as_message
from tests.simulation.disk import Disk
from tests.simulation.inputs import PARTITION, START_MS, TOPIC, Input, as_seen, as_source
from tests.simulation.machines import Machine, in_place, settings
from tests.simulation.processes import Stage
from topics.names import Topics
from topics.source import Source

MACHINES = 3
#: Turns that the scheduler gives before everything is left in peace.
TURNS = 40


class WorkerRun:
    """One schedule played: `run` raises AssertionError where something was lost, twice, or not to be mended."""

    def __init__(
        self,
        choices: Choices,
        given: Input,
        *,
        crash: float = 0.0,
        pause: float = 0.0,
        eager: bool = False,
        longest_run: int | None = None,
        after_crash: str = "same store",
        tearing: bool = False,
        forgetful: bool = False,
    ) -> None:
        self.given = given
        latest_ms = max((source.timestamp_ms for source in given.sources), default=START_MS)
        now_ms = START_MS if choices.rarely("clock behind", 0.3) else latest_ms
        self.stage = Stage(choices, now_ms / 1000, crash, pause)
        self.broker = Broker(self.stage)
        self.broker.eager = eager
        self.broker.tearing = tearing
        #: Why nobody may go on: a transaction of which a part is to be read.
        self.torn: Exception | None = None
        self.broker.logs[TOPIC] = given.log
        self.topics = Topics.of(settings())
        self.disks: defaultdict[int, Disk] = defaultdict(Disk)
        self.machines = [Machine(self.broker, number, self.disks[number]) for number in range(MACHINES)]
        self.at = self.machines[0]
        self.done = False
        #: Whether rejections are deleted while no worker runs.
        self._forgetful = forgetful
        #: How many workers ended themselves over an offset that their successor had committed.
        self.misled = 0
        self._longest_run = longest_run
        self._after_crash = after_crash
        #: What somebody else than the worker made of the group's offset.
        self._tampered: set[int | None] = set()

    # -- the processes

    def _work(self, machine: Machine) -> None:
        """A worker's life with the partition, until it is through, or has lost it."""
        one = machine.writer = PartitionWriter(machine.parts, PARTITION)
        try:
            one.open()
            while records := self._fetched(one):
                ahead = one.post(records)
                if ahead is not None:
                    self.stage.clock.now_s = ahead.timestamp_ms / 1000
                if self.stage.fault("revoked", 0.03):
                    self.stage.tell("revoked")
                    one.close()
                    return
            self.done = True
            one.close()
        except (Fenced, Interrupted) as reason:
            self.stage.tell(f"loses the partition: {type(reason).__name__}")
            one.close()
        except (WalletError, OSError) as reason:
            self.stage.tell(f"ends itself: {reason}")
            self._judge(reason)
            if not self.stage.fault("dies without closing", 0.3):
                one.close()

    def _judge(self, reason: Exception) -> None:
        """Whether a worker may end itself for this reason."""
        skipped = "neither entry nor rejection" in str(reason)
        if self.broker.tearing and (skipped or isinstance(reason, Torn)):
            self.torn = reason
            return
        assert not isinstance(reason, Refused), reason
        if skipped:
            # One that was fenced while it recovered may find the group's offset beyond the ends it asked for.
            assert self.broker.owner is not self.stage.running, reason
            self.misled += 1

    def _fetched(self, one: PartitionWriter) -> list[Source]:
        """A batch as the transport gives it; now and then some come once more."""
        start = one.next_offset
        if self.stage.fault("delivered again", 0.05):
            start -= self.stage.choices.among("from how far back", 8)
        records = self.given.log.visible(start)
        if self._longest_run is not None:
            return [as_source(record) for record in records[: self._longest_run]]
        most = len(records)
        if records and self.stage.fault("short run", 0.7):
            most = 1 + self.stage.choices.among("length of run", min(6, most))
        return [as_source(record) for record in records[:most]]

    def _follow(self, machine: Machine) -> None:
        """A standby: it absorbs some of what is visible, of one topic more than of the other; a full disk ends it."""
        with suppress(OSError, Stopped):
            self._absorb_some(machine)

    def _absorb_some(self, machine: Machine) -> None:
        copy = open_store(machine.parts, PARTITION)
        for _ in range(1 + self.stage.choices.among("stretches", 2)):
            stretch = []
            starts = {self.topics.ledger: copy.first_to_read(0), self.topics.balances: copy.cursor.balances}
            for topic, start in starts.items():
                visible = self.broker.log(topic).visible(start)
                most = len(visible) - self.stage.choices.among("left", len(visible) + 1)
                stretch += [as_message(topic, one) for one in visible[:most]]
            if stretch:
                try:
                    absorb(copy, self.topics, stretch)
                    agree_on(copy, [*{message.key() or b"" for message in stretch}])
                except StoreAhead:
                    copy.clear()
        if not self.stage.fault("dies without closing", 0.3):
            copy.close()

    # -- the scheduler

    def run(self) -> None:
        """Play the schedule, then leave everything in peace, and look at what there is."""
        with in_place(self.broker, self.disks):
            try:
                for _ in range(TURNS):
                    if self.done or self.torn:
                        break
                    self._turn()
                if not self.torn:
                    self._settle()
                if self.torn:
                    self._check_torn()
            except (AssertionError, WalletError) as failure:
                raise AssertionError(f"{failure}\n" + "\n".join(self.stage.told)) from failure
            finally:
                for process in self.stage.processes:
                    process.kill()

    def _turn(self) -> None:
        """One decision of the scheduler, and what comes of it."""
        match self.stage.choices.rarely("scheduler", 0.15, 0.15, 0.25):
            case 1:
                free = [machine for machine in self.machines if machine.free]
                if free:
                    self.at = free[self.stage.choices.among("machine", len(free))]
            case 2:
                dormant = [machine for machine in self.machines if not machine.free]
                if dormant:
                    self._resume(dormant[self.stage.choices.among("zombie", len(dormant))])
                    return
            case 3:
                self._weather()
                return
        if self.at.free:
            self._start(self.at, "worker", self._work)
        self._resume(self.at)

    def _start(self, machine: Machine, what: str, body: Callable[[Machine], None]) -> None:
        name = f"{what}-{len(self.stage.processes)}@{machine.number}"
        machine.process = self.stage.start(name, partial(body, machine))

    def _resume(self, machine: Machine) -> None:
        process = machine.process
        assert process is not None
        process.resume()
        if process.failure is not None:
            raise AssertionError(f"{process.name} failed: {process.failure!r}") from process.failure
        if process.ended:
            if process.machine_crashed:
                disk = machine.disk
                lost = self.stage.choices.among("writes lost", len(disk.writes) - disk.flushed + 1)
                disk.back_to(len(disk.writes) - lost)
            if process.dead and self._after_crash == "empty store":
                machine.disk.back_to(0)
            if self.broker.tearing and self._after_crash == "other machine":
                self.at = self.machines[1 - machine.number]
            elif process.dead and self._after_crash == "other machine":
                self.at = self.machines[(machine.number + 1) % MACHINES]
            if self._forgetful:
                self.broker.log(self.topics.rejections).delete_all()
            if self.broker.quiet and not self.broker.tearing:
                self.check_topics()

    def _weather(self) -> None:
        """Something happens that no worker does."""
        match self.stage.choices.among("weather", 7):
            case 0:
                self.stage.tell("compaction")
                self.broker.log(self.topics.balances).compact()
            case 1 if self.broker.unfinished:
                self.stage.tell("a marker")
                self.broker.finish_one(self.stage.choices.among("transaction", len(self.broker.unfinished)))
            case 2:
                self.stage.tell("transactions time out")
                for name in self.broker.ids:
                    self.broker.time_out(name)
            case 3 if self.at.free:
                old = self.broker.offsets.get(TOPIC)
                self._tampered = {None, *(offset for offset in self._tampered if offset is not None)}
                self.broker.offsets.pop(TOPIC, None)
                if old and self.stage.choices.among("offset", 2):
                    self.broker.offsets[TOPIC] = self.stage.choices.among("older offset", old)
                    self._tampered.add(self.broker.offsets[TOPIC])
                self.stage.tell(f"the group's offset is {self.broker.offsets.get(TOPIC)}")
            case 4:
                for machine in self.machines:
                    if machine.free and machine is not self.at:
                        self._start(machine, "standby", self._follow)
                        self._resume(machine)
                        break
            case 5:
                free = [machine for machine in self.machines if machine.free]
                if free:
                    machine = free[self.stage.choices.among("machine", len(free))]
                    machine.disk.back_to(self.stage.choices.among("older copy", len(machine.disk.writes) + 1))
                    self.stage.tell(f"store {machine.number} has {len(machine.disk.writes)} writes")
            case 6 if not self.at.free and self.at.writer is not None:
                self.stage.tell("the partition is taken away")
                self.at.writer.stopping.set()

    def _settle(self) -> None:
        """No fault from here on: a last worker gets through, and the zombies come to their ends."""
        self.stage.calm = True
        last = next((machine for machine in self.machines if machine.free), None) or Machine(
            self.broker, MACHINES, self.disks[MACHINES]
        )
        self.done = False
        self.stage.tell(f"all is left in peace; the last worker is on machine {last.number}")
        self._work(last)
        if self.torn:
            return
        assert self.done, "the last worker did not get through"
        self._check_cursor(last)
        for machine in self.machines:
            if not machine.free:
                self._resume(machine)
        while self.broker.underway:
            self.broker.arrive()
        self.broker.finish()
        self.check_topics(len(self.given.sources))
        for machine in {last, self.at}:
            self._look(machine)
        self.check_topics(len(self.given.sources))

    def _look(self, machine: Machine) -> None:
        """Open the partition here: whatever this machine's store was, it is now what the topics say."""
        one = PartitionWriter(machine.parts, PARTITION)
        one.open()
        assert one.next_offset == (self.given.after[-1].next_offset or 0), "position"
        opened = one.store
        assert opened is not None
        content = machine.disk.content
        table = {key[1:]: value for key, value in content.items() if key[:1] == store.BALANCE}
        assert table == {w: encode_balance(b) for w, b in self.given.table.items()}, "balances in the store"
        assert opened.known(list(self.given.ids)) == self.given.ids, "ids in the store"
        assert sum(key[:1] == store.POSTED for key in content) == len(self.given.ids), "ids in the store"
        assert opened.cursor.recorded_ms == self.given.recorded_ms, "recorded_at in the store"
        one.close()

    # -- what must hold

    def check_topics(self, handled: int | None = None) -> None:
        """What is committed is what the first so many records make, all of it and nothing else."""
        topics, given = self.topics, self.given
        seen = {
            name: [as_seen(one) for one in self.broker.log(name).visible()] for name in topics.partitioned[1:]
        }
        entries, rejections = seen[topics.ledger], seen[topics.rejections]
        deleted = self.broker.log(topics.rejections).deleted
        if handled is None:
            handled = min(len(entries) + deleted + len(rejections), len(given.sources))
        wanted = given.after[handled]
        assert entries == given.entries[: wanted.entries], "ledger"
        assert rejections == given.rejections[deleted : wanted.rejections], "rejections"
        assert seen[topics.snapshots] == given.snapshots[: wanted.snapshots], "snapshots"
        assert {one[0]: one for one in seen[topics.balances]} == wanted.balances, "balances"
        offset = self.broker.offsets.get(TOPIC)
        # One that Kafka left open is rolled back; it is behind then, which the outputs tell.
        left = self.broker.tearing or offset in self._tampered
        assert offset == wanted.next_offset or left, "the group's offset"

    def _check_torn(self) -> None:
        """Nothing was lost or doubled by who refused: each topic holds the beginning of what it is to hold."""
        for name in (self.topics.ledger, self.topics.rejections, self.topics.snapshots):
            log = self.broker.log(name)
            seen = [as_seen(one) for one in log.visible()]
            wanted = getattr(self.given, name.removeprefix("simulated.").replace("ledger", "entries"))
            assert seen == wanted[log.deleted : log.deleted + len(seen)], name

    def _check_cursor(self, machine: Machine) -> None:
        """A worker that ended in peace has nothing to read again when it starts again."""
        cursor = Cursor(
            *store._CURSOR.unpack(machine.disk.content.get(store.CURSOR, store._CURSOR.pack(*Cursor())))
        )
        for topic, seen in ((self.topics.ledger, cursor.ledger), (self.topics.balances, cursor.balances)):
            assert not self.broker.log(topic).visible(seen), f"the store's cursor of {topic}"
        assert cursor.recorded_ms == self.given.recorded_ms, "the cursor's recorded_at"
