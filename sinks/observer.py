"""What a sink reports while it runs: for readiness, metrics and progress bars."""

from collections.abc import Callable, Collection, Mapping, Sequence

from sinks.tables import TableRows


class Observer:
    """Hears what the sinks do, from their threads; override what you need."""

    def assigned(self, sink: str, partitions: Collection[int]) -> None:
        """The partitions this sink now owns, all of them; it is ready."""

    def reached(self, sink: str, offsets: Mapping[int, int]) -> None:
        """The partitions of this sink, all of them, each with its next offset as it is in PostgreSQL."""

    def wrote(self, sink: str, records: int, seconds: float) -> None:
        """A batch is in PostgreSQL."""

    def rows(self, sink: str, tables: Sequence[TableRows], newest_ms: int | None) -> None:
        """The rows of a batch that is in PostgreSQL; the timestamp of its newest record that is new."""

    def fenced(self, sink: str, partitions: Collection[int]) -> None:
        """Another owner took these partitions."""

    def waiting(self, sink: str, reason: str) -> None:
        """PostgreSQL or Kafka is away; repeated at each attempt, until `goes_on`, `wrote` or `assigned`."""

    def goes_on(self, sink: str) -> None:
        """What it waited for is back."""


class Observers(Observer):
    """Passes on what it hears to several."""

    def __init__(self, *observers: Observer) -> None:
        for name in (name for name in vars(Observer) if not name.startswith("_")):
            setattr(self, name, _to_all([getattr(one, name) for one in observers]))


def _to_all(several: list[Callable[..., None]]) -> Callable[..., None]:
    def tell(*heard: object) -> None:
        for one in several:
            one(*heard)

    return tell
