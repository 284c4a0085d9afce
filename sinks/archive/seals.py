"""The seals of archived months: what one covers, how it is computed, and whether a chain of them is whole.

A seal is SHA-256(seal before it, 32 zero bytes for the first ‖ what `covered` returns), so a month cannot be
changed, taken out or put in between without every later seal changing. It depends on the topic alone: a database
that is filled anew gets the same seals. `sealed_at` is not covered.
"""

from collections.abc import Sequence
from datetime import date, datetime
from hashlib import sha256
from typing import NamedTuple

from psycopg.types.json import Jsonb

from sinks.postgres import Connection

NO_SEAL = bytes(32)


class Range(NamedTuple):
    """The offsets of one ledger partition that hold a month: from its first entry to one past its last."""

    partition: int
    from_offset: int
    to_offset: int


class Content(NamedTuple):
    """What a month holds; `amount` is credits less debits, `hash` over the entries' hashes in their order."""

    month: date
    ranges: tuple[Range, ...]
    entries: int
    amount: int
    hash: bytes


class Seal(NamedTuple):
    """A row of `archive_seals`; `previous` is None for the first."""

    content: Content
    previous: bytes | None
    seal: bytes
    sealed_at: datetime


def covered(content: Content) -> bytes:
    """What a seal covers, as lines of ASCII: month, entries, amount, hash in hex, and a line for each range."""
    lines = [
        f"month={content.month:%Y-%m}",
        f"entries={content.entries}",
        f"amount={content.amount}",
        f"hash={content.hash.hex()}",
        *(f"range={partition}:{begin}:{end}" for partition, begin, end in sorted(content.ranges)),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def seal_of(content: Content, previous: bytes | None) -> bytes:
    """The seal of a month after the one before it."""
    return sha256((previous or NO_SEAL) + covered(content)).digest()


def read(connection: Connection) -> list[Seal]:
    """All seals by month, which is the order in which months are sealed."""
    rows = connection.execute(
        "SELECT month, ranges, entries, amount, hash, previous_seal, seal, sealed_at FROM archive_seals ORDER BY 1"
    )
    return [
        Seal(
            Content(
                month,
                tuple(Range(one["partition"], one["from_offset"], one["to_offset"]) for one in ranges),
                entries,
                int(amount),
                content_hash,
            ),
            previous,
            seal,
            sealed_at,
        )
        for month, ranges, entries, amount, content_hash, previous, seal, sealed_at in rows
    ]


def add(connection: Connection, content: Content) -> Seal:
    """Seal a month in the caller's transaction, after the newest seal there is."""
    newest = connection.execute("SELECT seal FROM archive_seals ORDER BY month DESC LIMIT 1").fetchone()
    previous: bytes | None = newest[0] if newest else None
    seal = seal_of(content, previous)
    row = connection.execute(
        """
        INSERT INTO archive_seals (month, ranges, entries, amount, hash, previous_seal, seal)
        VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING sealed_at
        """,
        [
            content.month,
            Jsonb([one._asdict() for one in content.ranges]),
            content.entries,
            content.amount,
            content.hash,
            previous,
            seal,
        ],
    ).fetchone()
    assert row  # noqa: S101 - INSERT ... RETURNING returns its row
    return Seal(content, previous, seal, row[0])


class Broken(NamedTuple):
    """A link of the chain that does not hold, and why."""

    month: date
    reason: str


def broken_links(seals: Sequence[Seal]) -> list[Broken]:
    """What is wrong with the chain of these seals, all there are, by month; nothing connects to Kafka."""
    found = []
    previous: bytes | None = None
    for one in seals:
        month = one.content.month
        if one.previous != previous:
            found.append(
                Broken(month, f"follows the seal {_hex(one.previous)}, the month before has {_hex(previous)}")
            )
        if one.seal != (right := seal_of(one.content, one.previous)):
            found.append(Broken(month, f"has the seal {_hex(one.seal)}, its row gives {_hex(right)}"))
        previous = one.seal
    return found


def _hex(seal: bytes | None) -> str:
    return "none" if seal is None else f"{seal.hex()[:16]}..."
