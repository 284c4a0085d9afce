"""How times are printed everywhere: in tables, JSON and messages."""

from datetime import UTC, date, datetime


def rfc3339(at: datetime) -> str:
    """An aware time as RFC 3339 in UTC, with microseconds and Z: 2026-11-22T10:00:00.000000Z."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def month_name(day: date) -> str:
    """The month of a day: 2026-08. (`%Y` drops the zeros of years before 1000.)"""
    return day.isoformat()[:7]
