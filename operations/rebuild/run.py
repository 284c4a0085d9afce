"""`wallet rebuild start`: the shadow is made, filled and kept filled, by a worker and sinks of its own."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager

from config.errors import NotReachable, Stopped
from config.logs import EventLog
from config.settings import Settings
from operations.cli import context
from operations.cli.children import Children
from operations.cli.output import progress
from operations.cli.waiting import LOOK_EVERY_S, until_done
from operations.rebuild.begin import begin
from operations.rebuild.copy import Copy
from operations.rebuild.ids import take_ids_over
from operations.rebuild.input import input_ends, list_schemas, make_topic, refuse_holes
from operations.rebuild.lag import At, ends_of, lags_of, missing
from operations.rebuild.place import SINKS, Place
from operations.setup import init
from sinks import postgres
from topics import group_offsets
from topics.lag import LagReader
from topics.names import Topics

log = EventLog("operations.rebuild")

Ends = Mapping[At, int]


def start(place: Place, *, follow: bool) -> Place:
    """Build the shadow up to the end of the input as of now, or for ever; safe to end anywhere and to run again.

    Raises Refused for an input with a hole, and for a prefix or a database that are somebody else's.
    """
    refuse_holes(place)
    place = begin(place)
    # 1. Its own input, on the producers' times. 2. All else, with `init`, which finds the input there.
    if place.copied:
        make_topic(place)
        list_schemas(place)
    report = init.initialise(place.shadow)
    for warning in report.warnings:
        # That its copied input is on CreateTime is what a copy needs; `switch` ends it.
        if not (place.copied and (place.shadow.input or "") in warning):
            log.warning("retention", costs=warning)
    # 3. Before anything is folded: which schema ids count.
    take_ids_over(place)
    catch_up(place, follow=follow)
    return place


def catch_up(place: Place, *, last: bool = False, follow: bool = False) -> None:
    """Copy where there is a copy, fold and write up to the end of the live input as of now.

    `last`: nobody writes to the input any more. `follow`: go on until somebody ends this. Raises Stopped when a
    child ends.
    """
    ends = input_ends(place)
    with ExitStack() as stack:
        running = stack.enter_context(children(place))
        copy = stack.enter_context(Copy(place)) if place.copied else None
        if copy:
            _copy_to(copy, ends, running, last=last)
        try:
            _fill(place, running)
        except NotReachable as away:
            raise NotReachable(f"{away}; run it again, it goes on") from None
        if follow:
            log.info("following", prefix=place.shadow.prefix)
        while follow:
            _check(running)
            if copy is None or not copy.step():
                time.sleep(LOOK_EVERY_S)


def _copy_to(copy: Copy, ends: Mapping[int, int], running: Children, *, last: bool) -> None:
    """Copy the live input up to these ends."""

    def left() -> int:
        return sum(end - min(copy.copied[at], end) for at, end in ends.items())

    count, began, total = 0, time.monotonic(), left()
    with progress("copying", total) as advance:
        while not copy.has_all_before(ends):
            _check(running)
            count += copy.step(last=last)
            advance(total - left())
        advance(total)
    _log_rate("copied", count, time.monotonic() - began)


def _log_rate(what: str, records: int, took_s: float) -> None:
    rate = round(records / took_s) if took_s else 0
    log.info("caught_up", what=what, records=records, seconds=round(took_s, 1), records_a_second=rate)


def _check(running: Children) -> None:
    """Raise Stopped, in one line, if the worker or the sinks have ended."""
    try:
        running.check()
    except Stopped as ended:
        first, *lines = str(ended).splitlines()
        raise Stopped(
            f"{first.removesuffix(' ends with:')} says: {lines[-1].strip() if lines else ''}"
        ) from None


@contextmanager
def children(place: Place) -> Iterator[Children]:
    """The shadow's worker and sinks, stopped in order when the block is left, however that is."""
    logs = place.folder / "logs"
    for folder in (place.folder, logs, place.shadow.state_dir, empty := place.folder / "work"):
        folder.mkdir(parents=True, exist_ok=True)
    # What is not set here must not come from the caller's variables, nor from a .env file.
    variables = {f"WALLET_{name.upper()}": "" for name in Settings.model_fields}
    variables |= context.environment(place.shadow)
    with Children(variables, logs, works_in=empty) as running:
        for name in ("worker", "sink"):
            attended = (sys.executable, "-m", "operations.cli.attended", str(os.getpid()))
            running.start_command(name, *attended, name)
        yield running


def _fill(place: Place, running: Children) -> None:
    """Wait until the shadow's input as of now is folded, and all of that written; raises when a child ends."""
    settings, topics = place.shadow, Topics.of(place.shadow)
    with closing(lags_of(place)) as lags:
        _until(
            "folding",
            ends_of(place, topics.transactions),
            lambda: _folded(place),
            lags,
            running,
            settings.read_stall_s,
        )
        derived = dict(end for sink in SINKS for end in ends_of(place, getattr(topics, sink)).items())
        _until("writing rows", derived, lambda: _written(settings), lags, running, settings.read_stall_s)


def _until(
    title: str,
    ends: Ends,
    position: Callable[[], Mapping[At, int | None]],
    lags: LagReader,
    running: Children,
    stall_s: float,
) -> None:
    before, began = _done(position(), ends), time.monotonic()
    total = sum(ends.values()) - before

    def done() -> int:
        _check(running)
        found = position()
        # What is left may be marks of transactions alone.
        return _done(found, ends) - before if missing(lags, found, ends) else total

    def stalled(now: int) -> NotReachable:
        return NotReachable(f"{title}: no progress for {stall_s:g} s, {now} of {total} are done")

    until_done(title, total, done, stall_s=stall_s, stalled=stalled)
    _log_rate(title, total, time.monotonic() - began)


def _done(positions: Mapping[At, int | None], ends: Ends) -> int:
    return sum(min(positions.get(at) or 0, end) for at, end in ends.items())


def _folded(place: Place) -> dict[At, int | None]:
    topic = Topics.of(place.shadow).transactions
    folded = group_offsets.offsets(place.shadow, topic, range(place.shadow.partitions), wait=False)
    return {(topic, at): offset for at, offset in folded.items()}


def _written(settings: Settings) -> dict[At, int | None]:
    return {at: row.next_offset for at, row in postgres.written(settings).items()}
