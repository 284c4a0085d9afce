"""`wallet rebuild switch`: switch from the live pipeline to its shadow, checked step by step; reports the pause.

It changes no settings but prints which to change. A dry run is a rehearsal: it verifies the shadow and keeps the
verified point, so that the switch itself only has to verify what came later.
"""

import re
import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import typer

from audit.report import Report
from config.errors import Refused
from config.times import rfc3339
from operations.cli.output import as_line
from operations.rebuild import run as rebuild_run
from operations.rebuild import status as rebuild_status
from operations.rebuild.place import Rebuild, groups_of, write_record
from operations.rebuild.status import ends_of
from operations.verify import run as verify
from operations.verify.run import Options
from sinks import shadow
from sinks.postgres import connect
from topics import group_offsets
from topics.cluster import all_there, describe
from topics.lag import TopicPart
from topics.names import LOG_APPEND_TIME, Topics
from topics.topic_settings import alter

#: Producers are taken to be stopped when nothing came for this long.
QUIET_S = 2.0


@dataclass(frozen=True)
class Change:
    """One setting of workers, sinks and readers, before and after; None means not set."""

    setting: str
    live: str | None
    shadow: str | None


@dataclass(frozen=True)
class Outcome:
    """What prevents the switch or, if nothing does, what to change. Times in seconds.

    `verified_offsets` is how much of the shadow's input is verified; None if there are differences.
    """

    executed: bool
    obstacles: tuple[str, ...]
    changes: tuple[Change, ...]
    input: str
    input_changes: bool
    verified_offsets: int | None
    pause_s: float | None


def run(place: Rebuild, *, execute: bool) -> Outcome:
    """Rehearse, or with `execute` do it; raises Refused while the live pipeline is running."""
    record = place.begun()
    busy = at_work(place)
    if not execute:
        return _rehearsed(place, busy)
    if busy:
        raise Refused(f"the live pipeline is still running: stop {'; '.join(busy)}; then run this again")
    # 1. The shadow reaches the end of an input that nobody adds to, 2. is verified, 3. is opened to upstream.
    _complete(place)
    report = _verified(place)
    if not report.clean:
        raise Refused(
            f"the shadow has {report.differences.total} differences, nothing was switched: "
            f"`WALLET_PREFIX={place.shadow.prefix} wallet verify` shows them"
        )
    if place.copied:
        _open_to_upstream(place)
    if not record.switched_at:
        now = rfc3339(datetime.now(UTC))
        write_record(place.shadow, place.client, replace(record, switched_at=now))
    with closing(connect(place.live)) as connection:
        pause_s = shadow.idle_s(connection)
    return _outcome(place, report, executed=True, obstacles=(), pause_s=pause_s)


def at_work(place: Rebuild) -> list[str]:
    """What is running for the live pipeline: members of its groups, and sinks connected to its database."""
    found = [
        f"{member} of group {group}" for group in groups_of(place.live) for member in members(place, group)
    ]
    with closing(connect(place.live)) as connection:
        return found + shadow.sink_sessions(connection)


def members(place: Rebuild, group: str) -> list[str]:
    """The members of a group: client and host of each."""
    found = group_offsets.members(place.live, group)
    return [f"{member.client_id} at {member.host.lstrip('/')}" for member in found]


def _rehearsed(place: Rebuild, busy: list[str]) -> Outcome:
    """Verify as much as there is, and list what is missing."""
    progress = rebuild_status.look(place)
    obstacles = [f"stop {one}" for one in busy]
    obstacles += [f"{reader} is {lag:,} records behind" for reader, lag in progress.lags().items() if lag]
    if place.copied:
        obstacles.append(f"stop what sends to {place.input}")
    report = _verified(place)
    if not report.clean:
        obstacles.append(f"{report.differences.total} differences in the shadow: see `wallet verify`")
    return _outcome(place, report, executed=False, obstacles=tuple(obstacles), pause_s=None)


def _complete(place: Rebuild) -> None:
    """Check that the input has stopped growing, and let the shadow reach its end."""
    if place.copied:
        ends = _very_ends(place)
        time.sleep(QUIET_S)
        _refuse_unless_still(place, ends_of(place, place.input), ends)
    if not rebuild_status.look(place).complete:
        rebuild_run.catch_up(place, last=True)
    if place.copied:
        _refuse_unless_still(place, _very_ends(place), ends)


def _very_ends(place: Rebuild) -> dict[TopicPart, int]:
    """The ends of the live input, open transactions included."""
    return all_there(place.client, [(place.input, at) for at in range(place.live.partitions)])


def _refuse_unless_still(place: Rebuild, now: dict[TopicPart, int], before: dict[TopicPart, int]) -> None:
    if now != before:
        raise Refused(
            f"records still arrive in {place.input}, or a transaction is open in it: stop its producers, then run this "
            "again"
        )


def _verified(place: Rebuild) -> Report:
    """Verify the shadow from its last verified point, if there is one, and save the new point."""
    # Points are named by start time: an earlier shadow may have had the same name.
    point = place.folder / f"verified-{re.sub('[^0-9]', '', place.begun().started_at)}"
    since: Path | None = point if point.exists() else None
    return verify.run(place.shadow, Options(since=since, save=point))


def _open_to_upstream(place: Rebuild) -> None:
    """From now on records get the broker's time, as in the live input."""
    topic = place.shadow.input or ""
    if describe(place.client, [place.input])[place.input].on_brokers_time:
        alter(place.client, topic, LOG_APPEND_TIME)


def _outcome(
    place: Rebuild, report: Report, *, executed: bool, obstacles: tuple[str, ...], pause_s: float | None
) -> Outcome:
    return Outcome(
        executed,
        obstacles,
        tuple(_changes(place)),
        place.shadow.input or "",
        place.copied,
        sum(one.to_offset for one in report.covered) if report.clean else None,
        pause_s,
    )


def _changes(place: Rebuild) -> list[Change]:
    """The settings that differ; the database's is named, but never its value."""
    live, beside = place.live, place.shadow
    changes = [
        Change("WALLET_PREFIX", live.prefix, beside.prefix),
        Change("WALLET_POSTGRES", None, "what WALLET_REBUILD_POSTGRES is now"),
    ]
    own = Topics.of(beside.model_copy(update={"input": None})).transactions
    wanted = None if beside.input == own else beside.input
    if live.input != wanted:
        changes.append(Change("WALLET_INPUT", live.input, wanted))
    for name in ("partitions", "snapshot_every", "overdraft", "max_record_bytes", "id_window_days"):
        before, after = getattr(live, name), getattr(beside, name)
        if before != after:
            changes.append(
                Change(f"WALLET_{name.upper()}", str(before), None if after is None else str(after))
            )
    changes.append(Change("WALLET_STATE_DIR", str(live.state_dir), str(beside.state_dir)))
    return changes


def show(outcome: Outcome, *, as_json: bool) -> None:
    """Print what to do next."""
    if as_json:
        typer.echo(as_line(asdict(outcome)))
        return
    if outcome.verified_offsets is not None:
        typer.echo(f"verified: {outcome.verified_offsets:,} offsets of the shadow's input, no differences")
    for obstacle in outcome.obstacles:
        typer.echo(f"before the switch: {obstacle}")
    typer.echo(
        "change these settings of workers, sinks and readers now:"
        if outcome.executed
        else "settings to change when you switch:"
    )
    for change in outcome.changes:
        typer.echo(
            f"  {change.setting}={change.shadow or ''}" + (f"   (was {change.live})" if change.live else "")
        )
    if outcome.input_changes:
        typer.echo(
            f"producers send to {outcome.input} from now on"
            if outcome.executed
            else f"producers move to {outcome.input}"
        )
    if outcome.executed and outcome.pause_s is not None:
        typer.echo(f"pause so far: {outcome.pause_s:.1f} s since the live pipeline wrote its last row")
    if not outcome.executed:
        typer.echo("rehearsal, nothing was changed: stop the live pipeline, then add --execute")
