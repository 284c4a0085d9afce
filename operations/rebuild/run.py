"""`wallet rebuild start`: make the shadow, fill it and keep it filled, with its own worker and sinks."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from config.errors import NotReachable, Refused, Stopped
from config.folders import locked, private
from config.logs import EventLog
from config.settings import Settings
from config.times import rfc3339
from operations.cli import context
from operations.cli.children import Children, attended
from operations.cli.output import LOOK_EVERY_S, progress, until_done
from operations.rebuild.copy import Copy
from operations.rebuild.input import input_ends, list_schemas, make_topic, refuse_holes, take_ids_over
from operations.rebuild.place import POLICIES, Rebuild, ShadowRecord, write_record
from operations.rebuild.status import ends_of, handled, lags_of, missing, written
from operations.setup import init
from sinks import shadow
from sinks.names import WRITING, topic_of
from topics.cluster import describe
from topics.lag import LagReader, TopicPart
from topics.names import Topics

log = EventLog("operations.rebuild")

Ends = Mapping[TopicPart, int]


def start(place: Rebuild, *, follow: bool) -> Rebuild:
    """Build the shadow up to the current end of the input, or follow it; can be interrupted and run again any time.

    Raises Refused if records are missing from the input, or if the prefix or the database belong to something else.
    """
    refuse_holes(place)
    place = begin(place)
    # 1. Its own input, on CreateTime. 2. Everything else, with `init`, which finds that input.
    if place.copied:
        make_topic(place)
        list_schemas(place)
    report = init.initialise(place.shadow)
    for warning in report.warnings:
        # A copied input must be on CreateTime until `switch`, so do not warn about it.
        if not (place.copied and (place.shadow.input or "") in warning):
            log.warning("retention", costs=warning)
    # 3. Before anything is folded: the accepted schema ids.
    take_ids_over(place)
    catch_up(place, follow=follow)
    return place


def catch_up(place: Rebuild, *, last: bool = False, follow: bool = False) -> None:
    """Copy if needed, fold, and write up to the current end of the live input.

    `last`: nobody writes to the input any more. `follow`: continue until interrupted. Raises Stopped if a child ends.
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
            raise NotReachable(f"{away}; run it again to continue") from None
        if follow:
            log.info("following", prefix=place.shadow.prefix)
        while follow:
            _check(running)
            if copy is None or not copy.step():
                time.sleep(LOOK_EVERY_S)


def _copy_to(copy: Copy, ends: Mapping[int, int], running: Children, *, last: bool) -> None:
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
    """Raise Stopped, with the child's last line, if the worker or the sinks have ended."""
    try:
        running.raise_if_ended()
    except Stopped as ended:
        first, *lines = str(ended).splitlines()
        raise Stopped(
            f"{first.removesuffix(' ends with:')} says: {lines[-1].strip() if lines else ''}"
        ) from None


@contextmanager
def children(place: Rebuild) -> Iterator[Children]:
    """The shadow's worker and sinks, stopped whichever way the block is left."""
    logs = place.folder / "logs"
    for folder in (place.folder, logs, place.shadow.state_dir, empty := place.folder / "work"):
        folder.mkdir(parents=True, exist_ok=True)
    # Set every setting: none may come from the caller's variables or a .env file.
    variables = {f"WALLET_{name.upper()}": "" for name in Settings.model_fields}
    variables |= context.environment(place.shadow)
    with Children(variables, logs, works_in=empty) as running:
        for name in ("worker", "sink"):
            running.start_command(name, *attended(name))
        yield running


def _fill(place: Rebuild, running: Children) -> None:
    """Wait until the shadow's current input is folded and written; raises if a child ends."""
    settings, topics = place.shadow, Topics.of(place.shadow)
    with closing(lags_of(place)) as lags:
        until = partial(_until, lags, running, settings.read_stall_s)
        folded = partial(handled, settings, topics.transactions, settings.partitions)
        until("folding", ends_of(place, topics.transactions), folded)
        derived = dict(end for sink in WRITING for end in ends_of(place, topic_of(topics, sink)).items())
        until("writing rows", derived, lambda: written(settings))


def _until(
    lags: LagReader,
    running: Children,
    stall_s: float,
    title: str,
    ends: Ends,
    position: Callable[[], Mapping[TopicPart, int | None]],
) -> None:
    before, began = _done(position(), ends), time.monotonic()
    total = sum(ends.values()) - before

    def done() -> int:
        _check(running)
        found = position()
        # What is left may be transaction marks only.
        return _done(found, ends) - before if missing(lags, found, ends) else total

    def stalled(now: int) -> NotReachable:
        return NotReachable(f"{title}: no progress for {stall_s:g} s, {now} of {total} done")

    until_done(title, total, done, stall_s=stall_s, stalled=stalled)
    _log_rate(title, total, time.monotonic() - began)


def _done(positions: Mapping[TopicPart, int | None], ends: Ends) -> int:
    return sum(min(positions.get(at) or 0, end) for at, end in ends.items())


def begin(place: Rebuild) -> Rebuild:
    """Write the record that makes the prefix a shadow; raises Refused if anything else exists under it."""
    if place.record:
        if place.record.switched_at:
            raise Refused(
                f"{place.shadow.prefix!r} was switched to at {place.record.switched_at}: choose another --prefix"
            )
        return place
    there = describe(place.client, place.own_topics[:-1])
    if there:
        raise Refused(
            f"{', '.join(sorted(there))} exist but are not a shadow of {place.live.prefix!r}: choose another --prefix"
        )
    with closing(shadow.connect_shadow(place.shadow)) as connection:
        if found := shadow.tables(connection):
            raise Refused(
                f"the database of WALLET_REBUILD_POSTGRES is not empty ({', '.join(found[:5])}): create an empty one"
            )
    now = rfc3339(datetime.now(UTC))
    fixed = {name: getattr(place.shadow, name) for name in POLICIES}
    record = ShadowRecord(place.live.prefix, place.input, place.input_id, place.database, fixed, now)
    write_record(place.shadow, place.client, record)
    return replace(place, record=record)


def alone(place: Rebuild) -> AbstractContextManager[None]:
    """Only one command at a time works on a shadow's folder; a second one is refused and told the first one's pid."""
    private(place.folder, "the shadow's folder, in WALLET_STATE_DIR,")
    return locked(
        place.folder / "lock",
        lambda process: Refused(
            f"process {process} is working on the shadow {place.shadow.prefix!r}: wait for it, or stop it"
        ),
    )
