"""The options of `wallet verify`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from config.errors import ConfigurationError
from config.pipeline import Pipeline
from config.settings import Settings
from config.times import rfc3339
from operations.cli.arguments import partitions_of
from operations.looking.time_lookup import offsets_at
from operations.verify import exported
from operations.verify import point as verify_point


@dataclass(frozen=True)
class Options:
    """What to verify: all partitions or one, from the start or a verified point, up to an end."""

    partition: int | None = None
    to_offset: int | None = None
    to_time: datetime | None = None
    since: Path | None = None
    save: Path | None = None
    postgres: bool = True
    shown: int = 20
    jobs: int = 1
    export: Path | None = None

    @property
    def to_an_end(self) -> bool:
        """Whether an end is given."""
        return self.to_offset is not None or self.to_time is not None

    def check(self) -> None:
        """Raise ConfigurationError for contradictory options."""
        if self.to_offset is not None and self.partition is None:
            raise ConfigurationError("--to-offset needs one partition: add --partition N")
        if self.to_offset is not None and self.to_time is not None:
            raise ConfigurationError("use either --to-offset or --to-time, not both")
        if self.to_time and self.to_time > datetime.now(UTC):
            raise ConfigurationError(
                f"--to-time {rfc3339(self.to_time)} is in the future: leave it out for now"
            )
        if self.save and self.to_an_end:
            raise ConfigurationError(
                "--save saves the state at the newest decided records: leave out --to-offset and --to-time"
            )
        if self.save:
            verify_point.refuse_to_replace(self.save)
        self._check_export()

    def check_offline(self) -> None:
        """Raise ConfigurationError for options that do not work with an export."""
        if self.to_an_end or self.since or self.save or self.jobs > 1:
            raise ConfigurationError(
                "--from can be combined only with --partition, --show, --json and --export"
            )
        self._check_export()

    def _check_export(self) -> None:
        if self.export:
            exported.refuse_unwritable(self.export)

    def partitions(self, pipeline: Pipeline) -> list[int]:
        """The partitions to verify; raises ConfigurationError if one does not exist."""
        return partitions_of(pipeline.partitions, self.partition)

    def limits(self, settings: Settings, partitions: Sequence[int]) -> dict[int, int]:
        """The given ends, by partition; empty if the newest decided records are the end."""
        if self.to_offset is not None:
            return dict.fromkeys(partitions, self.to_offset)
        if self.to_time is not None:
            found = offsets_at(settings, partitions, self.to_time)
            return {at: offset for at, offset in found.items() if offset is not None}
        return {}
