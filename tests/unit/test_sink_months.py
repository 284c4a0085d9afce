"""Which months a day and a plan ahead ask for."""

from datetime import date

from schemas.records import EPOCH
from sinks.postgres.months import coming_months, months_of


def test_days_ask_for_their_months() -> None:
    days = [
        (date(*ymd) - EPOCH.date()).days
        for ymd in [(1969, 12, 31), (1970, 1, 1), (2028, 2, 29), (2028, 2, 1)]
    ]
    assert months_of(days) == {date(1969, 12, 1), date(1970, 1, 1), date(2028, 2, 1)}


def test_the_months_ahead_go_over_the_end_of_a_year() -> None:
    assert coming_months(3, date(2026, 11, 30)) == [
        date(2026, 11, 1),
        date(2026, 12, 1),
        date(2027, 1, 1),
        date(2027, 2, 1),
    ]
