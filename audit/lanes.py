"""Read one partition of a derived topic in step with the input: records that name a source before an offset."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from audit.columns import sources
from audit.contract import LARGEST, REJECTION_HEADERS
from audit.report import What
from topics.source import Source

#: Records taken from a topic at a time.
CHUNK = 20_000
#: Stands for what names no source.
NONE = -1
OFFSET_DIGITS = 19


class Reads(Protocol):
    """Reads one topic: `start` at a partition's offset, then `next` until it returns nothing."""

    def start(self, partition: int, begin: int, end: int) -> None:
        """Go to a partition, to read it from one offset to before another."""

    def next(self, count: int) -> list[Source]:
        """The next records, up to `count`; empty only at the end."""


class Lane:
    """One partition of `ledger` or `rejections`. `parse` returns the sources of records, NONE for those without one.

    `stray` is called for records in wrong places, with what is wrong and the record.
    """

    def __init__(
        self,
        reads: Reads,
        parse: Callable[[Sequence[Source]], list[int]],
        stray: Callable[[What, Source, int], None],
        input_end: int,
    ) -> None:
        self._reads, self._parse, self._stray = reads, parse, stray
        self._input_end = input_end
        self._records: list[Source] = []
        self._sources: list[int] = []
        self._taken_to = 0
        self._ended = False

    def take(self, before: int) -> tuple[list[Source], list[int]]:
        """Records whose source lies before this offset, by source, each source once; and their sources."""
        while not self._ended and (not self._sources or self._sources[-1] < before):
            self._read()
        at = bisect_left(self._sources, before)
        taken = self._records[:at], self._sources[:at]
        self._records, self._sources = self._records[at:], self._sources[at:]
        self._taken_to = before
        return taken

    def first(self) -> int | None:
        """The source of the first record that is left, None where there is none."""
        while not self._ended and not self._sources:
            self._read()
        return self._sources[0] if self._sources else None

    def rest(self) -> list[tuple[Source, int]]:
        """What is left up to the end."""
        while not self._ended:
            self._read()
        return [*zip(self._records, self._sources, strict=True)]

    def _read(self) -> None:
        records = self._reads.next(CHUNK)
        self._ended = not records
        sources = self._parse(records)
        at = np.array(sources, dtype=np.int64)
        last = self._sources[-1] if self._sources else self._taken_to - 1
        if len(at) and (at[0] <= last or (at[1:] <= at[:-1]).any() or at[-1] >= self._input_end):
            self._put_in_order(records, sources)
        else:
            self._records += records
            self._sources += sources

    def _put_in_order(self, records: list[Source], sources: list[int]) -> None:
        """Take over records of which some are in wrong places; reports each of those once."""
        kept: list[tuple[int, Source]] = [*zip(self._sources, self._records, strict=True)]
        mine: list[tuple[int, Source]] = []
        for source, record in zip(sources, records, strict=True):
            if source == NONE or source >= self._input_end:
                self._stray("extra", record, source)
            else:
                mine.append((source, record))
        in_order = _longest_rising([source for source, _ in (*kept, *mine)])
        seen = {source for at, (source, _) in enumerate((*kept, *mine)) if at in in_order}
        placed: list[tuple[int, Source]] = []
        for at, (source, record) in enumerate((*kept, *mine)):
            if at in in_order:
                placed.append((source, record))
            elif source in seen or source < self._taken_to:
                self._stray("extra", record, source)
            else:
                self._stray("out of order", record, source)
                seen.add(source)
                placed.append((source, record))
        placed.sort(key=lambda one: one[0])
        self._sources = [source for source, _ in placed]
        self._records = [record for _, record in placed]


def _longest_rising(numbers: Sequence[int]) -> set[int]:
    """The places of a longest run of numbers that rise (patience sorting)."""
    tails: list[int] = []
    places: list[int] = []
    before: list[int] = []
    for at, number in enumerate(numbers):
        pile = bisect_left(tails, number)
        before.append(places[pile - 1] if pile else -1)
        if pile == len(tails):
            tails.append(number)
            places.append(at)
        else:
            tails[pile], places[pile] = number, at
    found: set[int] = set()
    at = places[-1] if places else -1
    while at >= 0:
        found.add(at)
        at = before[at]
    return found


def entry_sources(records: Sequence[Source]) -> list[int]:
    """The source offsets that entries name."""
    found: list[int] = sources([record.value or b"" for record in records]).tolist()
    return found


def rejection_sources(records: Sequence[Source]) -> list[int]:
    """The source offsets that rejections name: in the last header of that name, as upstream may send one too."""
    return [_rejected(record) for record in records]


def _rejected(record: Source) -> int:
    for name, value in reversed(record.headers):
        if name == REJECTION_HEADERS[4]:
            text = value or b""
            named = int(text) if text.isdigit() and len(text) <= OFFSET_DIGITS else NONE
            return named if named <= LARGEST else NONE
    return NONE
