"""The archive as an audit sees it: the chain of seals, and each sealed month's rows counted and summed up.

Every row is compared with the fold elsewhere; this says whether the seals still tell the same of them.
"""

from collections.abc import Iterator

from operations.verify.report import Difference, Fields
from sinks.archive import months as archive_months
from sinks.archive import seals
from sinks.archive.months import Month
from sinks.postgres import Connection

TABLE = "archive_seals"


def differences(connection: Connection) -> Iterator[Difference]:
    """What is wrong with seals; the server adds each sealed month up once."""
    known = seals.read(connection)
    for broken in seals.broken_links(known):
        yield Difference(TABLE, "altered", detail=f"the seal of {broken.month:%Y-%m} {broken.reason}")
    months = {month.first: month for month in archive_months.with_rows(connection)}
    for seal in known:
        content = seal.content
        month = months.pop(content.month, Month(content.month, archived=True))
        entries, amount = archive_months.counted(connection, month)
        sealed: Fields = {"entries": content.entries, "amount": content.amount}
        found: Fields = {"entries": entries, "amount": amount}
        if sealed != found:
            yield Difference(
                TABLE,
                "altered",
                expected=sealed,
                found=found,
                detail=f"the rows of {month.name} are not as sealed",
            )
    for month in months.values():
        if month.archived:
            yield Difference(TABLE, "missing", detail=f"month {month.name} is in the archive and has no seal")
