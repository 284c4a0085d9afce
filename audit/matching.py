"""Match expected records, in order, with found ones by identity, looking ahead a bounded distance."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable

from audit.certify import Tell
from topics.source import Source

#: How far to look ahead before a record is reported as missing or extra.
SIGHT = 2_000


class Matching:
    """`identity` is what identifies a record, None if it is not such a record."""

    def __init__(self, identity: Callable[[Source], Hashable | None], tell: Tell) -> None:
        self._identity, self._tell = identity, tell
        self._wanted: dict[Hashable, tuple[int, Source]] = {}
        self._strays: deque[tuple[int, Hashable, Source]] = deque()
        self._ordinal = self._newest = self._matched = 0

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits for its counterpart."""
        return not self._wanted and not self._strays

    @property
    def behind(self) -> int:
        """How many more must come than did."""
        return len(self._wanted) - len(self._strays)

    def match(self, wanted: Iterable[Source], found: Iterable[Source]) -> None:
        """Match what must come next with what comes next."""
        for one in wanted:
            self._ordinal += 1
            self._wanted[self._identity(one)] = self._ordinal, one
        strays, self._strays = self._strays, deque()
        for seen, _, one in strays:
            self._look(one, seen)
        for one in found:
            self._look(one, self._matched)
        self._let_go(SIGHT)

    def finish(self, in_flight: Callable[[Source], bool]) -> int | None:
        """Report what has no counterpart; returns the offset of the first record in flight, or None."""
        kept = [one for _, _, one in self._strays if in_flight(one)]
        self._strays = deque(stray for stray in self._strays if stray[2] not in kept)
        self._let_go(-1)
        return min((one.offset for one in kept), default=None)

    def _look(self, one: Source, seen: int) -> None:
        key = self._identity(one)
        if key is None:
            self._tell("derived", "extra", one)
        elif key in self._wanted:
            ordinal, wanted = self._wanted.pop(key)
            if (one.key, one.value, one.timestamp_ms, [*one.headers]) != (*wanted[2:4], wanted[1], []):
                self._tell("derived", "altered", one, wanted)
            elif ordinal < self._newest:
                self._tell("derived", "out of order", one)
            self._newest = max(self._newest, ordinal)
            self._matched += 1
        else:
            self._strays.append((seen, key, one))

    def _let_go(self, sight: int) -> None:
        while self._strays and self._matched - self._strays[0][0] > sight:
            self._tell("derived", "extra", self._strays.popleft()[2])
        for key, (ordinal, wanted) in [*self._wanted.items()]:
            if sight >= 0 and self._newest - ordinal <= sight:
                break
            del self._wanted[key]
            self._tell("derived", "missing", None, wanted)
