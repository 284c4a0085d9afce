"""How far an import is, kept by Kafka itself: the offset of the group `<prefix>.import` with a note beside it.

The offset counts lines of the files that are done. It commits in the Kafka transaction that holds the lines' records,
so after a crash at any line the two agree. A group that is idle for long loses its offsets
(`offsets.retention.minutes`, a week): an import that is begun anew then is refused by the dates of what is there.
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
    """What is done of one import; `done` and `lines` count the lines that are not empty, bad ones included.

    `digest` says which files, by their content; `begun_ms` is when the import began, epoch milliseconds. Which lines
    are bad follows from these alone, so an import that is resumed sends what it would have sent.
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
    """The group that an import keeps its progress in; nobody joins it."""
    return f"{settings.prefix}.import"


def as_offset(settings: Settings, progress: Progress) -> TopicPartition:
    """What a transaction commits beside its records."""
    note = {name: value for name, value in asdict(progress).items() if name != "done"}
    return TopicPartition(Topics.of(settings).transactions, 0, progress.done, json.dumps(note))


def read(settings: Settings) -> Progress | None:
    """The newest progress that is committed, None where nothing was imported (or a week has passed)."""
    name = group(settings)
    at = group_offsets.committed(settings, Topics.of(settings).transactions, [0], name)[0]
    return _progress(name, at) if at.offset >= 0 else None


def _progress(name: str, at: TopicPartition) -> Progress:
    try:
        return Progress(done=at.offset, **json.loads(at.metadata or ""))
    except (ValueError, TypeError):
        raise Refused(f"the offset of group {name} is not an import's: who else uses this group?") from None
