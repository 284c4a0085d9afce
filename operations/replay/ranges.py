"""`wallet replay`: work out what to replay, and check it before anything starts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from config.errors import ConfigurationError, Refused
from config.settings import Settings
from config.times import rfc3339
from operations.cli.arguments import partitions_of
from operations.looking.time_lookup import offsets_at
from sinks import replay
from sinks.replay_positions import Stretch
from sinks.sink import Sink
from topics.cluster import Offsets, offsets, quiet_admin

_DURATION = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


@dataclass(frozen=True)
class Range:
    """The range on the command line. `back` is a duration before now; ends are excluded."""

    partition: int | None = None
    from_offset: int | None = None
    from_time: datetime | None = None
    back: timedelta | None = None
    from_beginning: bool = False
    to_offset: int | None = None
    to_time: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no range was given."""
        return self == Range()


@dataclass(frozen=True)
class Plan:
    """One sink's replay: its stretches, and where each of their partitions begins."""

    sink: Sink
    stretches: tuple[Stretch, ...]
    begins: Mapping[int, int]


def duration(option: str, text: str | None) -> timedelta | None:
    """A duration such as 36h, 7d or 1d12h; raises ConfigurationError for anything else."""
    if text is None:
        return None
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise ConfigurationError(
            f"{option} {text!r} is not a duration: write 36h, 7d or 1d12h (w, d, h, m, s)"
        )
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    try:
        return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        raise ConfigurationError(f"{option} {text!r} is too long: use --from-beginning") from None


def plans(settings: Settings, sinks: Sequence[Sink], wanted: Range) -> list[Plan]:
    """What each sink has to replay; raises ConfigurationError for an impossible range, Refused if it leaves a hole."""
    _check(settings, sinks, wanted)
    return [_plan(settings, sink, wanted) for sink in sinks]


def _check(settings: Settings, sinks: Sequence[Sink], wanted: Range) -> None:
    begins = (wanted.from_offset, wanted.from_time, wanted.back, wanted.from_beginning or None)
    if sum(one is not None for one in begins) != 1:
        raise ConfigurationError(
            "choose where to start: exactly one of --from-offset, --from, --back, --from-beginning"
        )
    if wanted.to_offset is not None and wanted.to_time is not None:
        raise ConfigurationError("use either --to-offset or --to, not both")
    partitions_of(settings.partitions, wanted.partition)
    if (wanted.from_offset is not None or wanted.to_offset is not None) and (
        wanted.partition is None or len(sinks) != 1
    ):
        raise ConfigurationError(
            "an offset needs one partition of one topic: name the sink and add --partition N"
        )
    now = datetime.now(UTC)
    for option, at in (("--from", wanted.from_time), ("--to", wanted.to_time)):
        if at is not None and at > now:
            raise ConfigurationError(f"{option} {rfc3339(at)} is in the future: use an earlier time")
    start = _from_time(wanted)
    if start and wanted.to_time and start > wanted.to_time:
        raise ConfigurationError(
            f"the replay would start at {rfc3339(start)}, after --to: use an earlier start"
        )


def _from_time(wanted: Range) -> datetime | None:
    if wanted.back is None:
        return wanted.from_time
    try:
        return datetime.now(UTC) - wanted.back
    except OverflowError:
        raise ConfigurationError("--back goes back before the year 1: use --from-beginning") from None


def _plan(settings: Settings, sink: Sink, wanted: Range) -> Plan:
    chosen = [wanted.partition] if wanted.partition is not None else [*range(settings.partitions)]
    found = offsets(quiet_admin(settings), {sink.topic: settings.partitions})
    logs = {partition: found[sink.topic, partition] for partition in chosen}
    begins = _offsets(settings, sink, logs, wanted.from_offset, _from_time(wanted), "--from-offset")
    ends = _offsets(settings, sink, logs, wanted.to_offset, wanted.to_time, "--to-offset")
    stretches = []
    for partition, log in logs.items():
        begin, end = begins.get(partition, log.begin), ends.get(partition, log.end)
        if begin > end and wanted.from_offset is not None:
            raise ConfigurationError(
                f"{sink.topic} partition {partition}: the start {begin} is after the end {end}"
            )
        stretches.append(Stretch(partition, min(begin, end), end, min(begin, end)))
    _refuse_holes(settings, sink, stretches, logs)
    return Plan(sink, tuple(stretches), {partition: log.begin for partition, log in logs.items()})


def _offsets(
    settings: Settings,
    sink: Sink,
    logs: Mapping[int, Offsets],
    offset: int | None,
    at: datetime | None,
    option: str,
) -> dict[int, int]:
    """The bound of each partition from an offset or a time; empty if neither is given."""
    if at is not None:
        found = offsets_at(settings, list(logs), at, sink.topic)
        return {partition: logs[partition].end if one is None else one for partition, one in found.items()}
    if offset is None:
        return {}
    for partition, log in logs.items():
        if not log.begin <= offset <= log.end:
            raise ConfigurationError(
                f"{option} {offset} is not in {sink.topic} partition {partition}, which holds {log.begin} to {log.end}"
            )
    return dict.fromkeys(logs, offset)


def _refuse_holes(
    settings: Settings, sink: Sink, stretches: Sequence[Stretch], logs: Mapping[int, Offsets]
) -> None:
    """Raise Refused for a stretch that starts beyond the sink's position: the records between would be missing."""
    positions = replay.positions_of(settings, sink)
    for one in stretches:
        position = positions.get(one.partition)
        stand = position.next_offset if position else logs[one.partition].begin
        if one.from_offset > stand and one.from_offset < one.to_offset:
            raise Refused(
                f"sink {sink.name} has read {sink.topic} partition {one.partition} only up to offset {stand}: a "
                f"replay from {one.from_offset} would leave a hole; start at {stand} or before, or run the sink"
            )
