"""The watchdog: a thread that ends a process that has records to handle but makes no progress.

It does not trust the program it watches: it asks Kafka itself where each partition ends, and it runs in its own
thread, so it also notices a blocked event loop. The watched program only reports the position of each of its
partitions. Without knowledge there is no verdict: while Kafka is away, nothing is ended.
"""

import faulthandler
import os
import threading
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple, NoReturn, Protocol

from prometheus_client import Counter

from config.errors import Stalled
from config.logs import EventLog
from config.settings import Settings
from topics.lag import Lag, LagReader, Oldest, TopicPart

log = EventLog("vitals.watchdog")

LOOKS = Counter("wallet_watchdog_looks", "How often the watchdog has looked.")

#: Most seconds between two looks; a shorter limit makes them more frequent.
LOOK_EVERY_S = 5.0
LOOKS_IN_LIMIT = 8
#: A stuck partition whose neighbours move may be waiting for its turn: its limit is this many times longer.
TURNS = 5
#: Seconds after which an upstream transaction that holds records back is logged.
OPEN_TRANSACTION_S = 10.0
#: For an interpreter in which no thread can run any more, not even this one: exit code 1, see docs.
STUCK_LIMITS, STUCK_LEAST_S = 3, 60.0
LAST_WORDS_S = 5.0
OVERDUE_S = 60.0
STDERR = 2


class Standing(NamedTuple):
    """The state of one partition at its reader.

    `position` is the next offset to handle, None until it is known. `progress` is any value that changes with
    progress of another kind, such as records read by recovery. `waits_for` says why it may stand still, None if it
    may not.
    """

    reader: str
    topic: str
    partition: int
    position: int | None
    progress: object = None
    waits_for: str | None = None

    @property
    def place(self) -> TopicPart:
        """Topic and partition."""
        return self.topic, self.partition

    @property
    def key(self) -> tuple[str, TopicPart]:
        """What identifies this standing within the process."""
        return self.reader, self.place


class Watched(Protocol):
    """What the watchdog asks a worker or sink; called from the watchdog's thread."""

    @property
    def oldest(self) -> Oldest | None:
        """Finds the oldest records of the input, if the process reads it."""

    def standings(self) -> list[Standing]:
        """The state of every partition of this process."""


class Stall(NamedTuple):
    """A partition that has made no progress for too long although it has records."""

    standing: Standing
    lag: Lag
    still_s: float

    def __str__(self) -> str:
        reader, topic, partition, position = self.standing[:4]
        doing = "is still being recovered" if position is None else f"is at offset {position}"
        return (
            f"{reader} of {topic}[{partition}] {doing}, the last stable offset is "
            f"{self.lag.stable_end}, no progress for {self.still_s:.0f} s"
        )


class Judge:
    """Counts how long each partition has stood still without an excuse. Pure except for its memory."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._marks: dict[tuple[str, TopicPart], object] = {}
        self._still_s: dict[tuple[str, TopicPart], float] = {}
        #: By reader: how long none of its partitions has moved.
        self._quiet_s: dict[str, float] = {}

    def judge(
        self, gap_s: float, standings: Collection[Standing], lags: Mapping[TopicPart, Lag]
    ) -> list[Stall]:
        """Stalls at this look, which came `gap_s` after the previous one."""
        marks: dict[tuple[str, TopicPart], object] = {
            one.key: (one.position, one.progress) for one in standings
        }
        moved = {key for key, mark in marks.items() if self._marks.get(key) != mark}
        moving = {reader for reader, _ in moved}
        self._quiet_s = {
            reader: 0.0 if reader in moving else self._quiet_s.get(reader, 0.0) + gap_s for reader, _ in marks
        }
        self._still_s = {
            one.key: 0.0
            if one.key in moved or _excused(one, lags)
            else self._still_s.get(one.key, 0.0) + gap_s
            for one in standings
        }
        self._marks = marks
        return [
            Stall(one, lags[one.place], still_s)
            for one in standings
            if (still_s := self._still_s[one.key]) >= self._limit_of(one.reader)
        ]

    def still_s(self, standing: Standing) -> float:
        """How long this partition has stood still although it has records."""
        return self._still_s.get(standing.key, 0.0)

    def _limit_of(self, reader: str) -> float:
        return self._limit_s if self._quiet_s[reader] >= self._limit_s else self._limit_s * TURNS


def _excused(one: Standing, lags: Mapping[TopicPart, Lag]) -> bool:
    """Whether a partition may stand still: nothing to do, a reason to wait, or Kafka does not answer."""
    lag = lags.get(one.place)
    return lag is None or one.waits_for is not None or (one.position is not None and not lag.records)


class Look(NamedTuple):
    """What the watchdog saw last; `at` is on the clock of time.monotonic, None before the first look."""

    at: float | None
    standings: list[Standing]
    lags: dict[TopicPart, Lag]
    #: What prevented the look, None if nothing did.
    problem: str | None = None

    @property
    def kafka_answers(self) -> bool:
        """Whether Kafka gave the end of any partition, or there was none to ask about."""
        return bool(self.lags) or not self.standings


class Watchdog:
    """Looks every few seconds; with a limit above zero, ends the process for a stall.

    Readiness and metrics use what it saw, so that neither waits for Kafka.
    """

    def __init__(self, settings: Settings, watched: Watched) -> None:
        self.limit_s = settings.watchdog_s
        self.look = Look(None, [], {})
        #: How old the last look may be; Kafka and Postgres may each delay it for a while.
        self.overdue_s = 2 * LOOK_EVERY_S + OVERDUE_S
        self._every_s = min(LOOK_EVERY_S, (self.limit_s or LOOK_EVERY_S) / LOOKS_IN_LIMIT)
        self._watched = watched
        self._lag = LagReader(settings, watched.oldest)
        self._judge = Judge(self.limit_s)
        self._open: dict[TopicPart, tuple[int, float]] = {}
        self._told_open: dict[TopicPart, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; returns at once."""
        self._stopping.set()
        faulthandler.cancel_dump_traceback_later()

    def still(self) -> list[str]:
        """Partitions with records to handle that have stood still for at least half of the limit."""
        return [
            f"{one.reader} of {one.topic}[{one.partition}] has made no progress for {still_s:.0f} s"
            for one in self.look.standings
            if self.limit_s and (still_s := self._judge.still_s(one)) >= self.limit_s / 2
        ]

    def _run(self) -> None:
        looked_at = time.monotonic()
        while not self._stopping.wait(self._every_s):
            self._rearm()
            problem = None
            try:
                standings = self._watched.standings()
                lags = self._lag.look({one.place: one.position for one in standings})
            except Exception as failure:  # a failing watchdog must not end the process
                log.exception("look_failed", reason=failure)
                standings, lags, problem = [], {}, f"{type(failure).__name__}: {failure}"
            now = time.monotonic()
            # Time in which the whole process was stopped, or its machine asleep, does not count.
            gap_s, looked_at = min(now - looked_at, 2 * self._every_s), now
            self.look = Look(now, standings, lags, problem)
            LOOKS.inc()
            self._tell_open_transactions(now, lags)
            stalls = self._judge.judge(gap_s, standings, lags)
            if stalls and self.limit_s and not self._stopping.is_set():
                end_process(stalls)
        faulthandler.cancel_dump_traceback_later()
        self._lag.close()

    def _rearm(self) -> None:
        """Let the C library end the process if no look comes, for a thread that never releases the GIL."""
        if self.limit_s:
            stuck_s = max(STUCK_LEAST_S, STUCK_LIMITS * self.limit_s)
            faulthandler.dump_traceback_later(stuck_s, exit=True, file=STDERR)

    def _tell_open_transactions(self, now: float, lags: Mapping[TopicPart, Lag]) -> None:
        """Log the offset at which an upstream transaction is open: nobody can read what comes after it."""
        held = {place: lag for place, lag in lags.items() if lag.end > lag.stable_end}
        self._open = {
            place: was
            if (was := self._open.get(place)) and was[0] == lag.stable_end
            else (lag.stable_end, now)
            for place, lag in held.items()
        }
        for place, (offset, since) in self._open.items():
            if now - since >= OPEN_TRANSACTION_S and self._told_open.get(place) != offset:
                self._told_open[place] = offset
                log.warning(
                    "held_by_open_transaction",
                    topic=place[0],
                    partition=place[1],
                    offset=offset,
                    end=held[place].end,
                    consequence="records from this offset on wait until their producer commits or times out",
                )
        for place in [place for place in self._told_open if place in lags and place not in held]:
            log.info(
                "open_transaction_ended",
                topic=place[0],
                partition=place[1],
                offset=self._told_open.pop(place),
            )


def end_process(stalls: list[Stall]) -> NoReturn:
    """End the process at once, with the stacks of all its threads on stderr and exit code 7.

    Nothing is unwound, since that could hang, too. Nobody sees what was not committed, and whoever takes over
    continues from what was.
    """
    # In a thread: the hanging code may hold the log's lock, or nobody may read stderr.
    telling = threading.Thread(target=_tell, args=(stalls,), name="last-words", daemon=True)
    telling.start()
    telling.join(LAST_WORDS_S)
    os._exit(Stalled.exit_code)


def _tell(stalls: list[Stall]) -> None:
    for stall in stalls:
        log.error("stalled", reason=stall)
    faulthandler.dump_traceback(file=STDERR, all_threads=True)
    os.write(STDERR, f"wallet: the watchdog ended this process: {stalls[0]}\n".encode())
