"""How far an import is, kept in Kafka: the offset of the group `<prefix>.import`, with metadata.

The offset counts the lines done. It commits in the Kafka transaction with the lines' records, so the two agree after
any crash. A group that is idle for long (`offsets.retention.minutes`, a week) loses its offsets: an import that then
starts over is refused because of the dates already in the input.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from confluent_kafka import TopicPartition

from config.errors import Refused
from config.settings import Settings
from operations.sending.importing.lines import Dated
from schemas.codec import frame
from schemas.producer import FRAMING_BYTES, PARTITION_UA
from topics import group_offsets
from topics.exactly_once import ExactlyOnce
from topics.names import Topics

#: Most lines, and about how many bytes, in one Kafka transaction.
BATCH_LINES = 10_000
BATCH_BYTES = 32 * 1024 * 1024


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


def progress_group(settings: Settings) -> str:
    """The group that keeps an import's progress; nobody joins it."""
    return f"{settings.prefix}.import"


def as_offset(settings: Settings, progress: Progress) -> TopicPartition:
    """The progress as an offset to commit with the records."""
    note = {name: value for name, value in asdict(progress).items() if name != "done"}
    return TopicPartition(Topics.of(settings).transactions, 0, progress.done, json.dumps(note))


def read_progress(settings: Settings) -> Progress | None:
    """The newest committed progress; None if nothing was imported (or a week has passed)."""
    name = progress_group(settings)
    at = group_offsets.committed(settings, Topics.of(settings).transactions, [0], name)[0]
    return _progress(name, at) if at.offset >= 0 else None


def _progress(name: str, at: TopicPartition) -> Progress:
    try:
        return Progress(done=at.offset, **json.loads(at.metadata or ""))
    except (ValueError, TypeError):
        raise Refused(
            f"the offset of group {name} was not written by an import: find out what else uses this group"
        ) from None


class ImportProducer(ExactlyOnce):
    """The one producer that may import into a pipeline: `<prefix>-import` is its transactional id."""

    def __init__(self, settings: Settings, schema_id: int) -> None:
        super().__init__(
            settings,
            f"{settings.prefix}-import",
            progress_group(settings),
            taken_over=(
                f"another `wallet import` of the pipeline {settings.prefix!r} has taken over and continues where this "
                "one stopped"
            ),
            again="run the same import again to continue where this one stopped",
            partitioner="murmur2_random",
            linger_ms=20,
            queue_buffering_max_messages=4 * BATCH_LINES,
            message_max_bytes=settings.max_record_bytes + FRAMING_BYTES,
        )
        self._settings, self._frame = settings, frame(schema_id)

    def write_lines(self, batch: Sequence[Dated], progress: Progress) -> None:
        """Write these lines, each with its own time, and the new progress."""
        records = (
            (self._frame + body, key, PARTITION_UA, recorded_ms, ()) for key, body, recorded_ms in batch
        )
        self.write(Topics.of(self._settings).transactions, records, [as_offset(self._settings, progress)])
