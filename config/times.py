"""How times are printed everywhere: in tables, JSON and messages."""

from datetime import UTC, datetime


def rfc3339(at: datetime) -> str:
    """An aware time as RFC 3339 in UTC, with microseconds and Z: 2026-11-22T10:00:00.000000Z."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
