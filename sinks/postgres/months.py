"""Make the monthly partitions of `transactions`: ahead of need, and for every month that rows belong to.

A month is made in its own transaction by the owner's function `make_month`. That needs a short lock on
`wallets`, for the foreign key; sessions that write meanwhile wait at most `WALLET_LOCK_TIMEOUT_MS` at a
time.
"""

import random
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import count
from threading import Event

import psycopg
from psycopg import sql

from config.asking import ask_again
from config.errors import NotReachable, Stopped
from config.logs import EventLog
from config.settings import Settings
from config.stopping import NEVER
from config.times import month_name
from schemas.records import EPOCH
from sinks.postgres import BUSY, Connection, one_line

log = EventLog("sinks.months")

LONGEST_PAUSE_S = 1.0


def months_of(days: Iterable[int]) -> set[date]:
    """First days of the months that hold these days, which are counted from the epoch."""
    return {(EPOCH + timedelta(days=day)).date().replace(day=1) for day in days}


def coming_months(ahead: int, today: date | None = None) -> list[date]:
    """First days of this month and the `ahead` ones after it, UTC."""
    today = today or datetime.now(UTC).date()
    first = today.year * 12 + today.month - 1
    return [date(month // 12, month % 12 + 1, 1) for month in range(first, first + ahead + 1)]


def make_months_ahead(connection: Connection, settings: Settings) -> bool:
    """Make this month and `WALLET_MONTHS_AHEAD` more; False if another session holds the lock now.

    No row needs them yet, so this does not wait: a VACUUM of `wallets` may take hours.
    """
    for month in coming_months(settings.months_ahead):
        try:
            _try_to_make(connection, month, settings.lock_timeout_ms)
        except BUSY as busy:
            log.warning("month_ahead_not_made", month=month, reason=one_line(busy))
            return False
        except psycopg.errors.ObjectNotInPrerequisiteState:
            continue  # sealed: it needs nothing
    return True


def make_months(
    connection: Connection,
    months: Iterable[date],
    settings: Settings,
    *,
    unless_sealed: bool = False,
    stop: Event = NEVER,
) -> list[date]:
    """Make the partitions of these months; returns those that were missing.

    The connection must not be in a transaction. Raises Stopped if it gets no lock within
    `WALLET_STARTUP_WAIT_S`, or for a sealed month, which `unless_sealed` skips; NotReachable if stopped meanwhile.
    """
    return [month for month in sorted(months) if _make(connection, month, settings, unless_sealed, stop)]


def _make(connection: Connection, month: date, settings: Settings, unless_sealed: bool, stop: Event) -> bool:
    def say(_: psycopg.Error) -> None:
        log.info("month_waits_for_lock", month=month)

    attempt = partial(_try_to_make, connection, month, settings.lock_timeout_ms)
    ended = NotReachable("stopped while another session held a lock on wallets")
    # Random, so that several sinks do not try in step.
    pauses = (random.uniform(0.1, 1.0) * LONGEST_PAUSE_S for _ in count())  # noqa: S311 - guards nothing
    try:
        return ask_again(attempt, BUSY, pauses, settings.startup_wait_s, stop, waiting=say, stopped=ended)
    except BUSY as busy:
        raise Stopped(
            f"no lock on wallets within {settings.startup_wait_s:g} s to make {month_name(month)}: "
            "look for a long transaction in pg_stat_activity"
        ) from busy
    except psycopg.errors.ObjectNotInPrerequisiteState as sealed:
        if unless_sealed:
            return False
        raise Stopped(
            f"rows of {month_name(month)} cannot be written: {sealed.diag.message_primary}"
        ) from sealed


def _try_to_make(connection: Connection, month: date, lock_timeout_ms: int) -> bool:
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(lock_timeout_ms)))
        made = connection.execute("SELECT make_month(%s)", [month]).fetchone() == (True,)
    if made:
        log.info("month_made", month=month)
    return made
