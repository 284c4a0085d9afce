"""Which schema ids count in a partition, and from which record on.

What decides must be in the log, since a registry's versions come and go: an accepted id is written to the pipeline
topic in the transaction of the first batch that uses it, and counts from then on, whatever becomes of it in the
registry. Folding the partition again reads it there.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from config.errors import Refused
from schemas.writers import NotATransaction, WriterSchema, writer_schema

#: Returns the schema of an id, None if it is not a Transaction's.
Ask = Callable[[int], WriterSchema | None]
PREFIX = b"schema:"


@dataclass(frozen=True)
class Accepted:
    """A schema id that counts in a partition from a source offset on; `schema` is complete, without references.

    The pipeline's own id has a record in each partition, too: it says that this partition keeps its ids in the topic
    at all. Below its `complete_to` only the ids in the topic count, and the registry must not be asked.
    """

    schema_id: int
    partition: int
    from_offset: int
    schema: str
    complete_to: int | None = None

    @property
    def key(self) -> bytes:
        """The record's key: `schema:<id>:<partition>`."""
        return b"%s%d:%d" % (PREFIX, self.schema_id, self.partition)

    def to_json(self) -> bytes:
        """The record's value."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        # In ASCII: a schema's text may hold half of a surrogate pair, which is not valid UTF-8.
        return json.dumps(fields).encode()

    @classmethod
    def from_record(cls, key: bytes, value: bytes) -> "Accepted":
        """Read a record; raises Refused for one that this program cannot have written."""
        try:
            one = cls(**json.loads(value))
            numbers = (one.schema_id, one.partition, one.from_offset, one.complete_to or 0)
            if one.key == key and all(type(number) is int and number >= 0 for number in numbers):
                writer_schema(one.schema)
                return one
        except (TypeError, ValueError, NotATransaction):
            pass
        raise Refused(
            f"the record {key.decode(errors='replace')!r} of the pipeline topic cannot be read: was it written by "
            "hand, or by a newer release (then upgrade)?"
        )


class AcceptedIds:
    """Answers a fold's questions about the ids of one partition: from the topic, else from the registry.

    Without `ask` only the ids in the topic count. A newly accepted id waits in `unwritten` for the batch that uses it.
    """

    def __init__(
        self, partition: int, written: Iterable[Accepted] = (), ask: Ask | None = None, asked_from: int = 0
    ) -> None:
        self._partition = partition
        self._accepted = {one.schema_id: one for one in written}
        self._ask = ask
        self._asked_from = asked_from
        self.unwritten: list[Accepted] = []

    def __call__(self, schema_id: int, offset: int) -> WriterSchema | None:
        """The schema of this id for the record at this source offset, None if it does not count."""
        if (known := self._accepted.get(schema_id)) is not None:
            return writer_schema(known.schema) if offset >= known.from_offset else None
        if self._ask is None or offset < self._asked_from:
            return None
        writer = self._ask(schema_id)
        if writer is not None:
            self.accept(Accepted(schema_id, self._partition, offset, writer.text))
        return writer

    def accept(self, one: Accepted) -> None:
        """Let an id count; the next batch writes it."""
        self._accepted[one.schema_id] = one
        self.unwritten.append(one)
