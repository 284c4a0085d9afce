"""One derived topic beside the fold: what must come, in its order, against what is there.

While both agree, batches are compared as lists of tuples, in one step. Where they do not, records are matched by
what they are known by, within bounded sight, so that one record too many or too few is told as just that.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

from confluent_kafka import Message

from operations.verify.kinds import Kind, Record, records_of
from operations.verify.reading import Reading
from operations.verify.report import Difference, Differences, Fields, What, differing
from streams.batch import Derived
from streams.posting import CUT_NAME, ID_IN_HEADER

CHUNK = 10_000
#: Records looked at beyond a batch for one that is missing in it.
SIGHT = 2_000


class Found(NamedTuple):
    """A record of the topic."""

    offset: int
    record: Record


class Lane:
    """One partition of one derived topic. Call `compare` with each batch of the fold, then `finish`.

    `beyond` is told of every matching record from the topic's offset `sink_at` on, which the sink may not have
    written; `worded` of one that differs in its detail's words only. A lane that starts late, as one of a topic
    with finite retention does, tells no difference before its first match, and counts in `not_kept` what was
    missing till then.
    """

    def __init__(
        self,
        kind: Kind,
        reading: Reading,
        partition: int,
        differences: Differences,
        *,
        sink_at: int | None = None,
        beyond: Callable[[Derived], None] = lambda _: None,
        worded: Callable[[Derived, Record], None] = lambda *_: None,
        starts_late: bool = False,
    ) -> None:
        self._kind = kind
        self._reading = reading
        self._partition = partition
        self._differences = differences
        self._sink_at = sink_at
        self._beyond = beyond
        self._worded = worded
        self._starts_late = starts_late
        self._messages: list[Message] = []
        self._records: list[Record] = []
        self._at = 0
        self._held: deque[Found] = deque()
        self.not_kept = 0
        #: Records found so far, whether they match or not.
        self.found = 0

    def compare(self, expected: list[Derived]) -> None:
        """Hold the next records of the topic against what one batch of the fold puts out."""
        if not self._held:
            end = self._at + len(expected)
            while end > len(self._records) and self._read():
                end = self._at + len(expected)
            if self._records[self._at : end] == expected:
                self._advance(expected)
                return
        self._match(expected)

    def finish(self, in_flight: Callable[[Record], bool]) -> int | None:
        """Read to the end: what is left is too much, unless it is in flight.

        Returns the offset of the first record in flight, None where there is none.
        """
        first = None
        while (found := self._next()) is not None:
            if not in_flight(found.record):
                self._tell("extra", found)
            elif first is None:
                first = found.offset
        return first

    def _read(self) -> bool:
        """Add a stretch of the topic to what is in sight; False at its end."""
        messages = self._reading.next(CHUNK)
        if not messages:
            return False
        self._messages = self._messages[self._at :] + messages
        self._records = self._records[self._at :] + records_of(messages)
        self._at = 0
        self.found += len(messages)
        return True

    def _advance(self, expected: list[Derived]) -> None:
        start, self._at = self._at, self._at + len(expected)
        self._starts_late = self._starts_late and not expected
        if expected and self._sink_at is not None:
            last = self._messages[self._at - 1].offset() or 0
            if last >= self._sink_at:
                for index, derived in enumerate(expected, start):
                    if (self._messages[index].offset() or 0) >= self._sink_at:
                        self._beyond(derived)

    def _next(self) -> Found | None:
        if self._held:
            return self._held.popleft()
        if self._at == len(self._records) and not self._read():
            return None
        self._at += 1
        return Found(self._messages[self._at - 1].offset() or 0, self._records[self._at - 1])

    def _match(self, expected: list[Derived]) -> None:
        """Match by identity; in the end what is left of `wanted` is missing or altered."""
        wanted = {self._kind.identity(one): (at, one) for at, one in enumerate(expected)}
        altered: dict[Hashable | None, Found] = {}
        waiting: list[Found] = []
        late, first_at, last_at = self._starts_late, len(expected), -1
        seen_without_match = 0
        while wanted and seen_without_match <= SIGHT and (found := self._next()) is not None:
            key = self._kind.identity(found.record)
            at, one = wanted.get(key, (-1, None))
            if key is None:
                self._tell("extra", found)
            elif one is None:
                waiting.append(found)
                seen_without_match += 1
            elif found.record == one:
                del wanted[key]
                self._matched(found, one)
                # A topic is in the order of its source: what stands before a match cannot match any more.
                for stray in waiting:
                    self._tell("extra", stray)
                waiting.clear()
                if at < last_at:
                    self._tell("out of order", found)
                first_at, last_at = min(at, first_at), max(at, last_at)
                # The right one came after all: the one that looked like it is too much.
                if key in altered:
                    self._tell("extra", altered.pop(key))
            elif key in altered:
                self._tell("extra", found)
            else:
                altered[key] = found
                seen_without_match += 1
        self._held.extendleft(reversed(waiting))
        for key, (at, one) in wanted.items():
            if late and at < first_at and key not in altered:
                self.not_kept += 1
            else:
                self._unmatched(one, altered.get(key))

    def _matched(self, found: Found, one: Derived) -> None:
        self._starts_late = False
        if self._sink_at is not None and found.offset >= self._sink_at:
            self._beyond(one)

    def _unmatched(self, wanted: Derived, found: Found | None) -> None:
        expected = self._kind.fields(wanted)
        if found is not None:
            versions = differing(expected, self._kind.fields(found.record))
            if _same_but_for_people(*versions):
                self._worded(wanted, found.record)
            else:
                self._difference("altered", expected, *versions, offset=found.offset)
        else:
            self._difference("missing", expected, expected, None)

    def _tell(self, what: What, found: Found) -> None:
        fields = self._kind.fields(found.record)
        self._difference(what, fields, None, fields, offset=found.offset)

    def _difference(
        self,
        what: What,
        known: Fields,
        expected: Fields | None,
        found: Fields | None,
        offset: int | None = None,
    ) -> None:
        source = known.get("source_offset", known.get("rejection.offset"))
        self._differences.add(
            Difference(
                self._reading.topic,
                what,
                self._partition,
                offset,
                int(source) if isinstance(source, int | str) and str(source).isdigit() else None,
                *_wallet(known),
                expected,
                found,
            )
        )


def _wallet(fields: Fields) -> tuple[str | None, int | None]:
    wallet_id, sequence = fields.get("wallet_id"), fields.get("sequence")
    return (
        wallet_id if isinstance(wallet_id, str) else None,
        sequence if isinstance(sequence, int) else None,
    )


def _same_but_for_people(expected: Fields, found: Fields) -> bool:
    """Whether only the detail differs, by remarks: about a header name that we cannot see in full, or one that an
    older release did not make.
    """
    if found.keys() != {"rejection.detail"}:
        return False
    return _without_remarks(expected.get("rejection.detail")) == _without_remarks(found["rejection.detail"])


def _without_remarks(detail: object) -> str:
    return str(detail).removesuffix(CUT_NAME).removesuffix(ID_IN_HEADER)
