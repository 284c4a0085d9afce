"""What a sink tells while it runs: for readiness, metrics and progress bars."""

from collections.abc import Collection


class Observer:
    """Hears what the sinks do, from their threads; override what is of interest."""

    def assigned(self, sink: str, partitions: Collection[int]) -> None:
        """The partitions this sink now owns, all of them; it is ready."""

    def wrote(self, sink: str, records: int, seconds: float) -> None:
        """A batch is in Postgres."""

    def waiting(self, sink: str, reason: str) -> None:
        """Postgres or Kafka is away; said again at each attempt, until `wrote` or `assigned`."""
