"""The topics of an audit, one reader each."""

from typing import Self

from config.settings import Settings
from topics.incoming import Incoming
from topics.names import GROWTH_BYTES, Topics


class Opened:
    """Readers of topics, opened on first use."""

    def __init__(self, settings: Settings, max_record_bytes: int) -> None:
        # Derived records are larger: they add an entry's numbers or a rejection's headers.
        self._settings, self._most_bytes = settings, 2 * max_record_bytes + GROWTH_BYTES
        self._input_bytes = max_record_bytes
        self._readers: dict[str, Incoming] = {}

    def __call__(self, topic: str) -> Incoming:
        """The reader for a topic."""
        if topic not in self._readers:
            is_input = topic == Topics.of(self._settings).transactions
            most_bytes = self._input_bytes if is_input else self._most_bytes
            self._readers[topic] = Incoming(self._settings, topic, most_bytes)
        return self._readers[topic]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._readers.values():
            reader.close()
