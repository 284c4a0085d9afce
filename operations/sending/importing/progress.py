"""How far an import is, kept in Kafka: the offset of the group `<prefix>.import`, with metadata.

The offset counts the lines done. It commits in the Kafka transaction with the lines' records, so the two agree after
any crash. A group that is idle for long (`offsets.retention.minutes`, a week) loses its offsets: an import that then
starts over is refused because of the dates already in the input.
"""

import json
from dataclasses import asdict, dataclass

from confluent_kafka import TopicPartition

from config.errors import Refused
from config.settings import Settings
from topics import group_offsets
from topics.names import Topics


@dataclass(frozen=True)
class Progress:
    """The progress of one import; `done` and `lines` count the lines that are not empty, including bad ones.

    `digest` identifies the files by content; `begun_ms` is when the import began, epoch milliseconds. These alone
    decide which lines are bad, so a resumed import sends what it would have sent.
    """

    digest: str
    lines: int
    begun_ms: int
    done: int = 0

    @property
    def finished(self) -> bool:
        """Whether every line is done."""
        return self.done >= self.lines


def group(settings: Settings) -> str:
    """The group that keeps an import's progress; nobody joins it."""
    return f"{settings.prefix}.import"


def as_offset(settings: Settings, progress: Progress) -> TopicPartition:
    """The progress as an offset to commit with the records."""
    note = {name: value for name, value in asdict(progress).items() if name != "done"}
    return TopicPartition(Topics.of(settings).transactions, 0, progress.done, json.dumps(note))


def read(settings: Settings) -> Progress | None:
    """The newest committed progress; None if nothing was imported (or a week has passed)."""
    name = group(settings)
    at = group_offsets.committed(settings, Topics.of(settings).transactions, [0], name)[0]
    return _progress(name, at) if at.offset >= 0 else None


def _progress(name: str, at: TopicPartition) -> Progress:
    try:
        return Progress(done=at.offset, **json.loads(at.metadata or ""))
    except (ValueError, TypeError):
        raise Refused(
            f"the offset of group {name} was not written by an import: find out what else uses this group"
        ) from None
