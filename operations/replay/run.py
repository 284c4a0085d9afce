"""`wallet replay`: do it or try it out, stretch by stretch, reading the next batch while one is written."""

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import NamedTuple

import typer
from confluent_kafka import Message

from config.errors import INTERRUPTED, ConfigurationError, Refused, WalletError
from config.settings import Settings
from operations.cli.children import on_signals
from operations.cli.output import as_line, progress, show_table, table
from operations.replay.ranges import Plan, Range, plans
from sinks import replay
from sinks.consumer import sinks_of
from sinks.positions import Move
from sinks.replay import Replay, Trial, told_unfinished
from sinks.replay_positions import Stretch
from sinks.sink import Sink
from sinks.tables import Differs
from topics.cluster import agreed, offsets, quiet_admin
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


class How(NamedTuple):
    """What to do: execute, resume or abandon an unfinished replay, or nothing, which means a dry run."""

    execute: bool = False
    resume: bool = False
    abandon: bool = False


def run(settings: Settings, names: Sequence[str], wanted: Range, how: How, *, as_json: bool) -> int:
    """Replay these sinks, or say what would happen; returns the exit code."""
    if sum(how) > 1 and how != How(execute=True, resume=True):
        raise ConfigurationError("use only one of --execute, --resume and --abandon")
    if (how.resume or how.abandon) and not wanted.is_empty:
        raise ConfigurationError(
            "an unfinished replay keeps its range: use --resume or --abandon without a range"
        )
    sinks = sinks_of(settings, names)
    settings = agreed(settings)
    if how.abandon:
        _abandon(settings, sinks, as_json=as_json)
        return 0
    stop = Event()
    # Finish the current batch, and start no other.
    with on_signals(lambda *_: stop.set(), signal.SIGTERM, signal.SIGINT):
        if how.resume:
            return show(resume(settings, sinks, stop), as_json=as_json)
        planned = plans(settings, sinks, wanted)
        if how.execute:
            return show(execute(settings, planned, stop), as_json=as_json)
        code = show((try_out(settings, plan, stop) for plan in planned), as_json=as_json)
    for sink in sinks:
        if unfinished := replay.unfinished(settings, sink):
            typer.echo(f"note: {told_unfinished(sink.name, unfinished)}", err=True)
    return code


def _abandon(settings: Settings, sinks: Sequence[Sink], *, as_json: bool) -> None:
    left = [sink for sink in sinks if replay.unfinished(settings, sink)]
    if not left:
        raise Refused(
            f"{', '.join(sink.name for sink in sinks)} has no unfinished replay: nothing to abandon"
        )
    for sink in left:
        with closing(Replay(settings, sink, Event())) as one:
            one.abandon()
    names = [sink.name for sink in left]
    typer.echo(as_line({"abandoned": names}) if as_json else f"abandoned the replay of {', '.join(names)}")


def execute(settings: Settings, plans: Sequence[Plan], stop: Event) -> Iterator[Outcome]:
    """Replay these; raises Refused, before anything starts, if one of them is not allowed."""
    with ExitStack() as stack:
        replays = [stack.enter_context(closing(Replay(settings, plan.sink, stop))) for plan in plans]
        begun: list[Replay] = []
        try:
            for one, plan in zip(replays, plans, strict=True):
                one.begin(plan.begins, plan.stretches)
                begun.append(one)
        except WalletError:
            for one in begun:
                one.abandon()
            raise
        for one, plan in zip(replays, plans, strict=True):
            yield _run(settings, plan.sink, one, plan.stretches, stop)


def resume(settings: Settings, sinks: Sequence[Sink], stop: Event) -> Iterator[Outcome]:
    """Continue the unfinished replays of these sinks; raises Refused if there are none."""
    found = {sink.name: replay.unfinished(settings, sink) for sink in sinks}
    left = [sink for sink in sinks if found[sink.name]]
    if not left:
        raise Refused(f"{', '.join(found)} has no unfinished replay: nothing to resume")
    for sink in left:
        with closing(Replay(settings, sink, stop)) as one:
            stretches = one.begin(_begins(settings, sink, found[sink.name]))
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


def _run(settings: Settings, sink: Sink, one: Replay, stretches: Sequence[Stretch], stop: Event) -> Outcome:
    outcome = Outcome(sink.name, sink.topic, True, stretches)

    def write(move: Move, messages: list[Message]) -> Callable[[], None]:
        return partial(one.write, one.prepare(move, messages))

    _read(settings, outcome, write, stop)
    outcome.stretches = one.stretches()
    outcome.records = sum(
        after.read - before.read for after, before in zip(outcome.stretches, stretches, strict=True)
    )
    return outcome


def try_out(settings: Settings, plan: Plan, stop: Event) -> Outcome:
    """Read and compare what a plan covers; writes nothing."""
    outcome = Outcome(plan.sink.name, plan.sink.topic, False, plan.stretches)
    found = {stretch.partition: stretch for stretch in plan.stretches}
    with closing(Trial(settings, plan.sink)) as trial:
        outcome.running = trial.running()

        def compare(move: Move, messages: list[Message]) -> None:
            one, missing = found[move.partition], trial.missing(messages)
            found[move.partition] = one._replace(
                next_offset=move.next_offset, read=one.read + len(messages), inserted=one.inserted + missing
            )

        _read(settings, outcome, lambda *batch: partial(compare, *batch), stop)
    outcome.stretches = list(found.values())
    outcome.records = sum(stretch.read for stretch in outcome.stretches)
    return outcome


def _read(
    settings: Settings,
    outcome: Outcome,
    take: Callable[[Move, list[Message]], Callable[[], None]],
    stop: Event,
) -> None:
    """Read the stretches; what `take` makes of a batch is done by a thread while the next batch is read."""
    began_s, done = time.monotonic(), 0
    total = sum(one.to_offset - one.next_offset for one in outcome.stretches)
    title = f"{'replaying' if outcome.executed else 'comparing'} {outcome.sink}"
    in_hand: Future[None] | None = None
    try:
        with (
            closing(TopicLog(settings, outcome.topic)) as log,
            progress(title, total) as advance,
            ThreadPoolExecutor(1, thread_name_prefix="replay") as pool,
        ):
            for stretch in outcome.stretches:
                for move, messages in _batches(log, stretch, settings.sink_batch_rows, stop):
                    work = take(move, messages)
                    if in_hand:
                        in_hand.result()
                        advance(done)
                    in_hand = pool.submit(work)
                    done += move.next_offset - move.expected
            if in_hand:
                in_hand.result()
                advance(done)
    except WalletError as problem:
        outcome.problem = problem
    outcome.seconds = time.monotonic() - began_s


def _batches(log: TopicLog, stretch: Stretch, rows: int, stop: Event) -> Iterator[tuple[Move, list[Message]]]:
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


def show(outcomes: Iterable[Outcome], *, as_json: bool) -> int:
    """Print outcomes as they come, up to the first unfinished one; returns the exit code."""
    code = 0
    for outcome in outcomes:
        if as_json:
            typer.echo(as_line(_fields(outcome)))
        else:
            _print(outcome)
            if isinstance(outcome.problem, Differs):
                typer.echo(outcome.problem.versions)
        if outcome.problem is not None:
            raise _hinting(outcome)
        if not outcome.finished:
            code = INTERRUPTED
            typer.echo(f"stopped; {_how_to_go_on(outcome)}", err=True)
            break
    return code


def _fields(outcome: Outcome) -> dict[str, object]:
    return {
        "sink": outcome.sink,
        "topic": outcome.topic,
        "executed": outcome.executed,
        "finished": outcome.finished,
        "read": sum(one.read for one in outcome.stretches),
        "inserted": sum(one.inserted for one in outcome.stretches),
        "equal": sum(one.equal for one in outcome.stretches),
        "problem": None if outcome.problem is None else str(outcome.problem),
        "versions": outcome.problem.versions if isinstance(outcome.problem, Differs) else None,
        "seconds": round(outcome.seconds, 3),
        "running": outcome.running,
        "partitions": [one._asdict() | {"equal": one.equal} for one in outcome.stretches],
    }


def _print(outcome: Outcome) -> None:
    done = outcome.executed
    typer.echo(
        f"sink {outcome.sink}, topic {outcome.topic}{'' if done else ' (dry run: nothing is written)'}"
    )
    columns = ("partition", "from", "to", "read up to", "read", "inserted" if done else "missing", "equal")
    rows = ([f"{number:,}" for number in _row(one)] for one in outcome.stretches)
    show_table(table(columns, rows, numbers=columns))
    rate = outcome.records / outcome.seconds if outcome.seconds else 0
    read, inserted, equal = (
        sum(counts) for counts in zip(*(_row(one)[4:] for one in outcome.stretches), strict=True)
    )
    typer.echo(
        f"{read:,} records read, {inserted:,} {'inserted' if done else 'would be inserted'}, {equal:,} equal, "
        f"{'0 different' if outcome.problem is None else 'stopped'}; {outcome.seconds:.1f} s, {rate:,.0f} records/s"
    )
    if not done and outcome.problem is None and outcome.finished:
        typer.echo("add --execute to do it" + (f"; but {outcome.running}" if outcome.running else ""))


def _row(one: Stretch) -> tuple[int, ...]:
    return one.partition, one.from_offset, one.to_offset, one.next_offset, one.read, one.inserted, one.equal


def _hinting(outcome: Outcome) -> WalletError:
    """What stopped a replay, as the same class and exit code, with what to do about it."""
    problem = outcome.problem
    assert problem is not None  # noqa: S101 - asked before
    told = copy(problem)
    told.args = (f"{problem}; {_how_to_go_on(outcome)}",)
    return told


def _how_to_go_on(outcome: Outcome) -> str:
    if not outcome.executed:
        return "this was a dry run, nothing was written"
    return (
        "what was read is written, the sink's own position is unchanged; continue with "
        f"`wallet replay {outcome.sink} --resume`"
    )
