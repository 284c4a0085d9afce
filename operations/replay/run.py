"""Do a replay or a dry run: read stretches one after the other, and the next batch while one is written."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from types import FrameType

from confluent_kafka import Message

from config.errors import Refused, WalletError
from config.settings import Settings
from operations.cli.output import Advance, progress
from operations.replay.ranges import Plan
from sinks import replay
from sinks.batch import Prepared
from sinks.positions import Move
from sinks.replay import Replay, Trial
from sinks.replay_positions import Stretch
from sinks.sink import Sink
from topics.cluster import offsets, quiet_admin
from topics.topic_log import TopicLog


@dataclass
class Outcome:
    """The result, real or dry, of one sink's replay; `problem` is what stopped it, with both versions."""

    sink: str
    topic: str
    executed: bool
    stretches: Sequence[Stretch]
    seconds: float = 0.0
    problem: WalletError | None = None
    running: str | None = None
    #: Records that this run read, without those of earlier runs.
    records: int = field(default=0, compare=False)

    @property
    def finished(self) -> bool:
        """Whether every stretch was read to the end."""
        return all(one.finished for one in self.stretches)


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set: finish the current batch, and start no other."""
    stop = threading.Event()

    def tell(_: int, __: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, tell) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def execute(settings: Settings, plans: Sequence[Plan], stop: threading.Event) -> Iterator[Outcome]:
    """Replay these; raises Refused, before anything starts, if one of them is not allowed."""
    with ExitStack() as stack:
        replays = [stack.enter_context(closing(Replay(settings, plan.sink, stop))) for plan in plans]
        begun: list[Replay] = []
        try:
            for one, plan in zip(replays, plans, strict=True):
                one.begin(plan.stretches, plan.begins)
                begun.append(one)
        except WalletError:
            for one in begun:
                one.abandon()
            raise
        for one, plan in zip(replays, plans, strict=True):
            yield _run(settings, plan.sink, one, plan.stretches, stop)


def resume(settings: Settings, sinks: Sequence[Sink], stop: threading.Event) -> Iterator[Outcome]:
    """Continue the unfinished replays of these sinks; raises Refused if there are none."""
    found = {sink.name: replay.unfinished(settings, sink) for sink in sinks}
    left = [sink for sink in sinks if found[sink.name]]
    if not left:
        raise Refused(f"{', '.join(found)} has no unfinished replay: nothing to resume")
    for sink in left:
        with closing(Replay(settings, sink, stop)) as one:
            stretches = one.resume(_begins(settings, sink, found[sink.name]))
            yield _run(settings, sink, one, stretches, stop)


def _begins(settings: Settings, sink: Sink, stretches: Sequence[Stretch]) -> Mapping[int, int]:
    """Where each partition begins; raises Refused if remaining records were deleted, or the topic is another one."""
    logs = offsets(quiet_admin(settings), {sink.topic: settings.partitions})
    for one in stretches:
        log = logs.get((sink.topic, one.partition))
        if log is None or (not one.finished and not log.begin <= one.next_offset <= one.to_offset <= log.end):
            raise Refused(
                f"the replay is at offset {one.next_offset} of {one.to_offset} of {sink.topic} partition "
                f"{one.partition}, which holds {f'{log.begin} to {log.end}' if log else 'nothing'}: records were "
                f"deleted, or it is another topic; give up with `wallet replay {sink.name} --abandon`"
            )
    return {one.partition: logs[sink.topic, one.partition].begin for one in stretches}


def _run(
    settings: Settings, sink: Sink, one: Replay, stretches: Sequence[Stretch], stop: threading.Event
) -> Outcome:
    outcome = Outcome(sink.name, sink.topic, True, stretches)
    read_before, began_s = sum(stretch.read for stretch in stretches), time.monotonic()
    try:
        with closing(TopicLog(settings, sink.topic)) as log, _hand() as hand, _shown(outcome) as advance:
            for stretch in stretches:
                for move, messages in _batches(log, stretch, settings.sink_batch_rows, stop):
                    batch = one.prepare(move, messages)
                    hand(lambda batch=batch: _write(one, batch, advance))  # type: ignore[misc] # bound now
    except WalletError as problem:
        outcome.problem = problem
    outcome.seconds = time.monotonic() - began_s
    outcome.stretches = one.stretches()
    outcome.records = sum(stretch.read for stretch in outcome.stretches) - read_before
    return outcome


def _write(one: Replay, prepared: Prepared, advance: Advance) -> None:
    one.write(prepared)
    (move,) = prepared.batch.moves
    advance(move.next_offset - move.expected)


def try_out(settings: Settings, plan: Plan, stop: threading.Event) -> Outcome:
    """Read and compare what a plan covers; writes nothing."""
    outcome = Outcome(plan.sink.name, plan.sink.topic, False, plan.stretches)
    found = {stretch.partition: stretch for stretch in plan.stretches}
    began_s = time.monotonic()
    with closing(TopicLog(settings, plan.sink.topic)) as log, closing(Trial(settings, plan.sink)) as trial:
        outcome.running = trial.running()

        def compare(move: Move, messages: list[Message], advance: Advance) -> None:
            so_far = found[move.partition]
            inserted = so_far.inserted + trial.missing(messages)
            found[move.partition] = _counted(so_far, move, len(messages), inserted)
            advance(move.next_offset - move.expected)

        try:
            with _hand() as hand, _shown(outcome) as advance:
                for stretch in plan.stretches:
                    for move, messages in _batches(log, stretch, settings.sink_batch_rows, stop):
                        hand(lambda move=move, messages=messages: compare(move, messages, advance))  # type: ignore[misc] # bound now
        except WalletError as problem:
            outcome.problem = problem
    outcome.seconds = time.monotonic() - began_s
    outcome.stretches = list(found.values())
    outcome.records = sum(stretch.read for stretch in outcome.stretches)
    return outcome


def _counted(stretch: Stretch, move: Move, records: int, inserted: int) -> Stretch:
    return stretch._replace(next_offset=move.next_offset, read=stretch.read + records, inserted=inserted)


def _batches(
    log: TopicLog, stretch: Stretch, rows: int, stop: threading.Event
) -> Iterator[tuple[Move, list[Message]]]:
    """The rest of a stretch, in batches; the last one is empty and ends at the stretch's end."""
    at = stretch.next_offset
    for messages in log.slices(stretch.partition, at, stretch.to_offset, rows):
        if stop.is_set():
            return
        next_offset = (messages[-1].offset() or 0) + 1
        yield Move(stretch.partition, at, next_offset), messages
        at = next_offset
    if at < stretch.to_offset and not stop.is_set():
        yield Move(stretch.partition, at, stretch.to_offset), []


@contextmanager
def _hand() -> Iterator[Callable[[Callable[[], None]], None]]:
    """A thread that does one task at a time; handing it the next one waits for the last and raises its failure."""
    in_hand: Future[None] | None = None

    def hand(work: Callable[[], None]) -> None:
        nonlocal in_hand
        if in_hand:
            in_hand.result()
        in_hand = pool.submit(work)

    with ThreadPoolExecutor(1, thread_name_prefix="replay") as pool:
        yield hand
        if in_hand:
            in_hand.result()


@contextmanager
def _shown(outcome: Outcome) -> Iterator[Advance]:
    """Progress in offsets; call it with how many more are done."""
    total = sum(one.to_offset - one.next_offset for one in outcome.stretches)
    verb = "replaying" if outcome.executed else "comparing"
    with progress(f"{verb} {outcome.sink}", total) as advance:
        done = 0

        def more(count: int) -> None:
            nonlocal done
            done += count
            advance(done)

        yield more
