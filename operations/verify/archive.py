"""The archive as an audit sees it: the chain of seals, and each sealed month beside its seal and the topic.

Every row is compared with the fold elsewhere; this says whether the seals still tell the same of them.
"""

from collections.abc import Iterator

from audit.report import Difference
from config.settings import Settings
from config.topic_log import TopicLog
from config.topics import Topics
from sinks.archive import months as archive_months
from sinks.archive import seals
from sinks.archive.check import NotKept, refuse_other_than_sealed
from sinks.archive.explain import Mismatch
from sinks.archive.months import Month
from sinks.archive.seals import Content
from sinks.archive.topic import topic_log
from sinks.postgres import Connection

TABLE = "archive_seals"


def differences(settings: Settings, connection: Connection, *, topic: bool = True) -> Iterator[Difference]:
    """What is wrong with seals; adds each sealed month up once, in the tables and, unless told not to, in the topic."""
    known = seals.read(connection)
    for fault in seals.faults(known):
        yield _altered(f"the seal of {fault.month:%Y-%m} {fault.reason}")
    months = {month.first: month for month in archive_months.with_rows(connection)}
    ledger = topic_log(settings, Topics.of(settings).ledger) if topic and known else None
    try:
        for seal in known:
            month = months.pop(seal.content.month, Month(seal.content.month, archived=True))
            if reason := _mismatch(connection, ledger, month, seal.content):
                yield _altered(reason)
    finally:
        if ledger:
            ledger.close()
    for month in months.values():
        if month.archived:
            yield Difference(TABLE, "missing", detail=f"month {month.name} is in the archive and has no seal")


def _mismatch(connection: Connection, ledger: TopicLog | None, month: Month, content: Content) -> str | None:
    try:
        refuse_other_than_sealed(connection, ledger, month, content, lambda _: None)
    except NotKept:
        return _mismatch(connection, None, month, content)
    except Mismatch as mismatch:
        return str(mismatch)
    return None


def _altered(detail: str) -> Difference:
    return Difference(TABLE, "altered", detail=detail)
