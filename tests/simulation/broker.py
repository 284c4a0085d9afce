"""A Kafka that fits into memory: partition logs, transactions, fencing, a group's offsets.

What it keeps of the real one (KIP-98, KIP-447):

- A record's offset is its place in the log; a commit or an abort takes an offset of its own (the marker).
- Whoever commits is told so when the coordinator has decided; the markers are written afterwards, each
  partition's by itself. Until then its records are not read-committed, and neither is anything behind them
  (the last stable offset).
- `init_transactions` raises the epoch, ends what the former owner had open, and answers when all markers are
  there. Every request of an older epoch is refused.
- Offsets in a transaction count when it commits. A group's offsets can get lost.
- A request that nobody waits for any more may arrive much later. It is judged by its epoch, not by its transaction: no
  client's part of KIP-890.
- A transaction may end without its marks (`streams.leftovers`): its records stay open until the next mark of the
  same transactional id in their log, and end as that one does; so does its offset in the group.
- Compaction removes older records of a key, and with them what was aborted; offsets stay.
- Retention removes what is oldest; the log begins behind it.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.simulation.processes import Process, Stage

#: Shorter times away are not seen by Kafka's controller.
AWAY_S = 3.0

Header = tuple[str, str | bytes | None]


class OldEpoch(Exception):  # noqa: N818 - the broker's answer to a zombie
    """The request came from a producer that was fenced."""


class Decided(Exception):  # noqa: N818 - as above
    """The transaction has ended already, in the other way."""


class Unstable(Exception):  # noqa: N818 - as above
    """The group's offset waits for a transaction that has not ended."""


@dataclass(eq=False)
class Transaction:
    """One transaction: what it wrote to, which markers are still to be written, and how it ends."""

    name: str = ""
    touched: "list[Log]" = field(default_factory=list)
    offsets: dict[str, int] = field(default_factory=dict)
    #: Decided by the coordinator; None while it is open.
    commits: bool | None = None
    unmarked: "list[Log]" = field(default_factory=list)
    offsets_pending: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.commits is not None and not self.unmarked and not self.offsets_pending


@dataclass(eq=False)
class Stored:
    """One place in a log: a record, or a marker."""

    offset: int
    key: bytes | None = None
    value: bytes | None = None
    timestamp_ms: int = 0
    headers: tuple[Header, ...] = ()
    transaction: Transaction | None = None
    marker: bool = False


class Log:
    """One partition of a topic."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.stored: list[Stored] = []
        self.begin = 0
        self.end = 0
        #: How many committed records were deleted.
        self.deleted = 0
        #: The first offset of each transaction that has no marker here yet.
        self.open: dict[Transaction, int] = {}
        #: How each transaction ended here.
        self.ended: dict[Transaction, bool] = {}

    def append(self, one: Stored) -> int:
        """Store at the end; returns the offset."""
        one.offset = self.end
        self.end += 1
        self.stored.append(one)
        if one.transaction is not None and not one.marker:
            self.open.setdefault(one.transaction, one.offset)
        return one.offset

    def mark(self, transaction: Transaction) -> None:
        """End a transaction here, and with it every other one of its name that was left open."""
        assert transaction.commits is not None
        for one in [one for one in self.open if one is transaction or one.name == transaction.name]:
            del self.open[one]
            self.ended[one] = transaction.commits
        self.append(Stored(0, transaction=transaction, marker=True))

    @property
    def stable(self) -> int:
        """The last stable offset: what is before it is decided."""
        return min(self.open.values(), default=self.end)

    def visible(self, start: int = 0) -> list[Stored]:
        """What a read-committed consumer gets from `start` on."""
        stable = self.stable
        return [
            one
            for one in self.stored
            if start <= one.offset < stable
            and not one.marker
            and (one.transaction is None or self.ended.get(one.transaction))
        ]

    def records(self, start: int) -> list[Stored]:
        """What a consumer gets from `start` on that does not ask how transactions end."""
        return [one for one in self.stored if one.offset >= start and not one.marker]

    def compact(self) -> None:
        """Keep the newest record of every key; what is not stable yet is left alone."""
        newest = {one.key: one for one in self.visible()}
        stable = self.stable
        self.stored = [one for one in self.stored if one.offset >= stable or newest.get(one.key) is one]

    def delete_all(self) -> None:
        """Delete every record that is decided, as retention does with what is old."""
        self.deleted += len(self.visible())
        self.begin = self.stable
        self.stored = [one for one in self.stored if one.offset >= self.begin]


@dataclass
class TransactionalId:
    """What the coordinator keeps of one transactional id."""

    epoch: int = 0
    transaction: Transaction | None = None


class Broker:
    """Logs by topic (one partition each is simulated), transactional ids, and the group's offsets."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        #: Whether what is produced is sent at once, or stays in the client until it commits.
        self.eager = False
        #: Whether a transaction that commits may get its marks in a part of its logs only.
        self.tearing = False
        self.logs: dict[str, Log] = {}
        self.ids: dict[str, TransactionalId] = {}
        self.offsets: dict[str, int] = {}
        #: Who fenced all others last.
        self.owner: Process | None = None
        #: Requests that are on their way although nobody waits for them, the oldest first.
        self.underway: list[Callable[[], object]] = []
        #: Decided, with markers to be written.
        self.unfinished: list[Transaction] = []
        #: Offsets of transactions that ended without marks, by transactional id.
        self.offsets_left: dict[str, dict[str, int]] = {}
        self._away = False

    def log(self, topic: str) -> Log:
        """A topic's partition."""
        if topic not in self.logs:
            self.logs[topic] = Log(topic)
        return self.logs[topic]

    # -- transactions

    def begin_epoch(self, transactional_id: str) -> int:
        """Fence every earlier owner of this id, and end what he left open; returns the new epoch."""
        one = self.ids.setdefault(transactional_id, TransactionalId())
        one.epoch += 1
        self.owner = self.stage.running
        self._end_if_open(one)
        self.finish()
        return one.epoch

    def time_out(self, transactional_id: str) -> None:
        """The transaction was open for too long: the coordinator aborts it and fences its producer."""
        one = self.ids[transactional_id]
        if one.transaction is not None and one.transaction.commits is None:
            one.epoch += 1
            self._end_if_open(one)

    def _end_if_open(self, one: TransactionalId) -> None:
        if one.transaction is not None and one.transaction.commits is None:
            self._decide(one.transaction, commits=False)
        one.transaction = None

    def current(self, transactional_id: str, epoch: int) -> Transaction:
        """The transaction of this owner, begun if there is none; refuses a zombie."""
        one = self._owned(transactional_id, epoch)
        if one.transaction is None or one.transaction.commits is not None:
            # The client waits until the one before has all its markers (CONCURRENT_TRANSACTIONS).
            self.finish()
            one.transaction = Transaction(transactional_id)
        return one.transaction

    def arrive(self) -> None:
        """A late request is here."""
        request = self.underway.pop(0)
        self.stage.tell("a late request arrives")
        with suppress(OldEpoch, Decided):
            request()

    def _owned(self, transactional_id: str, epoch: int) -> TransactionalId:
        if self.underway and self.stage.fault("late arrival", 0.3):
            self.arrive()
        one = self.ids[transactional_id]
        if one.epoch != epoch:
            raise OldEpoch
        return one

    def append(self, transactional_id: str, epoch: int, topic: str, record: Stored) -> int:
        """Append a record within the owner's transaction; returns its offset."""
        transaction, log = self.current(transactional_id, epoch), self.log(topic)
        record.transaction = transaction
        if log not in transaction.touched:
            transaction.touched.append(log)
        return log.append(record)

    def end(self, transactional_id: str, epoch: int, *, commits: bool) -> None:
        """Commit or abort. Asked the same again the answer is the same, asked the opposite it is a refusal."""
        one = self._owned(transactional_id, epoch)
        if one.transaction is None:
            return
        if one.transaction.commits is None:
            self._decide(one.transaction, commits=commits)
        elif one.transaction.commits is not commits:
            raise Decided

    def _decide(self, transaction: Transaction, *, commits: bool) -> None:
        transaction.commits = commits
        transaction.unmarked = list(transaction.touched)
        transaction.offsets_pending = bool(transaction.offsets)
        if self.stage.fault("no markers", 0.03):
            self._leave_open(transaction)
        self.unfinished.append(transaction)
        if not self.stage.fault("markers late", 0.4):
            self.finish()

    def _leave_open(self, transaction: Transaction) -> None:
        """A broker was away and is back: marks are left out.

        All of them where it commits, as with one broker; with several of which each has some partitions, any of them.
        """
        self.stage.tell("marks are left out")
        self._away = True
        any_of_them = self.tearing or not transaction.commits
        kept = transaction.touched if any_of_them else []
        transaction.unmarked = [log for log in kept if self.stage.choices.among("mark written", 2)]
        if transaction.offsets_pending and not (any_of_them and self.stage.choices.among("mark written", 2)):
            self.offsets_left.setdefault(transaction.name, {}).update(transaction.offsets)
            transaction.offsets_pending = False

    def be_back(self) -> None:
        """Let the time pass in which it was away: not before it has answered whoever asked for the end."""
        if self._away:
            self._away = False
            self.stage.clock.sleep(AWAY_S)

    def finish(self) -> None:
        """Write all markers that are due."""
        while self.unfinished:
            self.finish_one(0)

    def finish_one(self, which: int) -> None:
        """Write the next marker of one decided transaction: a log's, or the group's."""
        transaction = self.unfinished[which]
        marks = len(transaction.unmarked) + transaction.offsets_pending
        chosen = self.stage.choices.among("marker", marks) if marks and not self.stage.calm else 0
        if chosen < len(transaction.unmarked):
            log = transaction.unmarked.pop(chosen)
            log.mark(transaction)
        elif transaction.offsets_pending:
            transaction.offsets_pending = False
            left = self.offsets_left.pop(transaction.name, {})
            if transaction.commits:
                self.offsets |= left | transaction.offsets
        if transaction.complete:
            self.unfinished.remove(transaction)

    # -- the group

    def committed(self, topic: str, *, stable: bool = True) -> int | None:
        """The group's offset; who asks for a stable one waits for commits that are pending, and their end by time-out.

        Raises Unstable for one that was left open.
        """
        if not stable:
            return self.offsets.get(topic)
        for name, one in self.ids.items():
            if one.transaction is not None and topic in one.transaction.offsets:
                self.time_out(name)
        self.finish()
        if any(topic in offsets for offsets in self.offsets_left.values()):
            raise Unstable
        return self.offsets.get(topic)

    @property
    def quiet(self) -> bool:
        """Whether no transaction is open or unfinished, nor was left open."""
        return (
            not self.unfinished
            and not self.offsets_left
            and not any(log.open for log in self.logs.values())
            and not any(
                one.transaction is not None and one.transaction.commits is None for one in self.ids.values()
            )
        )
