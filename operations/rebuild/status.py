"""`wallet rebuild status`: how far the copy, the shadow's worker and its sinks are in each partition.

A reader that is behind an end may still have every record before it: offsets also count transaction marks.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from threading import Event

import typer

from config.settings import Settings
from config.stopping import NEVER, go_on
from operations.cli.output import as_line, console, lag_cell, show_table, table
from operations.looking.status import Step
from operations.rebuild.input import input_ends
from operations.rebuild.place import Rebuild
from sinks import shadow
from sinks.names import WRITING, topic_of
from sinks.postgres import questions
from topics import group_offsets
from topics.cluster import all_there, describe
from topics.incoming import Incoming
from topics.lag import LagReader, TopicPart
from topics.names import Topics


def ends_of(place: Rebuild, topic: str) -> dict[TopicPart, int]:
    """The current end of each partition of the live input or of one of the shadow's topics.

    For the shadow's topics, the very end: missing marks are on their way. For the live input, the read-committed end:
    what an upstream transaction holds open may never commit.
    """
    if topic == place.input:
        return {(topic, at): end for at, end in input_ends(place).items()}
    return all_there(place.client, [(topic, at) for at in range(place.shadow.partitions)])


def lags_of(place: Rebuild) -> LagReader:
    """A reader of lags in the live input and the shadow's topics."""
    return LagReader(place.shadow, Incoming.for_lag(place.live, place.input))


def missing(
    lags: LagReader, positions: Mapping[TopicPart, int | None], ends: Mapping[TopicPart, int]
) -> dict[TopicPart, int]:
    """About how many records are missing in each partition that is not read to its end; empty is exact.

    An end beyond the read-committed one is reached only when that has caught up.
    """
    behind = {at: positions.get(at) or 0 for at, end in ends.items() if (positions.get(at) or 0) < end}
    looked = lags.look(behind)
    return {
        at: ends[at] - position
        for at, position in behind.items()
        if at not in looked or looked[at].records != 0 or looked[at].stable_end < ends[at]
    }


@dataclass(frozen=True)
class Progress:
    """The state of a shadow; `steps` is empty until its topics exist."""

    live: str
    shadow: str
    input: str
    copied: bool
    started_at: str
    switched_at: str | None
    steps: tuple[Step, ...]

    @property
    def complete(self) -> bool:
        """Whether everything in the live input is copied, folded and written."""
        return bool(self.steps) and not any(step.lag for step in self.steps)

    def lags(self) -> dict[str, int]:
        """Number of records that each reader has not read."""
        readers = dict.fromkeys(step.reader for step in self.steps)
        return {name: sum(step.lag for step in self.steps if step.reader == name) for name in readers}


def look(place: Rebuild, stop: Event = NEVER) -> Progress:
    """Look at a shadow once; raises Refused if there is none, Stopped once `stop` is set."""
    record = place.begun()
    steps: list[Step] = []
    topics = Topics.of(place.shadow)
    if len(describe(place.client, topics.partitioned)) == len(topics.partitioned):
        with closing(lags_of(place)) as lags:
            if place.copied:
                copied = handled(place.copying, place.input, place.live.partitions)
                steps += _steps(place, lags, "copy", place.input, copied)
            folded = handled(place.shadow, topics.transactions, place.shadow.partitions)
            steps += _steps(place, lags, "worker", topics.transactions, folded)
            rows = written(place.shadow) if _has_tables(place) else {}
            for sink in WRITING:
                go_on(stop)
                steps += _steps(place, lags, f"sink {sink}", topic_of(topics, sink), rows)
    return Progress(
        place.live.prefix,
        place.shadow.prefix,
        place.input,
        place.copied,
        record.started_at,
        record.switched_at,
        tuple(steps),
    )


def show(progress: Progress, *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        typer.echo(as_line(asdict(progress) | {"complete": progress.complete}))
        return
    rows = (
        (
            step.reader,
            step.topic,
            step.partition,
            "-" if step.position is None else f"{step.position:,}",
            f"{step.end:,}",
            lag_cell(step.lag, f"{step.lag:,}"),
        )
        for step in progress.steps
    )
    title = f"shadow {progress.shadow} of {progress.live}, started {progress.started_at}"
    numbers = ("partition", "position", "end", "lag")
    output = console()
    show_table(table(("reader", "topic", *numbers), rows, numbers=numbers, title=title))
    if progress.switched_at:
        output.print(f"switched to at {progress.switched_at}", markup=False)
    if progress.complete:
        output.print(f"complete: it has everything in {progress.input}", style="green")
    else:
        behind = ", ".join(f"{reader} {lag:,}" for reader, lag in progress.lags().items() if lag)
        output.print(
            f"incomplete: {behind or 'no topics yet'}; continue with `wallet rebuild start`", markup=False
        )


def _steps(
    place: Rebuild, lags: LagReader, reader: str, topic: str, positions: Mapping[TopicPart, int | None]
) -> list[Step]:
    ends = ends_of(place, topic)
    left = missing(lags, positions, ends)
    return [Step(reader, *at, positions.get(at), end, left.get(at, 0)) for at, end in ends.items()]


def handled(settings: Settings, topic: str, partitions: int) -> dict[TopicPart, int | None]:
    """The offset of the settings' group in each partition."""
    found = group_offsets.offsets(settings, topic, range(partitions), wait=False)
    return {(topic, at): offset for at, offset in found.items()}


def written(settings: Settings) -> dict[TopicPart, int | None]:
    """Up to where the rows of each partition of the shadow's topics are in its tables."""
    return {at: row.next_offset for at, row in questions.written(settings).items()}


def _has_tables(place: Rebuild) -> bool:
    with closing(shadow.connect_shadow(place.shadow)) as connection:
        return "sink_positions" in shadow.tables(connection)
