"""Transaction ids that a partition's wallets have used: written to disk while reading, judged at the end.

No (wallet, id) is posted twice within the window; a DUPLICATE or CONFLICT has an earlier twin, with the same or other
content; a record rejected for a later reason has none. It needs memory for one bucket.
"""

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.columns import Longs, Words

#: What an event says of its id: it was posted, or rejected as DUPLICATE, as CONFLICT, or for a later reason.
#: MISSING has no outcome at all.
ENTRY, DUPLICATE, CONFLICT, LATER, MISSING = range(5)
EVENT = np.dtype(
    [
        ("wallet", "<u4"),
        ("kind", "u1"),
        ("high", "<u8"),
        ("low", "<u8"),
        ("source", "<i8"),
        ("recorded_ms", "<i8"),
        ("sequence", "<i8"),
        ("content", "<u8", (2,)),
    ]
)
BUCKETS, BUCKET_BITS = 256, 8
#: An odd number whose multiples spread well.
SPREAD = np.uint64(0x9E3779B97F4A7C15)
KEY, KEY_BYTES = "key", 24

Events = NDArray[np.void]


class Twin(NamedTuple):
    """An event that contradicts what was posted before under its id: its kind, and the earlier entry, if any."""

    wallet: int
    transaction_id: bytes
    kind: int
    source: int
    #: Of the earlier entry; None where there is none that counts.
    posted_source: int | None
    same_content: bool
    #: Of the event, if it is an entry; and when the earlier one was recorded.
    sequence: int
    posted_ms: int
    #: An entry whose id was posted before, longer ago than the window.
    forgotten: bool


def events(
    wallet: Longs,
    kind: NDArray[np.uint8] | int,
    high: Words,
    low: Words,
    source: Longs,
    recorded_ms: Longs,
    content: NDArray[np.uint64],
    sequence: Longs | int = 0,
) -> Events:
    """Events as they are written."""
    made: Events = np.empty(len(wallet), EVENT)
    made["wallet"], made["kind"], made["high"], made["low"] = wallet, kind, high, low
    made["source"], made["recorded_ms"], made["content"] = source, recorded_ms, content
    made["sequence"] = sequence
    return made


def halves(ids: Sequence[int]) -> tuple[Words, Words]:
    """Ids of 128 bits as the two words that events hold."""
    high = np.array([one >> 64 for one in ids], np.uint64)
    return high, np.array([one & (1 << 64) - 1 for one in ids], np.uint64)


class Identities:
    """The ids of one partition, in their own folder; ids already in it count as seen and judged."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Secret numbers, kept for the next audit, so that nobody can choose ids that all fall into one bucket.
        key = folder / KEY
        if not key.exists():
            key.write_bytes(secrets.token_bytes(KEY_BYTES))
        self._key: Words = np.frombuffer(key.read_bytes(), np.uint64) | np.uint64(1)
        self._files: list[IO[bytes]] = [(folder / f"{at:02x}").open("ab+") for at in range(BUCKETS)]

    def add(self, some: Events) -> None:
        """Write events; between two calls the source's offsets rise."""
        high, low, wallet = self._key
        mixed = some["high"] * high + some["low"] * low + some["wallet"] * wallet
        mixed = (mixed ^ (mixed >> np.uint64(32))) * SPREAD
        bucket = mixed >> np.uint64(64 - BUCKET_BITS)
        order = np.argsort(bucket, kind="stable")
        some, bounds = some[order], np.searchsorted(bucket[order], np.arange(BUCKETS + 1, dtype=np.uint64))
        for at, file in enumerate(self._files):
            if bounds[at] < bounds[at + 1]:
                file.write(some[bounds[at] : bounds[at + 1]].tobytes())

    def judge(self, window_ms: int | None, since: int) -> Iterator[Twin]:
        """Everything that is wrong with events whose source is `since` or later."""
        for file in self._files:
            file.flush()
            file.seek(0)
            yield from judged(np.frombuffer(file.read(), EVENT), window_ms, since)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()


def judged(some: Events, window_ms: int | None, since: int = 0) -> Iterator[Twin]:
    """What is wrong with these events, which are all there are of their ids."""
    some = _with_a_twin(some)
    some = some[np.lexsort((some["source"], some["low"], some["high"], some["wallet"]))]
    begins = np.ones(len(some), np.bool_)
    for name in ("wallet", "high", "low"):
        begins[1:] &= some[name][1:] == some[name][:-1]
    begins[1:] = ~begins[1:]
    places = np.arange(len(some))
    first = np.maximum.accumulate(np.where(begins, places, 0))
    # The newest entry before each event, of the same wallet and id; -1 where there is none.
    entry = np.maximum.accumulate(np.where(some["kind"] == ENTRY, places, -1))
    before = np.concatenate([[-1], entry[:-1]]) if len(some) else entry
    before = np.where(before >= first, before, -1)
    posted = before >= 0
    counts = posted.copy()
    if window_ms is not None:
        # Times do not go back here, so the difference is none below zero; but it may have all of 64 bits.
        counts &= (some["recorded_ms"] - some["recorded_ms"][before]).view(np.uint64) <= np.uint64(window_ms)
    same = (some["content"] == some["content"][before]).all(axis=1)
    kind = some["kind"]
    wrong = (
        ((kind == ENTRY) & posted)
        | ((kind == DUPLICATE) & ~(counts & same))
        | ((kind == CONFLICT) & ~(counts & ~same))
        | ((kind == LATER) & counts)
        | (kind == MISSING)
    ) & (some["source"] >= since)
    for at in np.flatnonzero(wrong).tolist():
        one = some[at]
        yield Twin(
            int(one["wallet"]),
            int(one["high"]).to_bytes(8) + int(one["low"]).to_bytes(8),
            int(one["kind"]),
            int(one["source"]),
            int(some[before[at]]["source"]) if counts[at] else None,
            bool(same[at]),
            int(one["sequence"]),
            int(some[before[at]]["recorded_ms"]),
            bool(posted[at] and not counts[at]),
        )


def _with_a_twin(some: Events) -> Events:
    """Events that may share their id with another one, or say that they do: few, so that few are sorted by all."""
    mixed = (some["high"] ^ (some["low"] * SPREAD)) + some["wallet"] * SPREAD
    order = np.argsort(mixed, kind="stable")
    mixed = mixed[order]
    shared = np.zeros(len(some), np.bool_)
    same = mixed[1:] == mixed[:-1]
    shared[order[1:]] |= same
    shared[order[:-1]] |= same
    says_so = (some["kind"] == DUPLICATE) | (some["kind"] == CONFLICT) | (some["kind"] == MISSING)
    kept: Events = some[shared | says_so]
    return kept
